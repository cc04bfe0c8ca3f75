"""Constants that count as part of an image's own computation."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact


def full_along(
    image: Inexact[Array, "..."], shape: tuple[int, ...], value: float | int, dtype: DTypeLike
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
