"""Gaussian blur whose width may be a traced number."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = Literal["edge", "zero"]
TRUNCATE = 4.0
"""The kernel ends at this many standard deviations, as SciPy's does."""


def gaussian_blur(
    image: Float[Array, "h w c"],
    sigma: Float[Array, ""] | float,
    *,
    max_sigma: float,
    padding: Padding = "edge",
) -> Float[Array, "h w c"]:
    """`image` convolved along rows and columns with a Gaussian of standard deviation `sigma` pixels.

    As `scipy.ndimage.gaussian_filter` with `mode="nearest"` (`"edge"`) or `mode="constant"` (`"zero"`), the
    kernel sampled at whole pixels, cut at 4 sigma and normalised. `sigma` may be traced, up to the static
    `max_sigma`; 0 leaves the image as it is.

    >>> gaussian_blur(jnp.ones((3, 4, 1)), 2.0, max_sigma=2.0)[:, 0, 0].round(5).tolist()
    [1.0, 1.0, 1.0]
    """
    rows, columns = (_blur_matrix(n, sigma, max_sigma, padding, image.dtype) for n in image.shape[:2])
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)


def _blur_matrix(
    size: int, sigma: Array | float, max_sigma: float, padding: Padding, dtype: jnp.dtype
) -> Array:
    """The `(size, size)` matrix that blurs one axis, its padding folded into the first and last column."""
    sigma = jnp.asarray(sigma, dtype)
    reach = int(TRUNCATE * max_sigma + 0.5)
    offsets = jnp.arange(-reach, size + reach)[None, :] - jnp.arange(size)[:, None]
    radius = jnp.floor(TRUNCATE * sigma + 0.5)
    safe = jnp.where(sigma > 0, sigma, 1)
    weights = jnp.exp(-0.5 * (offsets.astype(dtype) / safe) ** 2)
    weights = jnp.where(jnp.abs(offsets).astype(dtype) <= radius, weights, 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    inside = weights[:, reach : reach + size]
    if padding == "edge":
        inside = inside.at[:, 0].add(weights[:, :reach].sum(axis=1))
        inside = inside.at[:, -1].add(weights[:, reach + size :].sum(axis=1))
    return inside
