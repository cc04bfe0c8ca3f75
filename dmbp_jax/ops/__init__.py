"""Array operations of networks and maps, loops as data, and JAX's programs; independent of attribution."""

from dmbp_jax.ops._convolution import BatchNorm, conv2d, fold_batch_norm, linear
from dmbp_jax.ops._derivatives import log_probabilities, probabilities, target_score
from dmbp_jax.ops._pool import adaptive_avg_pool, max_pool
from dmbp_jax.ops._programs import Loop, iterative
from dmbp_jax.ops._resample import gaussian_blur, upsample

__all__ = [
    "BatchNorm",
    "Loop",
    "adaptive_avg_pool",
    "conv2d",
    "fold_batch_norm",
    "gaussian_blur",
    "iterative",
    "linear",
    "log_probabilities",
    "max_pool",
    "probabilities",
    "target_score",
    "upsample",
]
