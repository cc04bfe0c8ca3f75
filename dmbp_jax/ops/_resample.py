"""Operations on maps: blurring, upsampling, scaling."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact

from dmbp_jax._checks import InputError
from dmbp_jax._ranges import Number, Positive, check_range, check_whole
from dmbp_jax.ops._derivatives import first_max
from dmbp_jax.typing import Numbers

# Constant arrays: on every device over which an image is divided, and of an image's shape.


def full_along(
    image: Inexact[Array, "..."], shape: tuple[int, ...], value: Number | int, dtype: DTypeLike
) -> Float[Array, "..."]:
    """`jnp.full(shape, value, dtype)`, one for each device over which `image` is divided.

    Inside `shard_map` a plain constant is shared by all devices, and JAX sums its gradient over them, that is
    over unrelated images.

    >>> full_along(jnp.ones((2, 2, 3)), (3,), 0.5, jnp.float32).tolist()
    [0.5, 0.5, 0.5]
    """
    constant = jnp.asarray(value, dtype)
    # This branch is never used, and the compiler removes it.
    one = jnp.where(jnp.asarray(False), image.ravel()[0].astype(dtype), constant)
    return jnp.broadcast_to(one, shape)


def filled(image: Inexact[Array, "..."], value: Numbers, what: str) -> Inexact[Array, "..."]:
    """An array of the image's shape: the given one, or a number everywhere.

    Raises `InputError` for an array of another shape, calling it `what`.

    >>> filled(jnp.ones((1, 2, 1)), 3, "baseline").ravel().tolist()
    [3.0, 3.0]
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        array = array.astype(image.dtype)
    if array.ndim == 0:
        return jnp.broadcast_to(array.astype(image.dtype), image.shape)
    if array.shape != image.shape:
        raise InputError(
            f"the {what} must be one number or have the image's shape {image.shape}, got {array.shape}"
        )
    return array


# Gaussian blur: with a standard deviation that may be traced, and with a small window with folded tails.

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
    check_whole("size", size, least=1)
    if size % 2 == 0:
        raise InputError(f"size must be odd, so that the kernel has a centre, got {size}")
    check_range("sigma", sigma, Positive)
    from scipy import ndimage

    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return ndimage.gaussian_filter1d(impulse, sigma)


def folded_gaussian_blur(
    image: Float[Array, "h w c"], *, size: int = 11, sigma: float = 5.0
) -> Float[Array, "h w c"]:
    """`image`, zero-padded, convolved with `folded_gaussian_kernel` along rows and columns.

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


# Scaling and resizing of maps.


def upsample(maps: Inexact[Array, "h w c"], size: tuple[int, int]) -> Inexact[Array, "hh ww c"]:
    """Bilinear interpolation with half-pixel centres, to `size` (rows, columns), `align_corners=False`.

    >>> import jax.numpy as jnp
    >>> upsample(jnp.asarray([[[0.0], [1.0]]]), (1, 4))[0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    return jax.image.resize(maps, (*size, maps.shape[2]), method="bilinear", antialias=False)


def min_max(maps: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`(x - min) / (max - min)`; a constant map becomes zeros.

    >>> min_max(jnp.asarray([1.0, 2.0, 5.0])).tolist(), min_max(jnp.ones(2)).tolist()
    ([0.0, 0.25, 1.0], [0.0, 0.0])
    """
    low, high = -first_max(-maps), first_max(maps)
    span = high - low
    return jnp.where(span > 0, (maps - low) / jnp.where(span > 0, span, 1), 0)
