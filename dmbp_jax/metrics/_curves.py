"""Insertion, deletion and complementary insertion: areas under curves of probabilities."""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax._ranges import check_whole
from dmbp_jax.metrics._variants import (
    as_order,
    as_target,
    check_heatmap,
    class_outputs,
    in_chunks,
    target_scores,
)
from dmbp_jax.ops import gaussian_blur
from dmbp_jax.ops._resample import filled, folded_gaussian_blur
from dmbp_jax.typing import Image, Images, Numbers, Target

# Shared by insertion, complementary insertion and deletion: a probability while pixels are exchanged.
#
# All three exchange the pixels of one image for those of another, a few more at every step, in an order that
# the heat map decides, and take the area under the curve of a probability. The definition is RISE's: Petsiuk,
# Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, and the
# authors' `evaluation.py` (github.com/eclique/RISE).

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
    """The order of equal values: a fixed random permutation of the pixels.

    It depends on the map's size alone, so it is the same for all maps, methods and runs. NumPy guarantees
    that the numbers of `RandomState` never change.

    >>> tie_ranks(2, 3).tolist()
    [0, 1, 3, 5, 4, 2]
    """
    ranks = np.random.RandomState((rows, columns)).permutation(rows * columns).astype(np.int32)
    ranks.flags.writeable = False
    return ranks


def pixel_order(heatmap: Float[Array | np.ndarray, "h w"], *, decreasing: bool) -> Int[Array, "pixels"]:
    """The pixels' numbers, counted row by row, in the order of the heat map.

    Pixels are sorted by value, and equal values by `tie_ranks`. Sorted row by row instead, a map with large
    equal regions, such as the zeros of Grad-CAM, would reveal whole stripes of the photograph, which the
    network recognises sooner than as many scattered pixels. A constant map is therefore ranked as the random
    map `tie_ranks`.

    The decreasing order is exactly the reverse of the increasing one, also among equal values. If ties had
    the same order in both directions, insertion and complementary insertion, or both orders of ROAD, would
    start with the same pixels where they should start with opposite ones.

    NaN is above every number, and all NaN are equal; -0 equals 0.

    >>> pixel_order(jnp.asarray([[0.0, 2.0], [1.0, 2.0]]), decreasing=False).tolist()
    [0, 2, 1, 3]
    """
    values = jnp.asarray(heatmap).ravel()
    by_ties = np.argsort(tie_ranks(*heatmap.shape)).astype(np.int32)
    order = jnp.asarray(by_ties)[jnp.argsort(values[by_ties], stable=True)]
    return order[::-1] if decreasing else order


def pixel_ranks(heatmap: Float[Array | np.ndarray, "h w"], *, decreasing: bool) -> Int[Array, "h w"]:
    """The rank of every pixel, from 0, in the order of the heat map; ties as in `pixel_order`.

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
    perturbations_per_eval: int,
) -> Curve:
    """The target's probability while the pixels of `start` become those of `finish` in the heat map's order.

    A step exchanges `ceil(h w / n_steps)` pixels, the last one the remaining pixels. There are `n_steps`
    steps, or fewer for images of few pixels. For arguments and errors see `dmbp_jax.metrics.insertion`.

    >>> seen = lambda x: x.mean(axis=(1, 2))
    >>> heatmap = jnp.asarray([[0.0, 3.0], [2.0, 1.0]])
    >>> options = {"decreasing": True, "n_steps": 4, "perturbations_per_eval": 2}
    >>> zeros, ones = jnp.zeros((2, 2, 1)), jnp.ones((2, 2, 1))
    >>> curve_along(seen, zeros, ones, heatmap, jnp.asarray(0), **options).probabilities.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    check_whole("n_steps", n_steps, least=1)
    start, finish, heatmap = jnp.asarray(start), jnp.asarray(finish), as_order(heatmap)
    target = as_target(target)
    check_heatmap(start, heatmap)

    step = math.ceil(heatmap.size / n_steps)
    ranks = pixel_ranks(heatmap, decreasing=decreasing)

    def score(numbers: Int[Array, "size"]) -> Float[Array, "size"]:
        done = ranks[None] < (numbers * step)[:, None, None]
        shown = jnp.where(done[..., None], finish[None], start[None])
        return target_scores(class_outputs(predict, shown), target)

    scores = in_chunks(
        score, math.ceil(heatmap.size / step) + 1, perturbations_per_eval=perturbations_per_eval
    )
    # A heat map that holds a NaN has no order.
    scores = jnp.where(jnp.isnan(heatmap).any(), jnp.nan, scores)
    return Curve(auc=area_under_curve(scores), probabilities=scores)


# The image whose pixels replace those of the photograph: insertion starts from it, deletion ends in it.

Baseline = Literal["rise", "gaussian", "zero"] | Numbers
BLUR_SIZE = 11
BLUR_SIGMA = 5.0


def make_baseline(image: Float[Array | np.ndarray, "h w c"], baseline: Baseline) -> Image:
    """The image whose pixels replace those of the normalised `image`, `(h, w, c)`, that are not shown.

    - `"rise"`: the image convolved with RISE's 11 x 11 kernel, zero-padded (`evaluation.py` of
      github.com/eclique/RISE: a Gaussian of 5 pixels folded into the window, hence nearly a plain average);
    - `"gaussian"`: a whole Gaussian of the same 5 pixels, borders repeated;
    - `"zero"`: 0 of the normalised image;
    - a number, which every pixel has, or an array of the image's shape.

    Raises `InputError` for another name or shape.

    >>> make_baseline(jnp.ones((40, 40, 3)), "gaussian").mean().round(5).item()
    1.0
    """
    image = jnp.asarray(image)
    if not isinstance(baseline, str):
        return filled(image, baseline, "baseline")
    check_choice("baseline", baseline, ("rise", "gaussian", "zero"))
    if baseline == "rise":
        return folded_gaussian_blur(image, size=BLUR_SIZE, sigma=BLUR_SIGMA)
    if baseline == "gaussian":
        return gaussian_blur(image, BLUR_SIGMA, max_sigma=BLUR_SIGMA)
    return jnp.zeros_like(image)


# Insertion (IM): Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
# BMVC 2018.


def insertion(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    n_steps: int = N_STEPS,
    baseline: Baseline = "rise",
    perturbations_per_eval: int = 32,
) -> Curve:
    """The area under the target's probability while pixels are inserted into a blurred image, the highest
    first.

    Before step `i` the image shows the `i * step` pixels with the largest values of the heat map and the
    blurred image elsewhere; the metric is the area under the target's probability,
    `(sum_i p_i - (p_0 + p_n) / 2) / n` (the authors' `evaluation.py`). Higher is better. Only the order of
    the values matters. Equal values have one fixed random order, the same for all maps of one size, so that a
    constant map scores as random pixels do; where the lowest values come first, the order is reversed.

    Args:
        predict: probabilities `(n, k)` of normalised images `(n, h, w, c)`; called with one chunk at a time.
            For a network of one logit use its sigmoid: a softmax of one logit is always 1.
        image: `(h, w, c)`, as the network takes it, of NumPy or JAX.
        heatmap: `(h, w)`.
        target: a class index, which may be traced, or one weight per class, `(k,)`: a weighted sum of the
            probabilities.
        n_steps: steps of `ceil(h w / n_steps)` pixels. RISE's 224 * 8 pixels of 224 x 224 are 28 steps, that
            is 29 evaluations. Images of few pixels may be complete after fewer steps.
        baseline: the image before pixels are inserted: `"rise"` or `"gaussian"` blur, `"zero"` of the
            normalised image, a number, or an array of the image's shape.
        perturbations_per_eval: images in one forward pass, at most. Memory grows with it and not with
            `n_steps`; the result does not depend on it, except for rounding.

    Returns:
        A `Curve`; all NaN if the heat map holds a NaN or the target is no class of the network.

    Raises:
        InputError: heat map, baseline or weights of the wrong shape, unknown baseline, option below 1,
            `predict` that returns something else.

    Nothing is compiled here. To compile once for all images, wrap it:

    >>> import jax, jax.numpy as jnp
    >>> apply = lambda params, x: x.mean(axis=(1, 2)) @ params
    >>> @jax.jit
    ... def im(params, image, heatmap, target):
    ...     return insertion(lambda x: jax.nn.softmax(apply(params, x)), image, heatmap, target)
    >>> curve = im(jnp.ones((3, 2)), jnp.ones((16, 14, 3)), jnp.ones((16, 14)), 1)
    >>> curve.auc.item(), curve.probabilities.shape
    (0.5, (29,))
    """
    return curve_along(
        predict,
        make_baseline(image, baseline),
        image,
        heatmap,
        target,
        decreasing=True,
        n_steps=n_steps,
        perturbations_per_eval=perturbations_per_eval,
    )


# Deletion: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC
# 2018.


def deletion(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    n_steps: int = N_STEPS,
    baseline: Baseline = "zero",
    perturbations_per_eval: int = 32,
) -> Curve:
    """The area under the target's probability while pixels are removed, the highest first. Lower is better.

    As `dmbp_jax.metrics.insertion`, but from the image to the baseline: the pixels with the largest values
    become 0 of the normalised image, or what `baseline` gives. Arguments, result and errors are those of
    insertion.

    >>> import jax.numpy as jnp
    >>> seen = lambda x: x[:, 0, :1, 0]  # the "probability" is the first pixel
    >>> heatmap = jnp.asarray([[4.0, 3.0], [2.0, 1.0]])
    >>> deletion(seen, jnp.ones((2, 2, 3)), heatmap, jnp.asarray(0), n_steps=4).probabilities.tolist()
    [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    return curve_along(
        predict,
        image,
        make_baseline(image, baseline),
        heatmap,
        target,
        decreasing=True,
        n_steps=n_steps,
        perturbations_per_eval=perturbations_per_eval,
    )


# Complementary insertion (cIM): Ruiz, Agudo, Moreno-Noguer, "Generating Attribution Maps with Disentangled
# Masked Backpropagation", ICCV 2021.


def complementary_insertion(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    others: Float[Array, "k"] | Bool[Array, "k"] | Numbers,
    *,
    n_steps: int = N_STEPS,
    baseline: Baseline = "rise",
    perturbations_per_eval: int = 32,
) -> Curve:
    """The area under the probability of the *other* true classes while pixels are inserted, the lowest first.

    As `dmbp_jax.metrics.insertion`, with the pixels in increasing order of the target's heat map (the
    exact reverse of insertion's, of equal values too) and the mean probability of the image's other true
    classes; the area is therefore the mean of their areas. Higher is better: evidence against the target
    should be evidence for them.

    Args:
        others: `(k,)`: 1 for a true class of the image other than the target, 0 for the rest. An array, not a
            list of classes, so that the number of classes does not change the compiled program.

    The other arguments and the errors are those of insertion; the curve is NaN where there is no other class.

    >>> seen = lambda x: x[:, 0, :, 0]  # the "probabilities" are the two upper pixels
    >>> heatmap, others = jnp.asarray([[4.0, 1.0], [3.0, 2.0]]), jnp.asarray([0.0, 1.0])
    >>> options = {"n_steps": 4, "baseline": "zero"}
    >>> complementary_insertion(seen, jnp.ones((2, 2, 3)), heatmap, others, **options).probabilities.tolist()
    [0.0, 1.0, 1.0, 1.0, 1.0]
    """
    others = jnp.asarray(others)
    if others.ndim != 1:
        raise InputError(f"others must be a vector with one number per class, got shape {others.shape}")
    weights = others.astype(np.promote_types(jnp.asarray(image).dtype, np.float32))
    count = weights.sum()
    mean = jnp.where(count > 0, weights / jnp.where(count > 0, count, 1), jnp.nan)
    return curve_along(
        predict,
        make_baseline(image, baseline),
        image,
        heatmap,
        mean,
        decreasing=False,
        n_steps=n_steps,
        perturbations_per_eval=perturbations_per_eval,
    )
