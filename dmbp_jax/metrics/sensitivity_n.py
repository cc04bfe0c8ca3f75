"""Sensitivity-n: Ancona, Ceolini, Öztireli, Gross, "Towards Better Understanding of Gradient-based
Attribution Methods for Deep Neural Networks", ICLR 2018.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.substrate import Substrate, make_substrate
from dmbp_jax.metrics.variants import (
    as_map,
    as_target,
    check_heatmap,
    class_outputs,
    in_chunks,
    target_scores,
)
from dmbp_jax.typing import Images, Key, Numbers, Target

LARGEST_SHARE = 0.8
"""Of the pixels: where the paper's curves end, about."""
N_SIZES = 10


class SensitivityN(NamedTuple):
    """How well the sum of a map over pixels tells what removing them does."""

    correlation: Float[Array, "sizes"]
    """Pearson's, in [-1, 1], for each size of the subsets; NaN where the map or the score does not vary."""
    sizes: Int[Array, "sizes"]
    """How many pixels are removed at once."""


def sensitivity_n(
    logits: Callable[[Images], Float[Array, "n k"]],
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    key: Key,
    sizes: Sequence[int] | None = None,
    n_subsets: int = 100,
    substrate: Substrate = "zero",
    chunk_size: int = 32,
) -> SensitivityN:
    """Whether a subset's share of the map tells how much the score falls without it.

    For each `n` of `sizes`, Pearson's correlation of `sum_{p in S} M_p` and `f(x) - f(x without S)` over
    random subsets `S` of `n` pixels (Section 4, "Sensitivity-n"). Higher is better; 1 for every `n` means
    that the map satisfies sensitivity-n up to a factor, which for all `n` only a linear network allows
    (Proposition 1).

    Quantus' `SensitivityN` is something else: it removes pixels one after the other in the order of the map,
    correlates, *over the images of a batch*, each single removed pixel's value with the fall of the score
    since the whole image, and has no subsets. It knows no result for one image.

    Args:
        logits: `(n, k)` of normalised images `(n, h, w, c)`, or whatever scores the map explains; called with
            one chunk at a time.
        image: `(h, w, c)`, as the network takes it.
        heatmap: `(h, w)`.
        target: a class index, which may be traced, or one weight per class, `(k,)`.
        key: a random key. What is drawn does not depend on `chunk_size`.
        sizes: each from 1 to one less than the pixels. Ten from 1 to 80 % of them, evenly spaced on a
            logarithmic scale, unless told otherwise; the paper's range.
        n_subsets: of each size, at least 2; 100 in the paper. A correlation of 100 pairs is known to within
            about 0.2 where it is near 0.
        substrate: what is seen in place of a removed pixel: 0 of the normalised image in the paper; see
            `dmbp_jax.metrics.make_substrate`.
        chunk_size: images that go through the network at once, at most.

    Raises:
        InputError: heat map, substrate or weights of the wrong shape, option out of range.

    >>> seen = lambda x: x.sum(axis=(1, 2))
    >>> image = jnp.asarray(np.random.default_rng(0).random((4, 5, 1)), jnp.float32)
    >>> options = {"key": jax.random.key(0), "sizes": (1, 7)}
    >>> sensitivity_n(seen, image, image[..., 0], jnp.asarray(0), **options).correlation.round(5).tolist()
    [1.0, 1.0]
    """
    image, heatmap, target = jnp.asarray(image), as_map(heatmap), as_target(target)
    check_heatmap(image, heatmap)
    pixels = heatmap.size
    if sizes is None:
        spaced = np.geomspace(1, max(LARGEST_SHARE * pixels, 1), N_SIZES)
        sizes = np.unique(spaced.round().astype(int)).tolist()
    if not sizes or not all(1 <= size < pixels for size in sizes):
        raise InputError(f"sizes must be numbers from 1 to {pixels - 1}, got {tuple(sizes)}")
    if n_subsets < 2:
        raise InputError(f"n_subsets must be at least 2, got {n_subsets}")
    replacement = make_substrate(image, substrate)
    of_each = jnp.asarray(sizes, jnp.int32)

    def look(numbers: Int[Array, "size"]) -> tuple[Float[Array, "size"], Float[Array, "size"]]:
        def draw(number: Int[Array, ""]) -> Array:
            places = jax.random.permutation(jax.random.fold_in(key, number), pixels)
            return places.reshape(heatmap.shape) < of_each[number // n_subsets]

        removed = jax.vmap(draw)(numbers)
        shown = jnp.where(removed[..., None], replacement[None], image[None])
        claimed = jnp.where(removed, heatmap[None], 0).sum(axis=(1, 2))
        return claimed, target_scores(class_outputs(logits, shown), target)

    claimed, left = in_chunks(look, len(sizes) * n_subsets, chunk_size=chunk_size)
    by_size = (len(sizes), n_subsets)
    # The whole image's score is the same for all subsets: what is left falls as the loss rises.
    correlation = -jax.vmap(_pearson)(claimed.astype(left.dtype).reshape(by_size), left.reshape(by_size))
    # Sums of equal numbers differ in their last digits, which would be correlated with something.
    varies = heatmap.max() > heatmap.min()
    finite = jnp.isfinite(heatmap).all()
    return SensitivityN(jnp.where(varies & finite, correlation, jnp.nan), of_each)


def _pearson(a: Float[Array, "n"], b: Float[Array, "n"]) -> Float[Array, ""]:
    a, b = (values - values.mean() for values in (a, b))
    a, b = (values / jnp.abs(values).max() for values in (a, b))
    return (a * b).sum() / jnp.sqrt((a * a).sum() * (b * b).sum())
