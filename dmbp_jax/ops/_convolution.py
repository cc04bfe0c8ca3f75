"""Linear layers: convolutions (for some of them Winograd's), matrix products, batch normalisation."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Inexact

from dmbp_jax._checks import ShapeError
from dmbp_jax.ops._derivatives import transposable

# Floating-point arrays cast to another precision.

Tree = TypeVar("Tree")


def cast_floats(tree: Tree, dtype: Any) -> Tree:
    """Every floating array of a tree in that dtype; integers and random keys unchanged.

    >>> cast_floats({"w": jnp.ones(2), "steps": jnp.asarray(3)}, jnp.bfloat16)["w"].dtype.name
    'bfloat16'
    """

    def cast(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(jax.typeof(leaf).dtype, jnp.floating) else leaf

    cast_tree: Tree = jax.tree.map(cast, tree)
    return cast_tree


# Winograd's convolution F(2 x 2, 3 x 3): 16 multiplications for four outputs instead of 36.
#
# Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, Section 4.1.
# Libraries for GPUs have it, XLA on a CPU does not. In float32 its rounding error is up to twice as large.

Pads = tuple[tuple[int, int], tuple[int, int]]

NARROWEST = 64
"""The least number of channels; with fewer, the additions cost what the multiplications save."""
LARGEST = 112**2
"""Pixels of the output; of a larger map the 16 parts of the tiles do not stay in a core's cache."""
LEAST = 2 * 10**8
"""The least number of multiplications per image; with fewer, compilation takes longer than is saved."""


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
    """`G kernel G^T`. It costs as much as convolving a small map: do it before a loop, not in it."""

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
        # Rotating a kernel permutes its parts; a transposed factor of a matrix product costs nothing.
        transformed = tuple(tuple(transformed[a][b].T for b in TURNED) for a in TURNED)
    # Sixteen single products are faster than stacking arrays for one batched product.
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


# `kernel * x`, fast to compute on CPUs too, and fast to differentiate.
#
# XLA is fast for most convolutions. On a CPU it does not compute a 1 x 1 convolution as a matrix product,
# does not use Winograd's algorithm, and is slow for the gradient at the data.

Sizes = tuple[int, int]


def convolve(
    x: Inexact[Array, "n h w i"], kernel: Inexact[Array, "kh kw i o"], strides: Sizes, pads: Pads
) -> Inexact[Array, "n hh ww o"]:
    """`kernel * x`, zero-padded before and after along rows and columns.

    On a CPU it may be computed by Winograd's algorithm, and as a matrix product.

    >>> import jax.numpy as jnp
    >>> convolve(jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4)), (2, 2), ((0, 0), (1, 1))).shape
    (1, 2, 3, 4)
    """
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        # Pixels between strides are not used, so they are left out before the backward pass. As a matrix
        # product it is up to twice as fast on a CPU, where XLA does not see that it is one.
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    return _convolve(x, kernel, strides, pads)


def _plain(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=strides, padding=pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_kind(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> tuple[Array, Transformed | None]:
    """The convolution, and its transformed kernel where its sizes have a CPU use Winograd's algorithm."""
    is_fast = strides == (1, 1) and winograd_pays(x, kernel, pads)
    transformed = transform_kernel(kernel) if is_fast else None
    return _of_kind(x, kernel, transformed, strides, pads), transformed


def _of_kind(x: Array, kernel: Array, transformed: Transformed | None, strides: Sizes, pads: Pads) -> Array:
    if transformed is None:
        return _plain(x, kernel, strides, pads)
    output: Array = jax.lax.platform_dependent(
        x,
        kernel,
        transformed,
        cpu=lambda x, _, transformed: winograd(x, transformed, pads),
        default=lambda x, kernel, _: _plain(x, kernel, strides, pads),
    )
    return output


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    return _by_kind(x, kernel, strides, pads)[0]


def _convolve_jvp(
    strides: Sizes, pads: Pads, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Any]:
    # With `symbolic_zeros` an argument says whether it is differentiated. Usually only the data is; then the
    # data need not be kept, since only the kernel's gradient needs it.
    (x, kernel), (to_x, to_kernel) = primals, tangents
    output, transformed = _by_kind(x, kernel, strides, pads)
    terms = []
    if not isinstance(to_x, SymbolicZero):
        sizes = x.shape[1:3]

        def forward(x: Array, kernel: Array, transformed: Transformed | None) -> Array:
            return _of_kind(x, kernel, transformed, strides, pads)

        def backward(cotangent: Array, kernel: Array, transformed: Transformed | None) -> Array:
            # A separate array, computed once before a loop: XLA would transpose it in each step, or choose a
            # slower program.
            phases = _phases(kernel, strides)
            if transformed is None:
                return _to_data(cotangent, phases, sizes, strides, pads)
            (top, bottom), (left, right) = pads
            around = (2 - top, 2 - bottom), (2 - left, 2 - right)
            to_x: Array = jax.lax.platform_dependent(
                cotangent,
                phases,
                transformed,
                cpu=lambda cotangent, _, transformed: winograd(
                    cotangent, transformed, around, transposed=True
                ),
                default=lambda cotangent, phases, _: _to_data(cotangent, phases, sizes, strides, pads),
            )
            return to_x

        terms.append(transposable(forward, backward, to_x, kernel, transformed))
    if not isinstance(to_kernel, SymbolicZero):
        terms.append(_plain(x, to_kernel, strides, pads))
    return output, functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(output)


_convolve.defjvp(_convolve_jvp, symbolic_zeros=True)


def _to_data(cotangent: Array, phases: Array, sizes: tuple[int, ...], strides: Sizes, pads: Pads) -> Array:
    """The gradient at data of these sizes ("sub-pixel convolution").

    No zeros are inserted between strides: each phase of the input has its own taps of the kernel, and the
    phases are output channels of one convolution.
    """
    around = []
    for size, out, taps, stride, (padding, _) in zip(
        sizes, cotangent.shape[1:3], phases.shape[:2], strides, pads, strict=True
    ):
        first = padding // stride
        count, before = (size - 1 + padding) // stride + 1 - first, taps - 1 - first
        around.append((before, count + taps - 1 - out - before))
    to_phases = _plain(cotangent, phases, (1, 1), (around[0], around[1]))
    n, rows, columns, _ = to_phases.shape
    spread = to_phases.reshape(n, rows, columns, *strides, -1).transpose(0, 1, 3, 2, 4, 5)
    spread = spread.reshape(n, rows * strides[0], columns * strides[1], -1)
    top, left = (before % stride for stride, (before, _) in zip(strides, pads, strict=True))
    return spread[:, top : top + sizes[0], left : left + sizes[1]]


def _phases(kernel: Array, strides: Sizes) -> Array:
    """The kernel `(ceil(kh / s), ceil(kw / t), o, s t i)` from outputs to the `s t` phases of the input."""
    high, wide, inner, outer = kernel.shape
    down, across = strides
    rows, columns = -(-high // down), -(-wide // across)
    filled = jnp.pad(kernel, ((0, rows * down - high), (0, columns * across - wide), (0, 0), (0, 0)))
    split = filled.reshape(rows, down, columns, across, inner, outer)
    return jnp.flip(split, (0, 2)).transpose(0, 2, 5, 1, 3, 4).reshape(rows, columns, outer, -1)


# Convolution and linear layer, NHWC, with PyTorch's padding; and batch-norm, which is folded into the
# convolution before it, once, at load time.


def conv2d(
    x: Inexact[Array, "n h w c"],
    kernel: Inexact[Array, "kh kw i o"],
    bias: Inexact[Array, "o"],
    *,
    stride: int = 1,
    padding: int = 0,
) -> Inexact[Array, "n hh ww o"]:
    """`kernel * x + bias`, zero-padded by `padding` pixels on each side.

    >>> import jax.numpy as jnp
    >>> conv2d(jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4)), jnp.zeros(4), stride=2).shape
    (1, 2, 2, 4)
    """
    if x.shape[3] != kernel.shape[2]:
        raise ShapeError(f"the layer takes {kernel.shape[2]} channels, got an input {x.shape}")
    return (
        convolve(x, kernel, (stride, stride), ((padding, padding), (padding, padding)))
        + bias[None, None, None, :]
    )


def linear(
    x: Inexact[Array, "n i"], kernel: Inexact[Array, "i o"], bias: Inexact[Array, "o"]
) -> Inexact[Array, "n o"]:
    """`x kernel + bias`."""
    return x @ kernel + bias[None, :]


class BatchNorm(NamedTuple):
    """A frozen batch-norm: `(z - mean) / sqrt(variance + eps) * scale + offset`, per channel."""

    scale: Float[np.ndarray, "o"]
    offset: Float[np.ndarray, "o"]
    mean: Float[np.ndarray, "o"]
    variance: Float[np.ndarray, "o"]
    eps: float = 1e-5


def fold_batch_norm(
    kernel: Float[np.ndarray, "kh kw i o"], bias: Float[np.ndarray, "o"], norm: BatchNorm
) -> tuple[Float[np.ndarray, "kh kw i o"], Float[np.ndarray, "o"]]:
    """The kernel and bias of the one convolution that equals convolution, then batch-norm.

    `kernel' = kernel * f`, `bias' = (bias - mean) * f + offset` with `f = scale / sqrt(variance + eps)`,
    computed in float64 and rounded once.
    """
    factor = norm.scale.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.eps)
    folded = kernel.astype(np.float64) * factor
    offset = (bias.astype(np.float64) - norm.mean) * factor + norm.offset
    return folded.astype(kernel.dtype), offset.astype(kernel.dtype)
