"""Winograd's convolution F(2 x 2, 3 x 3): 16 multiplications for four outputs, where 36 are usual.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, Section 4.1. Libraries
for GPUs have it; XLA on a CPU has not. In float32 its result is rounded up to twice as much.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

Pads = tuple[tuple[int, int], tuple[int, int]]

NARROWEST = 64
"""Channels; with fewer, the additions cost what the multiplications save."""
LARGEST = 112**2
"""Pixels of the output; of a larger map the 16 parts of the tiles do not stay in a core's cache."""
LEAST = 2 * 10**8
"""Multiplications for an image without it; what is saved of fewer does not make up for compiling more."""


def winograd_pays(x: Inexact[Array, "n h w i"], kernel: Inexact[Array, "kh kw i o"], pads: Pads) -> bool:
    """Whether it is the faster way on a CPU to convolve at stride 1, and precise enough, float32.

    >>> import jax.numpy as jnp
    >>> x, kernel = jnp.ones((1, 28, 28, 256)), jnp.ones((3, 3, 256, 256))
    >>> [winograd_pays(x, k, ((1, 1), (1, 1))) for k in (kernel, kernel[..., :32])]
    [True, False]
    """
    rows, columns = _output_size(x, pads)
    return (
        kernel.shape[:2] == (3, 3)
        and x.dtype == kernel.dtype == jnp.float32
        and min(kernel.shape[2:]) >= NARROWEST
        and rows * columns <= LARGEST
        and rows * columns * kernel.size >= LEAST
    )


TURNED = (3, 1, 2, 0)
"""The order of the parts of a kernel that is reversed."""

Transformed = tuple[tuple[Inexact[Array, "of to"], ...], ...]
"""4 x 4 kernels of one pixel."""


def transform_kernel(kernel: Inexact[Array, "3 3 i o"]) -> Transformed:
    """`G kernel G^T`, which costs as much as convolving a small map: to be done before a loop, not in it."""

    def along(first: Array, second: Array, third: Array) -> tuple[Array, ...]:
        outer = (first + third) / 2
        return first, outer + second / 2, outer - second / 2, third

    return tuple(along(*row) for row in along(*kernel))


@functools.partial(jax.jit, static_argnames=("pads", "transposed"))
def winograd(
    x: Inexact[Array, "n h w c"], transformed: Transformed, pads: Pads, *, transposed: bool = False
) -> Inexact[Array, "n hh ww d"]:
    """`A^T [(G kernel G^T) * (B^T tile B)] A` for every tile of 4 x 4 pixels: `kernel * x` at stride 1.

    `transformed` is `transform_kernel(kernel)`; `pads` are the zeros before and after rows and columns.
    `transposed`: by the kernel turned by 180 degrees, from outputs to inputs, as in a gradient at the data.

    >>> import jax.numpy as jnp
    >>> transformed = transform_kernel(jnp.ones((3, 3, 1, 1)))
    >>> winograd(jnp.ones((1, 5, 5, 1)), transformed, ((0, 0), (1, 0)))[0, 0, :, 0]
    Array([6., 9., 9., 9.], dtype=float32)
    """
    n, height, width, inner = x.shape
    (top, _), (left, _) = pads
    rows, columns = _output_size(x, pads)
    down, across = -(-rows // 2), -(-columns // 2)
    # A last odd row or column has a tile of its own, half of which is cut off again.
    bottom, right = 2 * down + 2 - height - top, 2 * across + 2 - width - left
    zero = jnp.zeros((), x.dtype)
    padded = jax.lax.pad(x, zero, ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))
    if transposed:
        # Turning a kernel exchanges its parts; a transposed factor costs a matrix product nothing.
        transformed = tuple(tuple(transformed[a][b].T for b in TURNED) for a in TURNED)
    # Sixteen products by themselves are faster than one of stacked arrays, which must be stacked.
    products = [
        [part.reshape(-1, inner) @ transformed[a][b] for b, part in enumerate(_parts(strip, 2))]
        for a, strip in enumerate(_parts(padded, 1))
    ]
    sums = [_sums(row) for row in products]
    halves = [_sums([pair[b] for pair in sums]) for b in range(2)]
    tiles = [[halves[b][a].reshape(n, down, across, -1) for b in range(2)] for a in range(2)]
    spread = jnp.stack([jnp.stack(pair, 3) for pair in tiles], 2)
    return spread.reshape(n, 2 * down, 2 * across, -1)[:, :rows, :columns]


def _output_size(x: Array, pads: Pads) -> tuple[int, int]:
    (top, bottom), (left, right) = pads
    return x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2


def _parts(x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """`B^T tile` along an axis, for all tiles: four pixels every two pixels."""
    count = x.shape[axis] // 2 - 1
    first, second, third, fourth = (
        jax.lax.slice_in_dim(x, start, start + 2 * count - 1, 2, axis) for start in range(4)
    )
    return first - third, second + third, third - second, second - fourth


def _sums(parts: Sequence[Array]) -> tuple[Array, Array]:
    """`A^T` of four parts."""
    first, second, third, fourth = parts
    return first + second + third, second - third - fourth
