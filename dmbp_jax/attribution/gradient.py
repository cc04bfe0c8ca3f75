"""The gradient, and gradient times input: Simonyan et al., "Deep Inside Convolutional Networks", 2014;
Shrikumar et al., "Not Just a Black Box", 2016. The paper's ND, no disentangling, is gradient times input."""

import jax

from dmbp_jax.attribution.result import attribution
from dmbp_jax.ops import target_score
from dmbp_jax.result import Attribution
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Apply, Image, Key, Params, Rule, Target


def target_gradient(apply: Apply, params: Params, image: Image, target: Target, rule: Rule = PLAIN) -> Image:
    """The gradient of the target's score at one image, backpropagated under `rule`."""
    return jax.grad(lambda x: target_score(apply(params, x[None], rule=rule)[0], target))(image)


def gradient(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """`dy/dx`, the sensitivity of the target's logit to every input value; `key` is not used.

    With its sign: Simonyan et al. and Captum's `Saliency` take magnitudes.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> gradient(linear, {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3)), jnp.asarray(0)).values.shape
    (2, 2, 3)
    """
    return attribution(target_gradient(apply, params, image, target))


def gradient_x_input(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """`dy/dx * x`: DMBP with masks of ones; `key` is not used."""
    return attribution(target_gradient(apply, params, image, target) * image)
