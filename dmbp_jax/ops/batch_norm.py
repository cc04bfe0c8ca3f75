"""Frozen batch-norm is affine, so it is folded into the convolution before it, once, at load time."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


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
