"""What insertion, complementary insertion and deletion share: a probability while pixels are exchanged.

All three exchange the pixels of one image for those of another, a few more at every step, in an order that
the heat map decides, and take the area under the curve of a probability. The definition is RISE's: Petsiuk,
Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, and the
authors' `evaluation.py` (github.com/eclique/RISE).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.variants import check_heatmap, class_outputs, in_chunks, target_scores
from dmbp_jax.typing import Images, Target

Predict = Callable[[Images], Float[Array, "n k"]]
"""Probabilities `(n, k)` of normalised images `(n, h, w, c)`."""
N_STEPS = 28
"""RISE's 224 * 8 pixels a step, as a share of the 224 * 224 of an image."""


class Curve(NamedTuple):
    """A probability while pixels are exchanged, and the area under it."""

    auc: Float[Array, "..."]
    """The area, the whole exchange counting as 1: in [0, 1] for a probability."""
    probabilities: Float[Array, "..."]
    """`(steps + 1,)`: before the first exchange, and after each."""


def area_under_curve(values: Float[Array, "n"]) -> Float[Array, ""]:
    """The trapezoidal area under `n` evenly spaced values over an interval of length 1.

    `(sum - (first + last) / 2) / (n - 1)`. Raises `InputError` for fewer than two values.

    >>> area_under_curve(jnp.asarray([0.0, 1.0, 1.0])).item()
    0.75
    """
    count = values.shape[0]
    if count < 2:
        raise InputError(f"the area under a curve needs at least 2 values, got {count}")
    return (values.sum() - (values[0] + values[-1]) / 2) / (count - 1)


def pixel_ranks(heatmap: Float[Array | np.ndarray, "h w"], *, decreasing: bool) -> Int[Array, "h w"]:
    """The place of every pixel, from 0, in the order of the heat map.

    Equal values keep the order of the rows, the first pixel first, whether `decreasing` or not.

    >>> pixel_ranks(jnp.asarray([[0.0, 2.0], [1.0, 2.0]]), decreasing=True).tolist()
    [[3, 0], [2, 1]]
    """
    flat = jnp.asarray(heatmap).ravel()
    order = jnp.argsort(flat, stable=True, descending=decreasing)
    ranks = jnp.zeros(flat.shape, jnp.int32).at[order].set(jnp.arange(flat.size, dtype=jnp.int32))
    return ranks.reshape(heatmap.shape)


def curve_along(
    predict: Predict,
    start: Float[Array | np.ndarray, "h w c"],
    finish: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"],
    target: Target,
    *,
    decreasing: bool,
    n_steps: int,
    chunk_size: int,
) -> Curve:
    """The target's probability while the pixels of `start` become those of `finish` in the heat map's order.

    A step exchanges `ceil(h w / n_steps)` pixels and the last one what is left, so that there are
    `ceil(h w / step)` steps: `n_steps` of them but for images of few pixels. For arguments and errors see
    `dmbp_jax.metrics.insertion`.

    >>> seen = lambda x: x.mean(axis=(1, 2))
    >>> heatmap = jnp.asarray([[0.0, 3.0], [2.0, 1.0]])
    >>> options = {"decreasing": True, "n_steps": 4, "chunk_size": 2}
    >>> zeros, ones = jnp.zeros((2, 2, 1)), jnp.ones((2, 2, 1))
    >>> curve_along(seen, zeros, ones, heatmap, jnp.asarray(0), **options).probabilities.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if n_steps < 1:
        raise InputError(f"n_steps must be at least 1, got {n_steps}")
    start, finish = jnp.asarray(start), jnp.asarray(finish)
    check_heatmap(start, heatmap)

    step = math.ceil(heatmap.size / n_steps)
    ranks = pixel_ranks(heatmap, decreasing=decreasing)

    def score(numbers: Int[Array, "size"]) -> Float[Array, "size"]:
        done = ranks[None] < (numbers * step)[:, None, None]
        shown = jnp.where(done[..., None], finish[None], start[None])
        return target_scores(class_outputs(predict, shown), target)

    scores = in_chunks(score, math.ceil(heatmap.size / step) + 1, chunk_size=chunk_size)
    # A heat map that is not a number somewhere orders nothing.
    scores = jnp.where(jnp.isnan(jnp.asarray(heatmap)).any(), jnp.nan, scores)
    return Curve(auc=area_under_curve(scores), probabilities=scores)
