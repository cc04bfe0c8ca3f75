"""DeconvNet: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014."""

from dmbp_jax.attribution.gradient import target_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.result import Attribution
from dmbp_jax.rules.deconvnet import DECONVNET
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def deconvnet(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    multiply_by_inputs: bool = False,
) -> Attribution:
    """The gradient with `dz = max(da, 0)` at every ReLU; `key` is not used.

    `multiply_by_inputs` gives the product with the image.
    """
    values = target_gradient(apply, params, image, target, DECONVNET)
    return attribution(values * image if multiply_by_inputs else values)
