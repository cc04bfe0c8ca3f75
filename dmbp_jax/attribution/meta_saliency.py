"""Meta-saliency: Rebuffi et al., "There and Back Again: Revisiting Backpropagation Saliency Methods", CVPR
2020, the part on meta-saliency."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError, NonNegative, Number, called, check_range
from dmbp_jax.ops import iterative, log_probabilities, loop_of, target_score
from dmbp_jax.result import Method
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def meta_saliency(method: Method, *, epsilon: NonNegative = 1e-4, sign: int = 1) -> Method:
    """`method` at parameters that have taken one step of gradient descent on the explained image.

    `method(params')` with `params' = params - sign * epsilon * d(loss)/d(params)` and `loss` the
    cross-entropy of the explained class. What helps the network to learn that class weighs more in the map;
    the paper takes the step to make the maps of different classes differ more.

    The step is taken anew for each image. A batch therefore holds one copy of the parameters per image, and
    its convolutions one kernel per image: explain it in small chunks (`batch_size`).

    The cross-entropy is that of a softmax for every network of several logits, as in the authors' code, which
    explains networks trained for VOC so too; of a single logit it is that of a sigmoid, since a softmax's is
    0 and would move nothing.

    Args:
        method: any method of one image.
        epsilon: the size of the step, not below 0. 0 gives `method` itself; the default is that of the
            authors' code (`lr` in TorchRay's `meta_saliency`).
        sign: 1 descends the loss, towards the class, that code's default; -1 ascends it, away from the class
            (`negate_loss` there).

    Returns:
        A method with the signature and the options of `method`, named `meta_` and its name.

    Raises:
        InputError: `epsilon` negative or not finite, `sign` neither 1 nor -1.

    >>> from dmbp_jax.attribution.gradient import gradient
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.zeros((3, 2))}, jnp.ones((1, 1, 3))
    >>> meta_saliency(gradient, epsilon=0.5)(linear, params, image, jnp.asarray(0)).values.tolist()
    [[[0.25, 0.25, 0.25]]]
    """
    check_range("epsilon", epsilon, NonNegative)
    if sign not in (1, -1):
        raise InputError(f"sign must be 1 or -1, got {sign}")

    loop = loop_of(method)

    @functools.wraps(method)
    def after_step(
        apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None, **options: Any
    ) -> Any:
        stepped = descend(apply, params, image, target, step=sign * epsilon)
        return (loop or method)(apply, stepped, image, target, key=key, **options)

    # The registry goes by name, where a copy of the method's own would replace it.
    after_step.__name__ = f"meta_{called(method)}"
    return after_step if loop is None else iterative(after_step)


def descend(apply: Apply, params: Params, image: Image, target: Target, *, step: Number) -> Params:
    """`params - step * d(loss)/d(params)` of the cross-entropy of `target` at one image.

    `loss = -log softmax(logits)[target]`, or `-<weights, log softmax(logits)>` where the target is weights:
    they are the soft label, and need not sum to 1. Of a single logit the sigmoid takes the softmax's place.
    Leaves that are not floating point, such as counters, stay as they are.

    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.zeros((1, 2))}, jnp.ones((1, 1, 1))
    >>> descend(linear, params, image, jnp.asarray(0), step=1.0)["w"].tolist()
    [[0.5, -0.5]]
    """
    leaves, structure = jax.tree.flatten(params)
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]

    def rebuild(moving: list[Array]) -> Params:
        rest = iter(moving)
        filled = [next(rest) if moves else leaf for leaf, moves in zip(leaves, floating, strict=True)]
        return jax.tree.unflatten(structure, filled)

    def loss(moving: list[Array]) -> Float[Array, ""]:
        return -target_score(log_probabilities(apply(rebuild(moving), image[None])[0]), target)

    moving = [jnp.asarray(leaf) for leaf, moves in zip(leaves, floating, strict=True) if moves]
    return rebuild([leaf - step * slope for leaf, slope in zip(moving, jax.grad(loss)(moving), strict=True)])
