"""Localisation on composites: Böhle, Fritz, Schiele, "Convolutional Dynamic Alignment Networks for
Interpretable Classifications", CVPR 2021.
"""

import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.typing import Numbers


def grid_pointing_game(heatmap: Float[Array | np.ndarray, "h w"] | Numbers, grid: int, cell: int) -> float:
    """The share of the positive attribution that lies in the target's cell of a composite.

    `L = sum_{p in cell} max(A_p, 0) / sum_p max(A_p, 0)` over the pixels `p` of a photograph made of
    `grid x grid` others of different classes. In [0, 1]; higher is better, `1 / grid^2` for a map that does
    not tell the cells apart.

    Args:
        heatmap: `(h, w)`, for the class of that cell.
        grid: cells per side.
        cell: which one, row by row from 0. Cell `(r, c)` spans the rows from `h * r // grid` up to, and not
            including, `h * (r + 1) // grid`, and columns alike.

    Returns:
        The share; NaN if nothing is positive, or the heat map holds a NaN.

    Raises:
        InputError: `grid` below 1 or larger than the heat map, `cell` out of range.

    >>> grid_pointing_game(np.asarray([[3.0, 1.0], [-5.0, 0.0]]), grid=2, cell=0)
    0.75
    """
    heatmap = np.asarray(heatmap, np.float64)
    height, width = heatmap.shape
    if not 1 <= grid <= min(height, width):
        raise InputError(
            f"grid must be from 1 to {min(height, width)}, the heat map's shorter side, got {grid}"
        )
    if not 0 <= cell < grid * grid:
        raise InputError(f"cell must be from 0 to {grid * grid - 1} in a grid of {grid} x {grid}, got {cell}")
    positive = np.maximum(heatmap, 0)
    total = positive.sum()
    if not 0 < total < np.inf:
        return float("nan")
    rows, columns = (
        slice(length * at // grid, length * (at + 1) // grid)
        for length, at in zip(positive.shape, divmod(cell, grid), strict=True)
    )
    return float(positive[rows, columns].sum() / total)
