"""Scaling of maps."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact


def min_max(maps: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`(x - min) / (max - min)`; a constant map becomes zeros.

    >>> min_max(jnp.asarray([1.0, 2.0, 5.0])).tolist(), min_max(jnp.ones(2)).tolist()
    ([0.0, 0.25, 1.0], [0.0, 0.0])
    """
    low, span = maps.min(), maps.max() - maps.min()
    return jnp.where(span > 0, (maps - low) / jnp.where(span > 0, span, 1), 0)
