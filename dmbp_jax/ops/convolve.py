"""`kernel * x`, fast to compute on CPUs too, and fast to differentiate.

What XLA does well it is left to do. On a CPU it does not see that a 1 x 1 convolution is a matrix product,
nor does it know Winograd's algorithm; and it makes slow programs of the gradient at the data.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.ops.winograd import Pads, Transformed, transform_kernel, winograd, winograd_pays

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
        # Of the pixels between strides nothing is read, which the backward pass need not convolve either.
        # As a matrix product it is up to twice as fast on a CPU, where XLA does not see that it is one.
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    return _convolve(x, kernel, strides, pads)


def _plain(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=strides, padding=pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_kind(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> tuple[Array, Transformed | None]:
    """The convolution, and its transformed kernel where its sizes have a CPU use Winograd's algorithm."""
    if strides != (1, 1) or not winograd_pays(x, kernel, pads):
        return _plain(x, kernel, strides, pads), None
    transformed = transform_kernel(kernel)
    output = jax.lax.platform_dependent(
        x,
        kernel,
        transformed,
        cpu=lambda x, _, transformed: winograd(x, transformed, pads),
        default=lambda x, kernel, _: _plain(x, kernel, strides, pads),
    )
    return output, transformed


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    return _by_kind(x, kernel, strides, pads)[0]


class _Residuals(NamedTuple):
    sizes: tuple[int, ...]
    """Rows and columns of the data."""
    kernel: Array
    transformed: Transformed | None
    """By Winograd's algorithm, where it is used."""
    x: Array | None
    """The data, where the gradient at the kernel is wanted too."""


def _forward(x: Any, kernel: Any, strides: Sizes, pads: Pads) -> tuple[Array, _Residuals]:
    # With `symbolic_zeros` an argument says whether it is differentiated. Mostly the data alone is, and then
    # they need not be kept: only the kernel's gradient is made of them.
    kept = x.value if kernel.perturbed else None
    output, transformed = _by_kind(x.value, kernel.value, strides, pads)
    return output, _Residuals(x.value.shape[1:3], kernel.value, transformed, kept)


def _backward(
    strides: Sizes, pads: Pads, residuals: _Residuals, cotangent: Array
) -> tuple[Array, Array | None]:
    sizes, kernel, transformed, x = residuals
    # An array of its own, which a loop can keep: XLA would transpose it each time, or take a slower program.
    phases = _phases(kernel, strides)
    if transformed is None:
        to_x = _to_data(cotangent, phases, sizes, strides, pads)
    else:
        (top, bottom), (left, right) = pads
        around = (2 - top, 2 - bottom), (2 - left, 2 - right)
        to_x = jax.lax.platform_dependent(
            cotangent,
            phases,
            transformed,
            cpu=lambda cotangent, _, transformed: winograd(cotangent, transformed, around, transposed=True),
            default=lambda cotangent, phases, _: _to_data(cotangent, phases, sizes, strides, pads),
        )
    if x is None:
        return to_x, None
    _, to_kernel = jax.vjp(lambda k: _plain(x, k, strides, pads), kernel)
    return to_x, to_kernel(cotangent)[0]


def _to_data(cotangent: Array, phases: Array, sizes: tuple[int, ...], strides: Sizes, pads: Pads) -> Array:
    """The gradient at data of these sizes ("sub-pixel convolution").

    A stride's gaps are not filled with zeros to be multiplied: each of the phases of the input has its own
    taps of the kernel, and they are output channels of one convolution.
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


_convolve.defvjp(_forward, _backward, symbolic_zeros=True)
