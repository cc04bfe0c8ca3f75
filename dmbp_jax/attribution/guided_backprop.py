"""Guided backpropagation: Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015."""

import warnings

from dmbp_jax.attribution.gradient import target_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import ExplanationWarning
from dmbp_jax.result import Attribution
from dmbp_jax.rules.deconvnet import DeconvNet
from dmbp_jax.rules.guided import Guided
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def rectified_gradient(
    apply: Apply, params: Params, image: Image, target: Target, rule: Guided | DeconvNet
) -> Image:
    """The gradient under a rule that treats ReLUs otherwise; an `ExplanationWarning` if there are none."""
    values = target_gradient(apply, params, image, target, rule)
    if not rule.sites:
        warnings.warn(
            "the network has no ReLU or other piecewise linear activation: guided backpropagation and "
            "DeconvNet are exactly its gradient",
            ExplanationWarning,
            stacklevel=2,
        )
    return values


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

    At every other piecewise linear activation (leaky ReLU, ReLU6, hard tanh, `abs`) `dz = f'(z) max(da, 0)`.
    Maxima, pools and smooth activations have their gradient. A network that has no piecewise linear
    activation of a single value is told so, by an `ExplanationWarning`: this is its gradient.

    `multiply_by_inputs` gives the product with the image, which the DMBP paper evaluates.
    """
    values = rectified_gradient(apply, params, image, target, Guided())
    return attribution(values * image if multiply_by_inputs else values)
