"""What is explained: one class, or any weighted sum of classes, such as "tabby minus tiger cat"."""

from typing import get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.typing import OutputActivation, Target


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


def probabilities(
    logits: Float[Array, "*n k"], output: OutputActivation | None = None
) -> Float[Array, "*n k"]:
    """What a softmax or a sigmoid makes of logits.

    `output` None means a softmax of several logits, and of a single one a sigmoid, as the one logit of a
    network for two classes means it. Raises `InputError` for a softmax of one logit, which is 1 for all of
    them.

    >>> probabilities(jnp.asarray([[0.0]])).tolist(), probabilities(jnp.asarray([[0.0, 0.0]])).tolist()
    ([[0.5]], [[0.5, 0.5]])
    """
    return jax.nn.softmax(logits) if _is_softmax(logits, output) else jax.nn.sigmoid(logits)


def log_probabilities(
    logits: Float[Array, "*n k"], output: OutputActivation | None = None
) -> Float[Array, "*n k"]:
    """The logarithms of `probabilities`, exact where these are nearly 0.

    >>> log_probabilities(jnp.asarray([-200.0])).tolist()
    [-200.0]
    """
    return jax.nn.log_softmax(logits) if _is_softmax(logits, output) else jax.nn.log_sigmoid(logits)


def check_output(output: str | None) -> None:
    """Raise `InputError` unless `output` is `"softmax"`, `"sigmoid"` or None.

    >>> check_output("softmx")
    Traceback (most recent call last):
    dmbp_jax.checks.InputError: unknown output 'softmx': did you mean 'softmax'? Known: sigmoid, softmax
    """
    if output is not None:
        check_choice("output", output, get_args(OutputActivation))


def _is_softmax(logits: Array, output: OutputActivation | None) -> bool:
    check_output(output)
    if output == "softmax" and logits.shape[-1] == 1:
        raise InputError(
            "the softmax of one logit is 1 whatever the network says: take 'sigmoid', the default there"
        )
    return output == "softmax" or (output is None and logits.shape[-1] > 1)
