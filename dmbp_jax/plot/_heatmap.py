"""Maps as colours."""

import dataclasses
import io
from typing import Any, TypeAlias

import matplotlib
import numpy as np
import PIL.Image
from jaxtyping import Array, Float, UInt8

from dmbp_jax._checks import check_choice
from dmbp_jax._ranges import NonNegative, Opacity, Percentile, check_range

Heatmap: TypeAlias = Float[np.ndarray | Array, "h w"]
Photo: TypeAlias = UInt8[np.ndarray | Array, "h w 3"]

# Heat maps as colours: red is evidence for the target, blue against it, white neither.

PERCENTILE = 99.5
CMAP = "seismic"
"""Blue, white and red."""


def symmetric_limit(heatmap: Heatmap, percentile: float = PERCENTILE) -> float:
    """The magnitude at which colours saturate: a percentile of `|heatmap|`, so that single outliers do not
    decide.

    Above 0, also for a map of zeros and one that is not finite.

    >>> symmetric_limit(np.asarray([[0.0, -2.0]]), 100.0)
    2.0
    """
    heatmap = np.asarray(heatmap)
    magnitudes = np.abs(heatmap[np.isfinite(heatmap)])
    limit = float(np.percentile(magnitudes, percentile)) if magnitudes.size else 0.0
    return limit or float(magnitudes.max(initial=0.0)) or 1.0


def from_minimum(heatmap: Heatmap) -> Float[np.ndarray, "h w"]:
    """A map without negative values minus its minimum, others unchanged; for display only.

    RISE and FullGrad give every pixel a value above zero, and would be red throughout.

    >>> from_minimum(np.asarray([[2.0, 5.0]])).tolist(), from_minimum(np.asarray([[-2.0, 5.0]])).tolist()
    ([[0.0, 3.0]], [[-2.0, 5.0]])
    """
    heatmap = np.asarray(heatmap)
    finite = heatmap[np.isfinite(heatmap)]
    return heatmap - finite.min() if finite.size and finite.min() >= 0 else heatmap


def color_heatmap(
    heatmap: Heatmap, limit: float | None = None, *, cmap: str = CMAP
) -> UInt8[np.ndarray, "h w 3"]:
    """The map in blue, white and red on a scale from `-limit` to `limit`; what is not finite is grey.

    `cmap` is another colour map of matplotlib, whose middle is zero.

    >>> color_heatmap(np.asarray([[-1.0, 0.0, 1.0]]), 1.0)[0].tolist()
    [[0, 0, 76], [255, 253, 253], [127, 0, 0]]
    """
    heatmap = np.asarray(heatmap)
    scaled = heatmap / (symmetric_limit(heatmap) if limit is None else limit)
    colors = matplotlib.colormaps[cmap].with_extremes(bad="grey")
    return colors(np.ma.masked_invalid((scaled + 1) / 2), bytes=True)[..., :3]


def blend(
    photo: Photo,
    heatmap: Heatmap,
    limit: float | None = None,
    *,
    cmap: str = CMAP,
    alpha: float = 1.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Colours over the photograph in grey, the larger the magnitude the more opaque, up to `alpha`."""
    photo, heatmap = np.asarray(photo), np.asarray(heatmap)
    limit = symmetric_limit(heatmap) if limit is None else limit
    # The square root makes weak pixels visible on a photograph.
    magnitude = np.abs(np.nan_to_num(heatmap, posinf=limit, neginf=limit))
    weight = alpha * np.sqrt(np.clip(magnitude / limit, 0, 1))[..., None]
    grey = np.repeat(photo.mean(axis=-1, keepdims=True), 3, axis=-1) * 0.6 + 255 * 0.4
    return np.round((1 - weight) * grey + weight * color_heatmap(heatmap, limit, cmap=cmap)).astype(np.uint8)


# How maps are drawn: colours, where they saturate, how opaque they lie over a photograph, smoothing.


@dataclasses.dataclass(frozen=True)
class Style:
    """How maps are drawn. It does not change what is saved.

    Raises `InputError` for a value out of range and an unknown colour map.
    """

    percentile: float = PERCENTILE
    """Of the map's magnitudes, above 0 and at most 100: where colours saturate."""
    alpha: float = 1.0
    """How opaque the map is over the photograph where its colours saturate, from 0 to 1."""
    cmap: str = CMAP
    """A colour map of matplotlib with zero in its middle: "RdBu_r", "PuOr_r", "coolwarm"."""
    smooth: float = 0.0
    """The standard deviation in pixels of the Gaussian that smooths displayed maps; 0 for none."""

    def __post_init__(self) -> None:
        for name, allowed in (("percentile", Percentile), ("alpha", Opacity), ("smooth", NonNegative)):
            check_range(name, getattr(self, name), allowed)
        check_choice("cmap", self.cmap, matplotlib.colormaps)

    def caption(self) -> str:
        """The part of a figure's caption that states how the map was smoothed."""
        if not self.smooth:
            return ""
        return (
            f"Smoothed for display, by a Gaussian of {self.smooth:g} pixel{'' if self.smooth == 1 else 's'}."
        )


DEFAULT_STYLE = Style()


def make_style(**options: Any) -> Style:
    """A `Style` of its fields by name; `InputError` for one that it does not have.

    >>> make_style(smooth=2.0).caption()
    'Smoothed for display, by a Gaussian of 2 pixels.'
    """
    for name in options:
        check_choice("option of a figure", name, [field.name for field in dataclasses.fields(Style)])
    return Style(**options)


def smooth_heatmap(heatmap: Heatmap, sigma: float) -> Float[np.ndarray, "h w"]:
    """The map smoothed by a Gaussian of `sigma` pixels, for display; pixels that are not finite are left out
    and unchanged.

    Each pixel is the mean of the finite pixels around it, weighted by the Gaussian; there is no padding.

    >>> smooth_heatmap(np.asarray([[1.0, 1.0, np.nan]]), 1.0).tolist()
    [[1.0, 1.0, nan]]
    """
    heatmap = np.asarray(heatmap)
    if sigma == 0:
        return heatmap
    import scipy.ndimage

    finite = np.isfinite(heatmap)

    def blur(array: np.ndarray) -> np.ndarray:
        blurred: np.ndarray = scipy.ndimage.gaussian_filter(array.astype(np.float64), sigma, mode="constant")
        return blurred

    total, weight = blur(np.where(finite, heatmap, 0)), blur(finite)
    return np.where(finite, total / np.where(finite, weight, 1), heatmap).astype(heatmap.dtype)


# Small pictures for a report's gallery, as PNG files of few colours.

SIDE = 112
"""Of a thumbnail's longer side, in pixels."""


def thumbnail_photo(rgb: Photo) -> bytes:
    """A photograph as a small PNG."""
    return _png(rgb, colors=128)


def thumbnail_map(heatmap: Heatmap) -> bytes:
    """A heat map in blue, white and red as a small PNG; what is not finite is grey.

    A map without negative values is shown from its minimum.

    >>> thumbnail_map(np.zeros((4, 6)))[1:4]
    b'PNG'
    """
    return _png(color_heatmap(from_minimum(heatmap)), colors=32)


def _png(rgb: Photo, *, colors: int) -> bytes:
    image = PIL.Image.fromarray(np.asarray(rgb))
    image.thumbnail((SIDE, SIDE), PIL.Image.Resampling.BOX)
    file = io.BytesIO()
    image.quantize(colors, dither=PIL.Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
