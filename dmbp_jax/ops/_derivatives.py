"""Functions with custom derivatives, and the score of a target."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
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


# Linear functions whose transpose is written down, too: `jax.custom_vjp` would do, but for forward mode.

_transposable_p = Primitive("transposable")


def transposable(
    function: Callable[..., Array], transpose: Callable[..., Array], x: Array | float, *residuals: Any
) -> Array:
    """`function(x, *residuals)`, linear in `x`; on the way back it is `transpose(cotangent, *residuals)`.

    Has derivatives of any order, forward and backward, also with respect to the residuals. Both functions are
    pure and hold no traced arrays.

    >>> times = lambda x, f: transposable(lambda x, f: f * x, lambda cotangent, f: f * cotangent, x, f)
    >>> jax.jvp(times, (2.0, 3.0), (1.0, 1.0))[1].item(), jax.grad(times, argnums=1)(2.0, 3.0).item()
    (5.0, 2.0)
    """
    leaves, structure = jax.tree.flatten(residuals)

    def flat(of: Callable[..., Array]) -> Callable[..., Array]:
        return lambda x, *leaves: of(x, *jax.tree.unflatten(structure, leaves))

    return _bind(flat(function), flat(transpose), jnp.asarray(x), leaves)


def _bind(
    function: Callable[..., Array], transpose: Callable[..., Array], x: Any, leaves: Sequence[Any]
) -> Array:
    program = jax.make_jaxpr(function)(x, *leaves)
    result: Array = _transposable_p.bind(x, *leaves, program=program, transpose=transpose)
    return result


def _function(program: Any) -> Callable[..., Array]:
    return lambda *args: jaxpr_as_fun(program)(*args)[0]


def _compute(*args: Any, program: Any, transpose: Callable[..., Array]) -> Array:
    del transpose
    return _function(program)(*args)


def _transposable_jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Any,
    transpose: Callable[..., Array],
) -> tuple[Array, Any]:
    (x, *leaves), (dx, *moved) = primals, tangents
    result = _transposable_p.bind(x, *leaves, program=program, transpose=transpose)
    terms = []
    if not isinstance(dx, ad.Zero):
        terms.append(_transposable_p.bind(dx, *leaves, program=program, transpose=transpose))
    moving = [i for i, tangent in enumerate(moved) if not isinstance(tangent, ad.Zero)]
    if moving:

        def of_residuals(*some: Array) -> Array:
            given = dict(zip(moving, some, strict=True))
            return _function(program)(x, *(given.get(i, leaf) for i, leaf in enumerate(leaves)))

        _, term = jax.jvp(of_residuals, [leaves[i] for i in moving], [moved[i] for i in moving])
        terms.append(term)
    return result, functools.reduce(jnp.add, terms)


def _transposable_transpose(
    cotangent: Any, x: Any, *leaves: Any, program: Any, transpose: Callable[..., Array]
) -> list[Any]:
    to_x: Any = ad.Zero(x.aval)
    if not isinstance(cotangent, ad.Zero):
        to_x = _bind(transpose, _function(program), cotangent, leaves)
    return [to_x] + [None] * len(leaves)


def _transposable_batch(
    args: Sequence[Any],
    axes: Sequence[int | None],
    *,
    program: Any,
    transpose: Callable[..., Array],
) -> tuple[Array, int]:
    count = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    x, *leaves = args
    # A transpose gives one cotangent for each: what is shared is repeated, and added up outside.
    at = axes[0]
    x = jnp.broadcast_to(x, (count, *x.shape)) if at is None else jnp.moveaxis(x, at, 0)
    function, transpose = (jax.vmap(of, in_axes=(0, *axes[1:])) for of in (_function(program), transpose))
    return _bind(function, transpose, x, leaves), 0


def _transposable_shape(*avals: Any, program: Any, transpose: Callable[..., Array]) -> Any:
    del avals, transpose
    return program.out_avals[0]


_transposable_p.def_impl(_compute)
_transposable_p.def_abstract_eval(_transposable_shape)
ad.primitive_jvps[_transposable_p] = _transposable_jvp
ad.primitive_transposes[_transposable_p] = _transposable_transpose
batching.primitive_batchers[_transposable_p] = _transposable_batch
mlir.register_lowering(_transposable_p, mlir.lower_fun(_compute, multiple_results=False))


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
