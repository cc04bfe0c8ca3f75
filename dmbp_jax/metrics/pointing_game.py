"""The pointing game: Zhang, Bargal, Lin, Brandt, Shen, Sclaroff, "Top-Down Neural Attention by Excitation
Backprop", IJCV 2018.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.curve import tie_ranks
from dmbp_jax.typing import Numbers


def pointing_game(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    boxes: Sequence[Sequence[Any] | np.ndarray] | np.ndarray,
    *,
    tolerance: float | int | np.number = 15,
) -> bool:
    """Whether the heat map's maximum lies in a box of the target's class, or within `tolerance` of one.

    The maximum stands for its pixel's centre `(j + 0.5, i + 0.5)`; of several it is the one that a fixed
    random order puts first, the order of `dmbp_jax.metrics.insertion`, so that a constant map points at a
    random pixel. The distance to a box is Euclidean, 0 inside. (TorchRay, between the centres of pixels, asks
    for less than the tolerance; here a distance equal to it is a hit.)

    Args:
        heatmap: `(h, w)` at the photograph's own size; see `dmbp_jax.metrics.to_photograph`.
        boxes: `(left, top, right, bottom)` of each object of the target's class, in pixels of the photograph,
            the first pixel spanning 0 to 1. (VOC counts from 1, inclusively: its box is
            `(xmin - 1, ymin - 1, xmax, ymax)`.)
        tolerance: in pixels of the photograph; the paper's is 15.

    Returns:
        True for a hit. A heat map that holds a NaN, or no number above -inf, points at nothing: a miss.

    Raises:
        InputError: no box, a box of negative size, negative tolerance.

    >>> heatmap = np.zeros((60, 60))
    >>> heatmap[50, 20] = 1
    >>> pointing_game(heatmap, [(0, 0, 30, 36)]), pointing_game(heatmap, [(0, 0, 30, 35)])
    (True, False)
    """
    if len(boxes) == 0:
        raise InputError("the pointing game needs at least one box of the target's class")
    if not tolerance >= 0:
        raise InputError(f"tolerance must not be negative, got {tolerance}")
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
    """The first of `pixel_order`, decreasing; a photograph's pixels need no sorting for that."""
    highest = np.flatnonzero(values == values.max())
    return int(highest[tie_ranks(*values.shape)[highest].argmax()] if highest.size > 1 else highest[0])
