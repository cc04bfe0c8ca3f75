"""Noisy linear imputation: Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation
Strategy for Attribution Methods", ICML 2022 (Section 4.3).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax.checks import InputError
from dmbp_jax.typing import Image, Key

NOISE_LEVEL = 0.01
BESIDE, ASLANT = 1 / 6, 1 / 12
"""The weights of a pixel's eight neighbours."""
TOLERANCE = 1e-5
"""Of the residual. On photographs of 224 x 224 the solution is then within 0.001 of their range of the exact
one, whatever the shape of the hole, a tenth of the noise; further steps gain nothing in single precision."""


def noisy_linear_imputation(
    image: Float[Array | np.ndarray, "h w c"],
    removed: Bool[Array | np.ndarray, "rows columns"],
    *,
    key: Key,
    noise_level: float | int = NOISE_LEVEL,
) -> Image:
    """The image with the removed pixels made up from those that are left, so that no trace of them remains.

    Every removed pixel is the weighted mean of its eight neighbours, 1/6 for those beside it and 1/12 for
    those aslant, over the weights that lie in the image; where neighbours are removed too this is a system
    of linear equations, one for each removed pixel. Then normal noise is added to these pixels. As the
    weights are a mean's, it makes no difference whether the image is normalised before or after.

    The system is symmetric and positive definite, so it is solved by conjugate gradients, with the diagonal
    as preconditioner, from the mean of what is left. At 224 x 224, scattered pixels take about ten steps and
    a hole as wide as the image 600, so that the number is not fixed: the residual ends it, or at the latest
    ten times the image's rows and columns. Too many steps are no better than too few, in single precision
    they diverge. It can be compiled and batched, and runs where the network runs; on a CPU it took half of
    the time of SciPy's sparse solver for large holes, and as much for small ones.

    Args:
        image: `(h, w, c)`, as the network takes it, or not normalised yet.
        removed: `(h, w)`, True for the pixels to be made up.
        key: a random key, for the noise.
        noise_level: its standard deviation, as a share of the image's own range `max - min`; the authors' is
            0.01 of images in [0, 1] (`NoisyLinearImputer`, github.com/tleemann/road_evaluation).

    Returns:
        The image; NaN in all removed pixels if nothing is left, or what is left is not finite.

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
    if not noise_level >= 0:
        raise InputError(f"noise_level must not be negative, got {noise_level}")
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
    """The weighted sum of every pixel's neighbours; outside of the image lie zeros."""
    padded = jnp.pad(values, ((1, 1), (1, 1), (0, 0)))
    up_and_down = padded[:-2] + padded[2:]
    across = up_and_down[:, :-2] + up_and_down[:, 2:]
    along = padded[1:-1, :-2] + padded[1:-1, 2:]
    return ASLANT * across + BESIDE * (up_and_down[:, 1:-1] + along)
