"""A heat map of the network's size, put back into the photograph that it explains."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.typing import Numbers


def to_photograph(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    region: Sequence[float | int],
    size: tuple[int, int],
) -> Float[np.ndarray, "hh ww"]:
    """The heat map at every pixel of the photograph, by bilinear interpolation; -inf where it saw nothing.

    Pixel `(i, j)` of the photograph has its centre at `x = j + 0.5`, `y = i + 0.5`, and takes the heat map's
    value at `((y - top) / (bottom - top) * h - 0.5, (x - left) / (right - left) * w - 0.5)`. Beyond the
    outermost centres of the heat map its border values go on. -inf is never a maximum, so that a pixel which
    the network has not seen is not pointed at.

    Args:
        heatmap: `(h, w)`, at the size of the network's input.
        region: `(left, top, right, bottom)`: what the network's input covers, in pixels of the photograph. It
            may be a part of the photograph, such as its centre crop, or reach beyond it.
        size: of the photograph, `(rows, columns)`.

    Returns:
        An array of `size`, float64.

    Raises:
        InputError: `region` is empty or not four finite numbers, `size` is not positive.

    >>> to_photograph(np.asarray([[1.0, 3.0]]), (1, 0, 5, 1), (1, 6)).tolist()
    [[-inf, 1.0, 1.5, 2.5, 3.0, -inf]]
    """
    if len(region) != 4 or not np.isfinite(region).all():
        raise InputError(f"region must be four finite numbers (left, top, right, bottom), got {region}")
    left, top, right, bottom = region
    heatmap = np.asarray(heatmap, np.float64)
    if left >= right or top >= bottom:
        raise InputError(f"region (left, top, right, bottom) is empty: {tuple(region)}")
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size must be positive rows and columns, got {size}")
    rows, in_rows = _places(size[0], top, bottom, heatmap.shape[0])
    columns, in_columns = _places(size[1], left, right, heatmap.shape[1])
    by_rows = _between(heatmap, rows)
    values = _between(by_rows.T, columns).T
    return np.where(in_rows[:, None] & in_columns[None, :], values, -np.inf)


def _places(length: int, low: float | int, high: float | int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: each pixel's place in the heat map, and whether the region covers its centre."""
    centres = np.arange(length) + 0.5
    places = (centres - low) / (high - low) * cells - 0.5
    return np.clip(places, 0, cells - 1), (low <= centres) & (centres <= high)


def _between(values: Float[np.ndarray, "cells across"], places: np.ndarray) -> Float[np.ndarray, "n across"]:
    """Linear interpolation along the first axis that keeps equal values equal, to the last bit.

    Of a plateau, rounding would make the highest pixel an accident.
    """
    first = np.floor(places).astype(int)
    low, high = values[first], values[np.minimum(first + 1, len(values) - 1)]
    weight = (places - first)[:, None]
    with np.errstate(invalid="ignore"):
        found = (1 - weight) * low + weight * high
    return np.clip(found, np.minimum(low, high), np.maximum(low, high))
