"""What insertion, complementary insertion and deletion share: a probability while pixels are exchanged.

All three exchange the pixels of one image for those of another, a few more at every step, in an order that
the heat map decides, and take the area under the curve of a probability. The definition is RISE's: Petsiuk,
Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, and the
authors' `evaluation.py` (github.com/eclique/RISE).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax.checks import InputError
from dmbp_jax.ops import target_score
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
    for name, value in (("n_steps", n_steps), ("chunk_size", chunk_size)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    start, finish = jnp.asarray(start), jnp.asarray(finish)
    height, width, _ = start.shape
    if heatmap.shape != (height, width):
        raise InputError(
            f"the heat map must have the image's rows and columns {(height, width)}, got {heatmap.shape}"
        )

    step = math.ceil(height * width / n_steps)
    evaluations = math.ceil(height * width / step) + 1
    # Chunks of one size, as even as can be: 29 evaluations in chunks of at most 16 are 15 and 14.
    chunks = math.ceil(evaluations / chunk_size)
    size = math.ceil(evaluations / chunks)
    ranks = pixel_ranks(heatmap, decreasing=decreasing)
    dtype = np.promote_types(start.dtype, np.float32)

    def evaluate(first: Int[Array, ""]) -> Float[Array, "size"]:
        exchanged = (first + jnp.arange(size, dtype=jnp.int32)) * step
        done = ranks[None] < exchanged[:, None, None]
        probabilities = predict(jnp.where(done[..., None], finish[None], start[None]))
        _check_probabilities(probabilities, size, target)
        # A sum of a few probabilities is no place to save digits, as GPUs do by default.
        with jax.default_matmul_precision("highest"):
            return jax.vmap(lambda one: target_score(one, target))(probabilities.astype(dtype))

    scores = jax.lax.map(evaluate, jnp.arange(chunks, dtype=jnp.int32) * size).ravel()[:evaluations]
    # A heat map that is not a number somewhere orders nothing.
    scores = jnp.where(jnp.isnan(jnp.asarray(heatmap)).any(), jnp.nan, scores)
    return Curve(auc=area_under_curve(scores), probabilities=scores)


def _check_probabilities(probabilities: Array, count: int, target: Target) -> None:
    if probabilities.ndim != 2 or probabilities.shape[0] != count:
        raise InputError(
            f"predict must return probabilities of shape ({count}, classes), got {probabilities.shape}"
        )
    if target.ndim and target.shape[0] != probabilities.shape[1]:
        raise InputError(
            f"got weights of {target.shape[0]} classes, but predict knows {probabilities.shape[1]}"
        )
