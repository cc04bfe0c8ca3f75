"""Convolution and linear layer, NHWC, with PyTorch's padding; and batch-norm, which is folded into the
convolution before it, once, at load time."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Inexact

from dmbp_jax.checks import ShapeError
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
    """A frozen batch-norm: `(z - mean) / sqrt(variance + epsilon) * scale + offset`, per channel."""

    scale: Float[np.ndarray, "o"]
    offset: Float[np.ndarray, "o"]
    mean: Float[np.ndarray, "o"]
    variance: Float[np.ndarray, "o"]
    epsilon: float = 1e-5


def fold_batch_norm(
    kernel: Float[np.ndarray, "kh kw i o"], bias: Float[np.ndarray, "o"], norm: BatchNorm
) -> tuple[Float[np.ndarray, "kh kw i o"], Float[np.ndarray, "o"]]:
    """The kernel and bias of the one convolution that equals convolution, then batch-norm.

    `kernel' = kernel * f`, `bias' = (bias - mean) * f + offset` with `f = scale / sqrt(variance + epsilon)`,
    computed in float64 and rounded once.
    """
    factor = norm.scale.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.epsilon)
    folded = kernel.astype(np.float64) * factor
    offset = (bias.astype(np.float64) - norm.mean) * factor + norm.offset
    return folded.astype(kernel.dtype), offset.astype(kernel.dtype)
