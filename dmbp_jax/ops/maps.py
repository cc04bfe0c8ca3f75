"""Scaling and resizing of maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.ops.derivatives import largest


def upsample(maps: Inexact[Array, "h w c"], size: tuple[int, int]) -> Inexact[Array, "hh ww c"]:
    """Bilinear interpolation with half-pixel centres, to `size` (rows, columns), `align_corners=False`.

    >>> import jax.numpy as jnp
    >>> upsample(jnp.asarray([[[0.0], [1.0]]]), (1, 4))[0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    return jax.image.resize(maps, (*size, maps.shape[2]), method="bilinear", antialias=False)


def min_max(maps: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`(x - min) / (max - min)`; a constant map becomes zeros.

    >>> min_max(jnp.asarray([1.0, 2.0, 5.0])).tolist(), min_max(jnp.ones(2)).tolist()
    ([0.0, 0.25, 1.0], [0.0, 0.0])
    """
    low, high = -largest(-maps), largest(maps)
    span = high - low
    return jnp.where(span > 0, (maps - low) / jnp.where(span > 0, span, 1), 0)
