"""Gaussian blur: of a width that may be traced, and of a small window into which the tails are folded."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError

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


def folded_gaussian_kernel(size: int, sigma: float) -> Float[np.ndarray, "size"]:
    """The kernel along one axis, `(size,)`, adding up to 1; the square kernel is its product with itself.

    A one in the middle of `size` zeros, filtered by SciPy's `gaussian_filter` of standard deviation `sigma`
    pixels, which mirrors at the borders of the window. Raises `InputError` unless `size` is odd and positive
    and `sigma` is positive.

    >>> k = folded_gaussian_kernel(11, 5.0)
    >>> round(float(k[5] * k[5]), 5), round(float(k[0] * k[0]), 5)
    (0.00883, 0.00774)
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"size must be odd and positive, so that the kernel has a centre, got {size}")
    if not sigma > 0:
        raise InputError(f"sigma must be positive, got {sigma}")
    from scipy import ndimage

    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return ndimage.gaussian_filter1d(impulse, sigma)


def folded_gaussian_blur(
    image: Float[Array, "h w c"], *, size: int = 11, sigma: float = 5.0
) -> Float[Array, "h w c"]:
    """`image` convolved with `folded_gaussian_kernel` along rows and columns; outside of it lie zeros.

    >>> folded_gaussian_blur(jnp.ones((30, 30, 1)))[15, 15, 0].round(5).item()
    1.0
    """
    kernel = folded_gaussian_kernel(size, sigma)
    # The matrix of one axis: entry (i, j) is the weight of pixel j in blurred pixel i.
    rows, columns = (
        jnp.asarray(
            sum(weight * np.eye(n, k=at - size // 2) for at, weight in enumerate(kernel)), image.dtype
        )
        for n in image.shape[:2]
    )
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns, precision="highest")
