"""DeconvNet: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014."""

from dmbp_jax.attribution.guided_backprop import rectified_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.result import Attribution
from dmbp_jax.rules.deconvnet import DeconvNet
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

    So it is at every other piecewise linear activation (leaky ReLU, ReLU6, hard tanh, `abs`): what comes from
    above passes a ReLU, whatever the activation was on the way up. Maxima, pools and smooth activations have
    their gradient. A network that has no piecewise linear activation of a single value is told so, by an
    `ExplanationWarning`: this is its gradient.

    `multiply_by_inputs` gives the product with the image.
    """
    values = rectified_gradient(apply, params, image, target, DeconvNet())
    return attribution(values * image if multiply_by_inputs else values)
