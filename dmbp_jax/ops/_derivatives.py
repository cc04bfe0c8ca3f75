"""Functions with a derivative of their own, and the score of a target."""

import functools
from typing import TypeVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.typing import OutputActivation, Target

# Functions whose derivatives are finite and right where an explanation is itself differentiated.

Tree = TypeVar("Tree")


def square_root(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`sqrt(x)`, with the derivative 0 at 0, where the root's own is infinite.

    What is exactly zero behind a closed gate stays zero near the image, and so does its root; an infinite
    derivative times that zero would be NaN.

    >>> square_root(jnp.asarray([0.0, 4.0])).tolist(), jax.grad(square_root)(0.0).item()
    ([0.0, 2.0], 0.0)
    """
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest(x: Inexact[Array, "..."], axis: int | None = None) -> Inexact[Array, "..."]:
    """`x.max(axis)`, whose derivative is that of the first largest element.

    JAX's own looks for the elements that equal the maximum. In a compiled program, which may compute them
    anew with other roundings, there can be none, and the derivative is 0 / 0.

    >>> jax.grad(largest)(jnp.asarray([3.0, 5.0, 5.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    return x.max(axis)


@largest.defjvp
def _largest_jvp(axis: int | None, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    if axis is None:
        return x.max(), tangent.ravel()[x.argmax()]
    at = x.argmax(axis, keepdims=True)
    return x.max(axis), jnp.take_along_axis(tangent, at, axis).squeeze(axis)


@jax.custom_vjp
def held(tree: Tree) -> Tree:
    """`tree`, constant in the gradient that is taken around it, and in no other.

    `jax.lax.stop_gradient` is constant in all: in the gradient that a method takes to find a map, and in
    the user's gradient of that map, in which nothing is.

    >>> slope = jax.grad(lambda x: held(x) * x)
    >>> slope(3.0).item(), jax.grad(slope)(3.0).item()
    (3.0, 1.0)
    """
    return tree


held.defvjp(lambda tree: (tree, None), lambda *_: (None,))


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
    """What a softmax or a sigmoid makes of logits.

    `output` None means a softmax of several logits, and of a single one a sigmoid, as the one logit of a
    network for two classes means it. Raises `InputError` for a softmax of one logit, which is 1 for all of
    them.

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
            "the softmax of one logit is 1 whatever the network says: take 'sigmoid', the default there"
        )
    return output == "softmax" or (output is None and logits.shape[-1] > 1)
