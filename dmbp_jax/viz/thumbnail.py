"""Small pictures for a report's gallery, as PNG files of few colours."""

import io

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from dmbp_jax.viz.heatmap import color_heatmap, from_minimum

SIDE = 112
"""Of a thumbnail's longer side, in pixels."""


def thumbnail_photo(rgb: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A photograph as a small PNG."""
    return _png(rgb, colors=128)


def thumbnail_map(heatmap: Float[np.ndarray, "h w"]) -> bytes:
    """A heat map in blue, white and red as a small PNG; what is not finite is grey.

    A map without negative values is shown from its minimum.

    >>> thumbnail_map(np.zeros((4, 6)))[1:4]
    b'PNG'
    """
    return _png(color_heatmap(from_minimum(heatmap)), colors=32)


def _png(rgb: UInt8[np.ndarray, "h w 3"], *, colors: int) -> bytes:
    image = PIL.Image.fromarray(rgb)
    image.thumbnail((SIDE, SIDE), PIL.Image.Resampling.BOX)
    file = io.BytesIO()
    image.quantize(colors, dither=PIL.Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
