"""Guided backpropagation: Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015."""

from dmbp_jax.attribution.gradient import target_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.result import Attribution
from dmbp_jax.rules.guided import GUIDED
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def guided_backprop(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    multiply_by_inputs: bool = False,
) -> Attribution:
    """The gradient with `dz = 1[z > 0] max(da, 0)` at every ReLU; `key` is not used.

    `multiply_by_inputs` gives the product with the image, which the DMBP paper evaluates.
    """
    values = target_gradient(apply, params, image, target, GUIDED)
    return attribution(values * image if multiply_by_inputs else values)
