"""Constants of an image's shape, and such as count as part of its own computation."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact

from dmbp_jax.checks import InputError, Number
from dmbp_jax.typing import Numbers


def full_along(
    image: Inexact[Array, "..."], shape: tuple[int, ...], value: Number | int, dtype: DTypeLike
) -> Float[Array, "..."]:
    """`jnp.full(shape, value, dtype)`, one for each device over which `image` is divided.

    Inside `shard_map` a plain constant is one for all devices, and JAX adds its gradient up over them: over
    images that have nothing to do with each other.

    >>> full_along(jnp.ones((2, 2, 3)), (3,), 0.5, jnp.float32).tolist()
    [0.5, 0.5, 0.5]
    """
    constant = jnp.asarray(value, dtype)
    # Never taken, and folded away by the compiler.
    one = jnp.where(jnp.asarray(False), image.ravel()[0].astype(dtype), constant)
    return jnp.broadcast_to(one, shape)


def filled(image: Inexact[Array, "..."], value: Numbers, what: str) -> Inexact[Array, "..."]:
    """An array of the image's shape: one that is given, or a number everywhere.

    Raises `InputError` for an array of another shape, calling it `what`.

    >>> filled(jnp.ones((1, 2, 1)), 3, "baseline").ravel().tolist()
    [3.0, 3.0]
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        array = array.astype(image.dtype)
    if array.ndim == 0:
        return jnp.broadcast_to(array.astype(image.dtype), image.shape)
    if array.shape != image.shape:
        raise InputError(
            f"the {what} must have the image's shape {image.shape}, got {array.shape}; one number will do"
        )
    return array
