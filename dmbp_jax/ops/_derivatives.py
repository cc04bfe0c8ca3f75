"""Functions with custom derivatives, and the score of a target."""

import functools
from typing import TypeVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.typing import OutputActivation, Target

# Functions whose derivatives are finite and correct when an explanation is differentiated.

Tree = TypeVar("Tree")


def square_root(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`sqrt(x)`, with the derivative 0 at 0 instead of infinity.

    A value that a closed gate sets to zero is zero for all images nearby, and so is its root; an infinite
    derivative times zero would be NaN.

    >>> square_root(jnp.asarray([0.0, 4.0])).tolist(), jax.grad(square_root)(0.0).item()
    ([0.0, 2.0], 0.0)
    """
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def first_max(x: Inexact[Array, "..."], axis: int | None = None) -> Inexact[Array, "..."]:
    """`x.max(axis)`, whose derivative is that of the first largest element.

    JAX's derivative compares all elements with the maximum. A compiled program may compute them again with
    other roundings, so that none is equal, and the derivative is 0 / 0.

    >>> jax.grad(first_max)(jnp.asarray([3.0, 5.0, 5.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    return x.max(axis)


@first_max.defjvp
def _first_max_jvp(axis: int | None, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    if axis is None:
        return x.max(), tangent.ravel()[x.argmax()]
    at = x.argmax(axis, keepdims=True)
    return x.max(axis), jnp.take_along_axis(tangent, at, axis).squeeze(axis)


@jax.custom_vjp
def stop_first_gradient(tree: Tree) -> Tree:
    """`tree`, constant in the first gradient taken around it, but not in gradients of that gradient.

    A method's own gradient, from which a map is computed, treats it as constant; a user's gradient of that
    map does not. `jax.lax.stop_gradient` would be constant in both.

    >>> slope = jax.grad(lambda x: stop_first_gradient(x) * x)
    >>> slope(3.0).item(), jax.grad(slope)(3.0).item()
    (3.0, 1.0)
    """
    return tree


stop_first_gradient.defvjp(lambda tree: (tree, None), lambda *_: (None,))


# What is explained: one class, or any weighted sum of classes, such as "tabby minus tiger cat".


def target_score(logits: Float[Array, "k"], target: Target) -> Float[Array, ""]:
    """The explained number: `logits[target]`, or `<weights, logits>`.

    An index out of range gives NaN, which the result's `finite` flag reports.

    >>> target_score(jnp.asarray([1.0, 5.0]), jnp.asarray(1)).item()
    5.0
    >>> target_score(jnp.asarray([1.0, 5.0]), jnp.asarray([-1.0, 1.0])).item()
    4.0
    """
    if target.ndim == 0:
        in_range = (target >= 0) & (target < logits.shape[0])
        return jnp.where(in_range, logits[target], jnp.nan)
    return jnp.vdot(target.astype(logits.dtype), logits)


def probabilities(
    logits: Float[Array, "*n k"], output: OutputActivation | None = None
) -> Float[Array, "*n k"]:
    """The softmax or the sigmoid of logits.

    `output` None means a softmax of several logits and a sigmoid of a single one, the logit of a network for
    two classes. Raises `InputError` for a softmax of one logit, which is always 1.

    >>> probabilities(jnp.asarray([[0.0]])).tolist(), probabilities(jnp.asarray([[0.0, 0.0]])).tolist()
    ([[0.5]], [[0.5, 0.5]])
    """
    return jax.nn.softmax(logits) if _is_softmax(logits, output) else jax.nn.sigmoid(logits)


def log_probabilities(
    logits: Float[Array, "*n k"], output: OutputActivation | None = None
) -> Float[Array, "*n k"]:
    """The logarithms of `probabilities`, exact where these are nearly 0.

    >>> log_probabilities(jnp.asarray([-200.0])).tolist()
    [-200.0]
    """
    return jax.nn.log_softmax(logits) if _is_softmax(logits, output) else jax.nn.log_sigmoid(logits)


def check_output(output: str | None) -> None:
    """Raise `InputError` unless `output` is `"softmax"`, `"sigmoid"` or None.

    >>> check_output("softmx")
    Traceback (most recent call last):
    dmbp_jax.InputError: unknown output 'softmx': did you mean 'softmax'? Known: sigmoid, softmax
    """
    if output is not None:
        check_choice("output", output, get_args(OutputActivation))


def _is_softmax(logits: Array, output: OutputActivation | None) -> bool:
    check_output(output)
    if output == "softmax" and logits.shape[-1] == 1:
        raise InputError(
            "the softmax of one logit is always 1: take 'sigmoid', the default for a single logit"
        )
    return output == "softmax" or (output is None and logits.shape[-1] > 1)
