"""Class sensitivity: Rebuffi, Fong, Ji, Vedaldi, "There and Back Again: Revisiting Backpropagation Saliency
Methods", CVPR 2020.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax.checks import InputError


class LikelyClasses(NamedTuple):
    """The two classes of an image whose heat maps should differ most."""

    most: Int[Array, "..."]
    """Index of the most likely class."""
    least: Int[Array, "..."]
    """Index of the least likely class."""


def most_and_least_likely(logits: Float[Array | np.ndarray, "*n k"]) -> LikelyClasses:
    """The most and the least likely class of each image, from `(k,)` or `(n, k)` logits; on ties the first.

    Class sensitivity is `dmbp_jax.metrics.rank_correlation` between the heat maps of these two: near 0 or
    below for a method whose map depends on the class, 1 for one whose map does not.

    Raises `InputError` for a network of one class, of which these are the same.

    >>> most_and_least_likely(jnp.asarray([1.0, 4.0, -2.0, 4.0]))
    LikelyClasses(most=Array(1, dtype=int32), least=Array(2, dtype=int32))
    """
    values = jnp.asarray(logits)
    if values.shape[-1] < 2:
        raise InputError(
            f"the most and the least likely class differ where there are at least 2, got {values.shape[-1]}"
        )
    return LikelyClasses(most=values.argmax(axis=-1), least=values.argmin(axis=-1))
