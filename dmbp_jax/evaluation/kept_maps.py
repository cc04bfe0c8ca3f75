"""Heat maps as a run keeps them: half precision, compressed."""

import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


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
        """The map, float32: to 11 bits of each value, and to 6e-8 of the greatest."""
        values = np.frombuffer(zlib.decompress(self.values), np.float16).reshape(self.height, self.width)
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
