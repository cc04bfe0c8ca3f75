"""How maps are drawn: colours, where they saturate, how opaque they lie over a photograph, smoothing."""

import dataclasses
import math
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.viz.heatmap import CMAP, PERCENTILE


@dataclasses.dataclass(frozen=True)
class Style:
    """How maps are drawn. Nothing of it changes what is saved.

    Raises `InputError` for a value out of range and an unknown colour map.
    """

    percentile: float = PERCENTILE
    """Of the map's magnitudes, above 0 and at most 100: where colours saturate."""
    alpha: float = 1.0
    """How opaque the map is over the photograph where its colours saturate, from 0 to 1."""
    cmap: str = CMAP
    """A colour map of matplotlib with zero in its middle: "RdBu_r", "PuOr_r", "coolwarm"."""
    smooth: float = 0.0
    """The standard deviation in pixels of a Gaussian over maps, for the eye; 0 for none."""

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise InputError(f"percentile must be above 0 and at most 100, got {self.percentile}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha must be between 0 and 1, got {self.alpha}")
        if not (math.isfinite(self.smooth) and self.smooth >= 0):
            raise InputError(f"smooth must be finite and at least 0, got {self.smooth}")
        check_choice("cmap", self.cmap, matplotlib.colormaps)

    def caption(self) -> str:
        """What a figure must say of this style, since the picture alone does not show it."""
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


def smooth_heatmap(heatmap: Float[np.ndarray, "h w"], sigma: float) -> Float[np.ndarray, "h w"]:
    """The map under a Gaussian of `sigma` pixels, for the eye; what is not finite stays alone and as it is.

    The mean of the finite pixels around each, weighted by the Gaussian, nothing beyond the border.

    >>> smooth_heatmap(np.asarray([[1.0, 1.0, np.nan]]), 1.0).tolist()
    [[1.0, 1.0, nan]]
    """
    if sigma == 0:
        return heatmap
    import scipy.ndimage

    finite = np.isfinite(heatmap)

    def blur(array: np.ndarray) -> np.ndarray:
        blurred: np.ndarray = scipy.ndimage.gaussian_filter(array.astype(np.float64), sigma, mode="constant")
        return blurred

    total, weight = blur(np.where(finite, heatmap, 0)), blur(finite)
    return np.where(finite, total / np.where(finite, weight, 1), heatmap).astype(heatmap.dtype)
