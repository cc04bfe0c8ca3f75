"""Derivatives as they are needed where an explanation is itself differentiated."""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

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
