"""ROAD: remove and debias, by noisy linear imputation."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dmbp_jax._checks import InputError
from dmbp_jax._ranges import Fraction, NonNegative, check_range, check_shares
from dmbp_jax.metrics._curves import Predict, pixel_ranks
from dmbp_jax.metrics._variants import (
    as_order,
    as_target,
    check_heatmap,
    class_outputs,
    in_chunks,
    target_scores,
)
from dmbp_jax.typing import Image, Key, Numbers

# Noisy linear imputation: Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation
# Strategy for Attribution Methods", ICML 2022 (Section 4.3).

NOISE_LEVEL = 0.01
BESIDE, ASLANT = 1 / 6, 1 / 12
"""The weights of a pixel's eight neighbours."""
TOLERANCE = 1e-5
"""Tolerance of the relative residual. On photographs of 224 x 224 the solution is then within 0.001 of their
range of the exact one, whatever the shape of the hole: a tenth of the noise. Further steps gain nothing in
single precision."""


def noisy_linear_imputation(
    image: Float[Array | np.ndarray, "h w c"],
    removed: Bool[Array | np.ndarray, "rows columns"],
    *,
    key: Key,
    noise_level: float | int = NOISE_LEVEL,
) -> Image:
    """The image with its removed pixels imputed from the remaining ones.

    Every removed pixel is the weighted mean of its eight neighbours, with weights 1/6 for direct and 1/12 for
    diagonal neighbours, renormalised at the image's border. Where neighbours are removed too, this is a
    system of linear equations, one for each removed pixel. Then normal noise is added to these pixels. The
    image may be normalised before or after.

    The system is symmetric and positive definite, so it is solved by conjugate gradients, with the diagonal
    as preconditioner, starting from the mean of the remaining pixels. At 224 x 224, scattered pixels take
    about 10 iterations and a hole as wide as the image 600. Iteration therefore ends by the residual, at the
    latest after ten times the sum of rows and columns; in single precision too many iterations diverge. It
    can be compiled and batched, and runs on the network's device. On a CPU it took half of the time of
    SciPy's sparse solver for large holes, and as much for small ones.

    Args:
        image: `(h, w, c)`, as the network takes it, or not normalised yet.
        removed: `(h, w)`, True for the pixels to be imputed.
        key: a random key, for the noise.
        noise_level: its standard deviation, as a share of the image's own range `max - min`; the authors' is
            0.01 of images in [0, 1] (`NoisyLinearImputer`, github.com/tleemann/road_evaluation).

    Returns:
        The image; NaN in all removed pixels if none remains, or the remaining ones are not finite.

    Raises:
        InputError: `removed` is not of the image's rows and columns, negative `noise_level`.

    >>> row, hole = jnp.asarray([[[0.0], [9.0], [9.0], [3.0]]]), jnp.asarray([[False, True, True, False]])
    >>> made_up = noisy_linear_imputation(row, hole, key=jax.random.key(0), noise_level=0.0)
    >>> made_up[0, :, 0].round(5).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    if removed.shape != image.shape[:2]:
        raise InputError(
            f"removed must have the image's rows and columns {image.shape[:2]}, got {removed.shape}"
        )
    check_range("noise_level", noise_level, NonNegative)
    image, hole = jnp.asarray(image), jnp.asarray(removed)[..., None]
    seen = jnp.where(hole, 0, image)
    weights = _neighbours(jnp.ones_like(image[..., :1]))

    def equations(unknown: Array) -> Array:
        return jnp.where(hole, weights * unknown - _neighbours(jnp.where(hole, unknown, 0)), 0)

    mean = seen.sum(axis=(0, 1)) / (~hole).sum(dtype=image.dtype)
    solution, _ = jax.scipy.sparse.linalg.cg(
        equations,
        jnp.where(hole, _neighbours(seen), 0),
        x0=jnp.where(hole, mean[None, None], 0),
        tol=TOLERANCE,
        maxiter=10 * sum(image.shape[:2]),
        M=lambda residual: residual / weights,
    )
    deviation = noise_level * (image.max() - image.min())
    noise = deviation * jax.random.normal(key, image.shape, image.dtype)
    return jnp.where(hole, solution + noise, image)


def _neighbours(values: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """The weighted sum of every pixel's neighbours, zero-padded."""
    padded = jnp.pad(values, ((1, 1), (1, 1), (0, 0)))
    up_and_down = padded[:-2] + padded[2:]
    across = up_and_down[:, :-2] + up_and_down[:, 2:]
    along = padded[1:-1, :-2] + padded[1:-1, 2:]
    return ASLANT * across + BESIDE * (up_and_down[:, 1:-1] + along)


# ROAD, remove and debias: Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation
# Strategy for Attribution Methods", ICML 2022.

REMOVED_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the pixels."""


class RoadCurve(NamedTuple):
    """The target's probability as pixels are removed in one order; NaN for a map that holds a NaN."""

    probabilities: Float[Array, "shares"]
    """Of the target."""
    recognized: Float[Array, "shares"]
    """1 where the target is the most likely class (the first on ties), else 0; the mean over images is the
    paper's accuracy. Of a network of one probability: whether that is above 1/2."""


class Road(NamedTuple):
    """Pixels removed in both orders."""

    morf: RoadCurve
    """The most relevant first: lower is better."""
    lerf: RoadCurve
    """The least relevant first: higher is better."""


def road(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Int[Array, ""] | int | np.integer,
    *,
    key: Key,
    shares: Sequence[float] = REMOVED_SHARES,
    noise_level: float | int = NOISE_LEVEL,
    perturbations_per_eval: int = 32,
) -> Road:
    """The target's probability when pixels are removed and imputed from their neighbours.

    As deletion, but a removed pixel is imputed from the remaining ones
    (`dmbp_jax.metrics.noisy_linear_imputation`). With black pixels a network can recognise the shape that was
    cut out, and the two orders then contradict each other (Section 3). Only the order of the values matters;
    equal values have one fixed random order, as in `dmbp_jax.metrics.insertion`, reversed where the least
    relevant come first. (The authors order equal values at random.)

    Quantus' `ROAD` is `morf.recognized` alone, at 1, 3, ... 99 %, for images of one channel; with the same
    pixels removed and the same noise both produce the same images.

    Args:
        predict: probabilities `(n, k)` of normalised images `(n, h, w, c)`; called with one chunk at a time.
        image: `(h, w, c)`, as the network takes it.
        heatmap: `(h, w)`.
        target: a class index, which may be traced.
        key: a random key. What is drawn does not depend on `perturbations_per_eval`.
        shares: of the pixels, each above 0 and below 1; `floor(share h w)` pixels are removed, the authors'
            rounding. The paper's curves have steps of 10 %.
        noise_level: the noise's standard deviation, as a share of the image's own range `max - min`; 0.01 in
            the paper.
        perturbations_per_eval: images in one forward pass, at most.

    Raises:
        InputError: no shares or one out of range, heat map of the wrong shape, a target that is no class
            index, `predict` that returns something else.

    >>> half = lambda x: jnp.stack([x[:, :, :4].mean(axis=(1, 2, 3)), x[:, :, 4:].mean(axis=(1, 2, 3))], 1)
    >>> image = jnp.zeros((8, 8, 1)).at[:, :4].set(1.0)
    >>> found = road(half, image, image[..., 0], jnp.asarray(0), key=jax.random.key(0), shares=(0.5,))
    >>> bool(found.morf.probabilities[0] < 0.1), bool(found.lerf.probabilities[0] > 0.9)
    (True, True)
    """
    image, heatmap, target = jnp.asarray(image), as_order(heatmap), as_target(target)
    check_heatmap(image, heatmap)
    check_shares(shares, Fraction)
    if target.ndim:
        raise InputError(f"target must be the index of a class, got an array of shape {target.shape}")
    counts = jnp.asarray([int(share * heatmap.size) for share in shares], jnp.int32)
    orders = jnp.stack([pixel_ranks(heatmap, decreasing=first_most) for first_most in (True, False)])

    def look(numbers: Int[Array, "size"]) -> RoadCurve:
        def remove(number: Int[Array, ""]) -> Array:
            order = orders[(number // len(shares)) % 2]
            removed = order < counts[number % len(shares)]
            own = jax.random.fold_in(key, number)
            return noisy_linear_imputation(image, removed, key=own, noise_level=noise_level)

        # One after the other: batched, all would iterate until the slowest system is solved.
        outputs = class_outputs(predict, jax.lax.map(remove, numbers))
        # One probability is that of a class against its opposite.
        likeliest = outputs.argmax(axis=1) == target if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
        return RoadCurve(target_scores(outputs, target), likeliest.astype(outputs.dtype))

    both = in_chunks(look, 2 * len(shares), perturbations_per_eval=perturbations_per_eval)
    # A heat map that holds a NaN has no order.
    defined = ~jnp.isnan(heatmap).any()
    morf, lerf = (
        jax.tree.map(lambda leaf, part=part: jnp.where(defined, leaf[part], jnp.nan), both)
        for part in (slice(None, len(shares)), slice(len(shares), None))
    )
    return Road(morf, lerf)
