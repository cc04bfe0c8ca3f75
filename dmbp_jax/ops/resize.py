"""Resizing of maps."""

import jax
from jaxtyping import Array, Inexact


def upsample(maps: Inexact[Array, "h w c"], size: tuple[int, int]) -> Inexact[Array, "hh ww c"]:
    """Bilinear interpolation with half-pixel centres, to `size` (rows, columns), `align_corners=False`.

    >>> import jax.numpy as jnp
    >>> upsample(jnp.asarray([[[0.0], [1.0]]]), (1, 4))[0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    return jax.image.resize(maps, (*size, maps.shape[2]), method="bilinear", antialias=False)
