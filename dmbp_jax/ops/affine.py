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
    if kernel.shape[:2] == (1, 1) and padding == 0:
        # Of the pixels between strides nothing is read, which the backward pass need not convolve either.
        x, stride = x[:, ::stride, ::stride], 1
    return _convolve(x, kernel, stride, padding) + bias[None, None, None, :]


def _plain(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


_convolve = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _convolve_forward(
    x: Any, kernel: Any, stride: int, padding: int
) -> tuple[Array, tuple[tuple[int, ...], Array, Array | None]]:
    # Mostly only the data's gradient is wanted, for which the data need not be kept.
    kept = x.value if kernel.perturbed else None
    return _plain(x.value, kernel.value, stride, padding), (x.value.shape[1:3], kernel.value, kept)


def _convolve_backward(
    stride: int, padding: int, residuals: tuple[tuple[int, ...], Array, Array | None], cotangent: Array
) -> tuple[Array, Array | None]:
    """As JAX's own, with the transposed kernel as an array of its own, which a loop can keep.

    Left to itself XLA transposes a kernel each time, or convolves by a slower program instead.
    """
    sizes, kernel, x = residuals
    transposed = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    pads = []
    for size, out, window in zip(sizes, cotangent.shape[1:3], kernel.shape[:2], strict=True):
        before = window - 1 - padding
        pads.append((before, size + window - 1 - ((out - 1) * stride + 1) - before))
    to_x = jax.lax.conv_general_dilated(
        cotangent,
        transposed,
        window_strides=(1, 1),
        padding=pads,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    if x is None:
        return to_x, None
    _, to_kernel = jax.vjp(lambda k: _plain(x, k, stride, padding), kernel)
    return to_x, to_kernel(cotangent)[0]


_convolve.defvjp(_convolve_forward, _convolve_backward, symbolic_zeros=True)


def linear(
    x: Inexact[Array, "n i"], kernel: Inexact[Array, "i o"], bias: Inexact[Array, "o"]
) -> Inexact[Array, "n o"]:
    """`x kernel + bias`."""
    return x @ kernel + bias[None, :]
