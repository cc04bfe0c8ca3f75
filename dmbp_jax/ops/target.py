"""What is explained: one class, or any weighted sum of classes, such as "tabby minus tiger cat"."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.typing import Target


def target_score(logits: Float[Array, "k"], target: Target) -> Float[Array, ""]:
    """The explained number: `logits[target]`, or `<weights, logits>`.

    An index out of range gives NaN, which the result's `finite` flag reports.

    >>> target_score(jnp.asarray([1.0, 5.0]), jnp.asarray(1)).item()
    5.0
    >>> target_score(jnp.asarray([1.0, 5.0]), jnp.asarray([-1.0, 1.0])).item()
    4.0
    """
    if target.ndim == 0:
        in_range = (target >= 0) & (target < logits.shape[0])
        return jnp.where(in_range, logits[target], jnp.nan)
    return jnp.vdot(target.astype(logits.dtype), logits)
