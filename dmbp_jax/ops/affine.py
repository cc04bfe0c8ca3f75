"""Convolution and linear layer, NHWC, with PyTorch's padding."""

from jaxtyping import Array, Inexact

from dmbp_jax.ops.convolve import convolve


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


def linear(
    x: Inexact[Array, "n i"], kernel: Inexact[Array, "i o"], bias: Inexact[Array, "o"]
) -> Inexact[Array, "n o"]:
    """`x kernel + bias`."""
    return x @ kernel + bias[None, :]
