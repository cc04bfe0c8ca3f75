"""Heat maps as colours: red speaks for the target, blue against it, white does not matter."""

import matplotlib
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

PERCENTILE = 99.5
CMAP = "seismic"
"""Blue, white and red."""


def symmetric_limit(heatmap: npt.NDArray[np.floating], percentile: float = PERCENTILE) -> float:
    """The magnitude at which colours saturate: a percentile of `|heatmap|`, so that no single pixel rules.

    Above 0, also for a map of zeros and one that is not finite.

    >>> symmetric_limit(np.asarray([[0.0, -2.0]]), 100.0)
    2.0
    """
    magnitudes = np.abs(heatmap[np.isfinite(heatmap)])
    limit = float(np.percentile(magnitudes, percentile)) if magnitudes.size else 0.0
    return limit or float(magnitudes.max(initial=0.0)) or 1.0


def from_minimum(heatmap: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """A map without negative values less its minimum, others as they are: for the eye, not for numbers.

    RISE and FullGrad give even the pixel that matters least a value above zero, and would be red all over.

    >>> from_minimum(np.asarray([[2.0, 5.0]])).tolist(), from_minimum(np.asarray([[-2.0, 5.0]])).tolist()
    ([[0.0, 3.0]], [[-2.0, 5.0]])
    """
    finite = heatmap[np.isfinite(heatmap)]
    return heatmap - finite.min() if finite.size and finite.min() >= 0 else heatmap


def color_heatmap(
    heatmap: Float[np.ndarray, "h w"], limit: float | None = None, *, cmap: str = CMAP
) -> UInt8[np.ndarray, "h w 3"]:
    """The map in blue, white and red on a scale from `-limit` to `limit`; what is not finite is grey.

    `cmap` is another colour map of matplotlib, whose middle is zero.

    >>> color_heatmap(np.asarray([[-1.0, 0.0, 1.0]]), 1.0)[0].tolist()
    [[0, 0, 76], [255, 253, 253], [127, 0, 0]]
    """
    scaled = heatmap / (symmetric_limit(heatmap) if limit is None else limit)
    colors = matplotlib.colormaps[cmap].with_extremes(bad="grey")
    return colors(np.ma.masked_invalid((scaled + 1) / 2), bytes=True)[..., :3]


def blend(
    photo: UInt8[np.ndarray, "h w 3"],
    heatmap: Float[np.ndarray, "h w"],
    limit: float | None = None,
    *,
    cmap: str = CMAP,
    alpha: float = 1.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Colours over the photograph in grey, the larger the magnitude the more opaque, up to `alpha`."""
    limit = symmetric_limit(heatmap) if limit is None else limit
    # The root lets weaker pixels show: on a photograph they have more to stand out from than on white.
    magnitude = np.abs(np.nan_to_num(heatmap, posinf=limit, neginf=limit))
    weight = alpha * np.sqrt(np.clip(magnitude / limit, 0, 1))[..., None]
    grey = np.repeat(photo.mean(axis=-1, keepdims=True), 3, axis=-1) * 0.6 + 255 * 0.4
    return np.round((1 - weight) * grey + weight * color_heatmap(heatmap, limit, cmap=cmap)).astype(np.uint8)
