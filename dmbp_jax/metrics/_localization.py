"""Localisation: the pointing games, contrast localisation, relevance mass and rank accuracy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax._checks import InputError
from dmbp_jax._ranges import NonNegative, check_range, check_whole
from dmbp_jax.metrics._curves import pixel_order, tie_ranks
from dmbp_jax.metrics._variants import as_map, as_order
from dmbp_jax.typing import Numbers

# A heat map at the size of the photograph that it explains.


def to_photograph(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    region: Sequence[float | int],
    size: tuple[int, int],
) -> Float[np.ndarray, "hh ww"]:
    """The heat map at every pixel of the photograph, by bilinear interpolation; -inf outside the input's
    region.

    Pixel `(i, j)` of the photograph has its centre at `x = j + 0.5`, `y = i + 0.5`, and takes the heat map's
    value at `((y - top) / (bottom - top) * h - 0.5, (x - left) / (right - left) * w - 0.5)`. Beyond the
    outermost centres of the heat map its border values are repeated. -inf is never a maximum, so that a pixel
    outside the network's input is never the maximum.

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
    if len(size) != 2:
        raise InputError(f"size must be rows and columns, got {size}")
    for length in size:
        check_whole("each of size (rows, columns)", length, least=1)
    rows, in_rows = _places(size[0], top, bottom, heatmap.shape[0])
    columns, in_columns = _places(size[1], left, right, heatmap.shape[1])
    by_rows = _between(heatmap, rows)
    values = _between(by_rows.T, columns).T
    return np.where(in_rows[:, None] & in_columns[None, :], values, -np.inf)


def _places(length: int, low: float | int, high: float | int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: each pixel's coordinate in the heat map, and whether the region covers its centre."""
    centres = np.arange(length) + 0.5
    places = (centres - low) / (high - low) * cells - 0.5
    return np.clip(places, 0, cells - 1), (low <= centres) & (centres <= high)


def _between(values: Float[np.ndarray, "cells across"], places: np.ndarray) -> Float[np.ndarray, "n across"]:
    """Linear interpolation along the first axis that keeps equal values bitwise equal.

    Otherwise rounding would decide which pixel of a plateau is the maximum.
    """
    first = np.floor(places).astype(int)
    low, high = values[first], values[np.minimum(first + 1, len(values) - 1)]
    weight = (places - first)[:, None]
    with np.errstate(invalid="ignore"):
        found = (1 - weight) * low + weight * high
    return np.clip(found, np.minimum(low, high), np.maximum(low, high))


# Masks of objects, for metrics that compare a map with a segmentation.


def check_region(
    heatmap: Float[Array | np.ndarray, "h w"],
    region: Bool[Array | np.ndarray, "rows columns"],
    ignored: Bool[Array | np.ndarray, "rows2 columns2"] | None,
) -> tuple[Bool[Array, "h w"], Bool[Array, "h w"]]:
    """The object's pixels, and all pixels that count; raises `InputError` for shapes that differ.

    >>> check_region(jnp.ones((1, 2)), jnp.asarray([[True, True]]), jnp.asarray([[False, True]]))[0].tolist()
    [[True, False]]
    """
    for name, mask in (("region", region), ("ignored", ignored)):
        if mask is not None and mask.shape != heatmap.shape:
            raise InputError(f"{name} must have the map's shape {heatmap.shape}, got {mask.shape}")
    counts = jnp.ones(heatmap.shape, bool) if ignored is None else ~jnp.asarray(ignored)
    return jnp.asarray(region) & counts, counts


# The pointing game: Zhang, Bargal, Lin, Brandt, Shen, Sclaroff, "Top-Down Neural Attention by Excitation
# Backprop", IJCV 2018.


def pointing_game(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    boxes: Sequence[Sequence[Any] | np.ndarray] | np.ndarray,
    *,
    tolerance: float | int | np.number = 15,
) -> bool:
    """Whether the heat map's maximum lies in a box of the target's class, or within `tolerance` of one.

    The maximum is at its pixel's centre `(j + 0.5, i + 0.5)`. Of several equal maxima the first in the fixed
    random order of `dmbp_jax.metrics.insertion` counts, so that a constant map points at a random pixel. The
    distance to a box is Euclidean, 0 inside. A distance equal to the tolerance is a hit; TorchRay, which
    measures between pixel centres, requires less.

    Args:
        heatmap: `(h, w)` at the photograph's own size; see `dmbp_jax.metrics.to_photograph`.
        boxes: `(left, top, right, bottom)` of each object of the target's class, in pixels of the photograph,
            the first pixel spanning 0 to 1. (VOC counts from 1, inclusively: its box is
            `(xmin - 1, ymin - 1, xmax, ymax)`.)
        tolerance: in pixels of the photograph; the paper's is 15.

    Returns:
        True for a hit. A heat map that holds a NaN, or no number above -inf, is a miss.

    Raises:
        InputError: no box, a box of negative size, negative tolerance.

    >>> heatmap = np.zeros((60, 60))
    >>> heatmap[50, 20] = 1
    >>> pointing_game(heatmap, [(0, 0, 30, 36)]), pointing_game(heatmap, [(0, 0, 30, 35)])
    (True, False)
    """
    if len(boxes) == 0:
        raise InputError("the pointing game needs at least one box of the target's class")
    check_range("tolerance", tolerance, NonNegative)
    for box in boxes:
        if len(box) != 4 or not (box[0] <= box[2] and box[1] <= box[3]):
            raise InputError(f"a box must be (left, top, right, bottom), got {tuple(box)}")
    values = np.asarray(heatmap, np.float64)
    if np.isnan(values).any() or values.max() == -np.inf:
        return False
    row, column = np.unravel_index(_maximum(values), values.shape)
    left, top, right, bottom = np.asarray(boxes, np.float64).T
    x, y = column + 0.5, row + 0.5
    away = np.hypot(x - np.clip(x, left, right), y - np.clip(y, top, bottom))
    return bool((away <= tolerance).any())


def _maximum(values: Float[np.ndarray, "h w"]) -> int:
    """The first pixel of `pixel_order`, decreasing, found without sorting."""
    highest = np.flatnonzero(values == values.max())
    return int(highest[tie_ranks(*values.shape)[highest].argmax()] if highest.size > 1 else highest[0])


# Localisation on composites: Böhle, Fritz, Schiele, "Convolutional Dynamic Alignment Networks for
# Interpretable Classifications", CVPR 2021.


def grid_pointing_game(heatmap: Float[Array | np.ndarray, "h w"] | Numbers, grid: int, cell: int) -> float:
    """The share of the positive attribution that lies in the target's cell of a composite.

    `L = sum_{p in cell} max(A_p, 0) / sum_p max(A_p, 0)` over the pixels `p` of a photograph made of
    `grid x grid` others of different classes. In [0, 1]; higher is better, `1 / grid^2` for a constant map.

    Args:
        heatmap: `(h, w)`, for the class of that cell.
        grid: cells per side.
        cell: the target's, counted row by row from 0. Cell `(r, c)` spans the rows from `h * r // grid` up
            to, and not including, `h * (r + 1) // grid`, and columns alike.

    Returns:
        The share; NaN if no value is positive, or the heat map holds a NaN.

    Raises:
        InputError: `grid` below 1 or larger than the heat map, `cell` out of range.

    >>> grid_pointing_game(np.asarray([[3.0, 1.0], [-5.0, 0.0]]), grid=2, cell=0)
    0.75
    """
    heatmap = np.asarray(heatmap, np.float64)
    height, width = heatmap.shape
    check_whole("grid", grid, least=1, most=min(height, width), why=", the heat map's shorter side")
    check_whole("cell", cell, least=0, most=grid * grid - 1, why=f" in a grid of {grid} x {grid}")
    positive = np.maximum(heatmap, 0)
    total = positive.sum()
    if not 0 < total < np.inf:
        return float("nan")
    rows, columns = (
        slice(length * at // grid, length * (at + 1) // grid)
        for length, at in zip(positive.shape, divmod(cell, grid), strict=True)
    )
    return float(positive[rows, columns].sum() / total)


# Localization of both signs on two photographs side by side: a metric of this package.
#
# A disentangled map separates evidence for the target from evidence against it. The target here is class A's
# logit minus class B's, the image a photograph of each: positive values should lie on A's photograph,
# negative values on B's.


class ContrastLocalization(NamedTuple):
    """Two shares in [0, 1]; 1 is best, and a constant map gets the regions' shares of the area."""

    red: float
    """The share of the positive attribution that lies on the target's region; NaN if there is none."""
    blue: float
    """The share of the negative attribution that lies on the other class's region; NaN if there is none."""


def contrast_localization(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    target_region: Bool[Array | np.ndarray, "rows columns"],
    other_region: Bool[Array | np.ndarray, "rows2 columns2"],
) -> ContrastLocalization:
    """The share of the positive values on the target, and of the negative values on the class contrasted with
    it.

    `red = sum_{p in A} max(M_p, 0) / sum_p max(M_p, 0)`, and `blue = sum_{p in B} min(M_p, 0) /
    sum_p min(M_p, 0)`, of a map `M` for the logit of A's class minus that of B's.

    Args:
        heatmap: `(h, w)`, for the difference of both logits.
        target_region: `(h, w)`, where A is: one of the two photographs, or a segmentation of the object.
        other_region: `(h, w)`, where B is.

    Returns:
        Both shares. The share of a sign that the map does not have is NaN; both are NaN if the map is not
        finite.

    Raises:
        InputError: regions of another shape than the map, empty, or overlapping.

    >>> left = np.asarray([[True, False]])
    >>> contrast_localization(np.asarray([[3.0, 1.0]]), left, ~left)
    ContrastLocalization(red=0.75, blue=nan)
    """
    values = np.asarray(heatmap, np.float64)
    target, other = np.asarray(target_region, bool), np.asarray(other_region, bool)
    for name, region in (("target_region", target), ("other_region", other)):
        if region.shape != values.shape:
            raise InputError(f"{name} must have the map's shape {values.shape}, got {region.shape}")
        if not region.any():
            raise InputError(f"{name} is empty: no pixel is True")
    if (target & other).any():
        raise InputError(f"the regions must not overlap, and {(target & other).sum()} pixels are in both")
    if not np.isfinite(values).all():
        return ContrastLocalization(float("nan"), float("nan"))
    return ContrastLocalization(_share(np.maximum(values, 0), target), _share(np.maximum(-values, 0), other))


def _share(mass: Float[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"]) -> float:
    largest = mass.max()
    if largest == 0:
        return float("nan")
    # Relative to the largest, no sum overflows.
    mass = mass / largest
    return float(mass[region].sum() / mass.sum())


# Relevance mass accuracy: Arras, Osman, Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth
# Evaluation of Neural Network Explanations", Information Fusion 81, 2022.


def relevance_mass_accuracy(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    region: Bool[Array | np.ndarray, "rows columns"],
    *,
    ignored: Bool[Array | np.ndarray, "rows2 columns2"] | None = None,
) -> Float[Array, ""]:
    """The share of the positive attribution that lies on the object.

    `sum_{p in region} max(M_p, 0) / sum_p max(M_p, 0)` (Section 3.3). In [0, 1]; higher is better, and a
    constant map gets the region's share of the area: compare methods on the same images. Of the paper's ways
    from three channels to a map without negative values this is "sum, pos": channels are added first.

    Quantus' `RelevanceMassAccuracy` adds negative values as they are in numerator and denominator. Without
    negative values both agree; with them Quantus' quotient is no share.

    Args:
        heatmap: `(h, w)`.
        region: `(h, w)`, True on the object, at the network's size; see `dmbp_jax.images.read_segmentation`.
        ignored: `(h, w)`, True where nobody can say whether the object is there, such as the outlines that
            VOC leaves void. What lies there does not count at all; none unless given.

    Returns:
        The share; NaN for a region that is empty, a map without a positive value, or one that is not finite
        (where it counts).

    Raises:
        InputError: `region` or `ignored` of another shape than the heat map's.

    >>> left = jnp.asarray([[True, False, False]])
    >>> relevance_mass_accuracy(jnp.asarray([[3.0, 1.0, -5.0]]), left).item()
    0.75
    """
    values = as_map(heatmap)
    inside, counts = check_region(values, region, ignored)
    mass = jnp.where(counts, jnp.maximum(values, 0), 0)
    # Relative to the largest, no sum overflows.
    mass = mass / mass.max()
    return jnp.where(inside.any(), jnp.where(inside, mass, 0).sum() / mass.sum(), jnp.nan)


# Relevance rank accuracy: Arras, Osman, Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth
# Evaluation of Neural Network Explanations", Information Fusion 81, 2022.


def relevance_rank_accuracy(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    region: Bool[Array | np.ndarray, "rows columns"],
    *,
    ignored: Bool[Array | np.ndarray, "rows2 columns2"] | None = None,
) -> Float[Array, ""]:
    """The share of the `K` highest pixels that lies on the object, `K` the object's number of pixels.

    `|top-K and region| / K` with `K` the region's number of pixels (Section 3.3). In [0, 1]; higher is
    better, and a constant map gets the region's share of the area. Only the order of the values matters;
    equal values have one fixed random order (`dmbp_jax.metrics.insertion`). If fewer values are above zero
    than the object has pixels, the zeros count as random pixels.

    Quantus' `RelevanceRankAccuracy` is the same, except that its order of equal values is not defined.

    Args:
        heatmap: `(h, w)`.
        region: `(h, w)`, True on the object, at the network's size; see `dmbp_jax.images.read_segmentation`.
        ignored: `(h, w)`, True where nobody can say whether the object is there, such as the outlines that
            VOC leaves void. These pixels are neither ranked nor counted; none unless given.

    Returns:
        The share; NaN for a region that is empty, or a map that holds a NaN (where it counts).

    Raises:
        InputError: `region` or `ignored` of another shape than the heat map's.

    >>> left = jnp.asarray([[True, True, False]])
    >>> relevance_rank_accuracy(jnp.asarray([[3.0, -5.0, 1.0]]), left).item()
    0.5
    """
    values = as_order(heatmap)
    inside, counts = check_region(values, region, ignored)
    size = inside.sum()
    order = pixel_order(values, decreasing=True)
    counted = counts.ravel()[order]
    warmest = counted & (counted.cumsum() <= size)
    hits = (inside.ravel()[order] & warmest).sum()
    defined = (size > 0) & ~(jnp.isnan(values) & counts).any()
    return jnp.where(defined, hits.astype(values.dtype) / size.astype(values.dtype), jnp.nan)
