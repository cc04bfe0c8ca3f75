"""Blur with a Gaussian whose tails are folded back into a small square window: nearly a plain average."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError


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
