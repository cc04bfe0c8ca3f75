"""What insertion, complementary insertion and deletion share: a probability while pixels are exchanged.

All three exchange the pixels of one image for those of another, a few more at every step, in an order that
the heat map decides, and take the area under the curve of a probability. The definition is RISE's: Petsiuk,
Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, and the
authors' `evaluation.py` (github.com/eclique/RISE).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.variants import (
    as_order,
    as_target,
    check_heatmap,
    class_outputs,
    in_chunks,
    target_scores,
)
from dmbp_jax.typing import Images, Numbers, Target

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


@functools.lru_cache(maxsize=4)
def tie_ranks(rows: int, columns: int) -> Int[np.ndarray, "pixels"]:
    """The places of equal values, by which they are told apart: a fixed random permutation of the pixels.

    It depends on the map's size alone, so that it is the same for all maps, methods and runs. NumPy promises
    that the numbers of `RandomState` never change.

    >>> tie_ranks(2, 3).tolist()
    [0, 1, 3, 5, 4, 2]
    """
    ranks = np.random.RandomState((rows, columns)).permutation(rows * columns).astype(np.int32)
    ranks.flags.writeable = False
    return ranks


def pixel_order(heatmap: Float[Array | np.ndarray, "h w"], *, decreasing: bool) -> Int[Array, "pixels"]:
    """The pixels' numbers, counted row by row, in the order of the heat map.

    Values are compared first, and equal ones by `tie_ranks`: in the order of the rows a map with large equal
    regions, such as the zeros of Grad-CAM, would show the network whole stripes of the photograph, which it
    recognises sooner than as many scattered pixels. So a constant map is a random map, the one that holds
    `tie_ranks`.

    The decreasing order is the increasing one reversed, of equal values too: every metric then ranks one and
    the same map without ties. With ties in one order both ways, the pixels that enter first would also be
    those that enter first when the coldest go first, and insertion and complementary insertion, or both
    orders of ROAD, would look at the same pixels where they are meant to look at opposite ones.

    NaN is above every number, and all NaN are equal; -0 equals 0.

    >>> pixel_order(jnp.asarray([[0.0, 2.0], [1.0, 2.0]]), decreasing=False).tolist()
    [0, 2, 1, 3]
    """
    values = jnp.asarray(heatmap).ravel()
    by_ties = np.argsort(tie_ranks(*heatmap.shape)).astype(np.int32)
    order = jnp.asarray(by_ties)[jnp.argsort(values[by_ties], stable=True)]
    return order[::-1] if decreasing else order


def pixel_ranks(heatmap: Float[Array | np.ndarray, "h w"], *, decreasing: bool) -> Int[Array, "h w"]:
    """The place of every pixel, from 0, in the order of the heat map: `pixel_order` says how ties are broken.

    >>> pixel_ranks(jnp.asarray([[0.0, 2.0], [1.0, 3.0]]), decreasing=True).tolist()
    [[3, 1], [2, 0]]
    """
    order = pixel_order(heatmap, decreasing=decreasing)
    ranks = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
    return ranks.reshape(heatmap.shape)


def curve_along(
    predict: Predict,
    start: Float[Array | np.ndarray, "h w c"],
    finish: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
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
    start, finish, heatmap = jnp.asarray(start), jnp.asarray(finish), as_order(heatmap)
    target = as_target(target)
    check_heatmap(start, heatmap)

    step = math.ceil(heatmap.size / n_steps)
    ranks = pixel_ranks(heatmap, decreasing=decreasing)

    def score(numbers: Int[Array, "size"]) -> Float[Array, "size"]:
        done = ranks[None] < (numbers * step)[:, None, None]
        shown = jnp.where(done[..., None], finish[None], start[None])
        return target_scores(class_outputs(predict, shown), target)

    scores = in_chunks(score, math.ceil(heatmap.size / step) + 1, chunk_size=chunk_size)
    # A heat map that is not a number somewhere orders nothing.
    scores = jnp.where(jnp.isnan(heatmap).any(), jnp.nan, scores)
    return Curve(auc=area_under_curve(scores), probabilities=scores)
