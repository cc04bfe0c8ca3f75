"""Heat maps as a run keeps them: half precision, compressed."""

import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dmbp_jax.checks import InputError, shorten

MAX_BYTES = 2**28
"""Of a map, unpacked: one of 134 million pixels."""


class KeptMap(NamedTuple):
    """The heat map of one target of one image by one method."""

    image: str
    target: int
    method: str
    seconds: float | None
    """That explaining took."""
    height: int
    width: int
    scale: float
    """The map's greatest magnitude, by which `values` are divided: half precision ends at 65504 and at
    6e-8."""
    values: bytes
    """Float16, compressed by zlib; what was not finite is NaN."""

    def heatmap(self) -> Float[np.ndarray, "h w"]:
        """The map, float32: to 11 bits of each value, and to 6e-8 of the greatest.

        Raises `InputError` for one that was damaged in its file.
        """
        height, width = max(self.height, 0), max(self.width, 0)
        wanted = 2 * height * width
        unpack = zlib.decompressobj()
        try:
            # No more than is wanted: a few bytes may unpack to any number of them.
            content = unpack.decompress(self.values, max(min(wanted, MAX_BYTES), 1))
        except zlib.error:
            content = b""
        if len(content) != wanted or not unpack.eof:
            raise InputError(
                f"the kept map of {shorten(self.image)} by {shorten(self.method)} is damaged: take another "
                "folder"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.frombuffer(content, np.float16).reshape(height, width)
            return values.astype(np.float32) * np.float32(self.scale)


def keep_map(
    image: str, target: int, method: str, seconds: float | None, heatmap: Float[np.ndarray, "h w"]
) -> KeptMap:
    """A heat map to be kept.

    >>> kept = keep_map("a.jpg", 3, "dmbp", 0.1, np.asarray([[1e-9, -2e9], [3e9, 0.0]], np.float32))
    >>> [float(f"{value:.3g}") for value in kept.heatmap().ravel()]
    [0.0, -2000000000.0, 3000000000.0, 0.0]
    """
    finite = np.where(np.isfinite(heatmap), heatmap, np.float32(np.nan))
    scale = float(np.nanmax(np.abs(finite))) if not np.isnan(finite).all() else 0.0
    values = (finite / np.float32(scale or 1.0)).astype(np.float16)
    height, width = heatmap.shape
    packed = zlib.compress(values.tobytes(), level=6)
    return KeptMap(image, target, method, seconds, height, width, scale, packed)
