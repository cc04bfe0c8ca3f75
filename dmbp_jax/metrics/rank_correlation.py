"""How alike two heat maps are, by the order of their pixels: the measure of the sanity check (Adebayo et al.,
"Sanity Checks for Saliency Maps", NeurIPS 2018) and of class sensitivity (Rebuffi et al., CVPR 2020).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.typing import Numbers


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation of two heat maps, in [-1, 1]; NaN where it is not defined."""

    signed: float
    """The values' correlation."""
    absolute: float
    """Their magnitudes' correlation, which forgets what speaks for the target and what against it."""


def rank_correlation(
    a: Float[Array | np.ndarray, "..."] | Numbers, b: Float[Array | np.ndarray, "..."] | Numbers
) -> RankCorrelation:
    """Spearman's rank correlation of `a` and `b`, pixel by pixel, with and without the sign of the values.

    Pearson's correlation of the pixels' ranks, equal values sharing their mean rank
    (`scipy.stats.spearmanr`). NaN where either map is constant or holds a NaN. Raises `InputError` unless the
    maps, of any shape, have the same one.

    >>> rank_correlation(np.asarray([[-2.0, 1.0, 3.0]]), np.asarray([[-9.0, 0.0, 0.1]]))
    RankCorrelation(signed=1.0, absolute=0.5)
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise InputError(f"the heat maps must have the same shape, got {first.shape} and {second.shape}")
    first, second = first.ravel(), second.ravel()
    return RankCorrelation(_spearman(first, second), _spearman(np.abs(first), np.abs(second)))


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    # SciPy warns of these.
    if any(values.size < 2 or np.isnan(values).any() or (values == values[0]).all() for values in (a, b)):
        return float("nan")
    from scipy import stats

    return float(stats.spearmanr(a, b).statistic)
