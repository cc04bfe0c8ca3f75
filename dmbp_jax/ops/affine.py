"""Convolution and linear layer, NHWC, with PyTorch's padding."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact


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
        raise ValueError(f"the layer takes {kernel.shape[2]} channels, got an input {x.shape}")
    return (
        convolve(x, kernel, (stride, stride), ((padding, padding), (padding, padding)))
        + bias[None, None, None, :]
    )


Sizes = tuple[int, int]
Pads = tuple[Sizes, Sizes]


def convolve(
    x: Inexact[Array, "n h w i"], kernel: Inexact[Array, "kh kw i o"], strides: Sizes, pads: Pads
) -> Inexact[Array, "n hh ww o"]:
    """`kernel * x`, zero-padded before and after along rows and columns; fast to differentiate."""
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        # Of the pixels between strides nothing is read, which the backward pass need not convolve either.
        # As a matrix product it is up to twice as fast on a CPU, where XLA does not see that it is one.
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    return _convolve(x, kernel, strides, pads)


def _plain(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=strides, padding=pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


_convolve = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _convolve_forward(
    x: Any, kernel: Any, strides: Sizes, pads: Pads
) -> tuple[Array, tuple[tuple[int, ...], Array, Array | None]]:
    # Mostly only the data's gradient is wanted, for which the data need not be kept.
    kept = x.value if kernel.perturbed else None
    return _plain(x.value, kernel.value, strides, pads), (x.value.shape[1:3], kernel.value, kept)


def _convolve_backward(
    strides: Sizes,
    pads: Pads,
    residuals: tuple[tuple[int, ...], Array, Array | None],
    cotangent: Array,
) -> tuple[Array, Array | None]:
    """As JAX's own, but with the transposed kernel as an array of its own, which a loop can keep.

    Left to itself XLA transposes a kernel each time, or convolves by a slower program instead. A stride's
    gaps are not filled with zeros to be multiplied: each of the `stride^2` phases of the input has its own
    taps of the kernel, and they are output channels of one convolution ("sub-pixel convolution").
    """
    sizes, kernel, x = residuals
    transposed = _phases(kernel, strides)
    around = []
    for size, out, taps, stride, (padding, _) in zip(
        sizes, cotangent.shape[1:3], transposed.shape[:2], strides, pads, strict=True
    ):
        first = padding // stride
        count, before = (size - 1 + padding) // stride + 1 - first, taps - 1 - first
        around.append((before, count + taps - 1 - out - before))
    to_phases = jax.lax.conv_general_dilated(
        cotangent,
        transposed,
        window_strides=(1, 1),
        padding=around,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    n, rows, columns, _ = to_phases.shape
    spread = to_phases.reshape(n, rows, columns, *strides, -1).transpose(0, 1, 3, 2, 4, 5)
    spread = spread.reshape(n, rows * strides[0], columns * strides[1], -1)
    top, left = (before % stride for stride, (before, _) in zip(strides, pads, strict=True))
    to_x = spread[:, top : top + sizes[0], left : left + sizes[1]]
    if x is None:
        return to_x, None
    _, to_kernel = jax.vjp(lambda k: _plain(x, k, strides, pads), kernel)
    return to_x, to_kernel(cotangent)[0]


def _phases(kernel: Array, strides: Sizes) -> Array:
    """The kernel `(ceil(kh / s), ceil(kw / t), o, s t i)` from outputs to the `s t` phases of the input."""
    high, wide, inner, outer = kernel.shape
    down, across = strides
    rows, columns = -(-high // down), -(-wide // across)
    filled = jnp.pad(kernel, ((0, rows * down - high), (0, columns * across - wide), (0, 0), (0, 0)))
    split = filled.reshape(rows, down, columns, across, inner, outer)
    return jnp.flip(split, (0, 2)).transpose(0, 2, 5, 1, 3, 4).reshape(rows, columns, outer, -1)


_convolve.defvjp(_convolve_forward, _convolve_backward, symbolic_zeros=True)


def linear(
    x: Inexact[Array, "n i"], kernel: Inexact[Array, "i o"], bias: Inexact[Array, "o"]
) -> Inexact[Array, "n o"]:
    """`x kernel + bias`."""
    return x @ kernel + bias[None, :]
