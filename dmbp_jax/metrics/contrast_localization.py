"""Whether red and blue lie where they should, on two photographs side by side; ours.

DMBP's name promises a *disentangled* map: what speaks for the target apart from what speaks against it. A
difference of two logits, class A's minus class B's, over a photograph of each tells whether that holds, at
both ends of the map: evidence for A is on A's photograph, evidence against it, which is for B, on B's.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax.checks import InputError
from dmbp_jax.typing import Numbers


class ContrastLocalization(NamedTuple):
    """Two shares in [0, 1]; 1 is best, and a map that knows nothing gets the regions' shares of the area."""

    red: float
    """The share of the positive attribution that lies on the target's region; NaN if there is none."""
    blue: float
    """The share of the negative attribution that lies on the other class's region; NaN if there is none."""


def contrast_localization(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    target_region: Bool[Array | np.ndarray, "rows columns"],
    other_region: Bool[Array | np.ndarray, "rows2 columns2"],
) -> ContrastLocalization:
    """The share of the red on the target, and of the blue on the class that it is contrasted with.

    `red = sum_{p in A} max(M_p, 0) / sum_p max(M_p, 0)`, and `blue = sum_{p in B} min(M_p, 0) /
    sum_p min(M_p, 0)`, of a map `M` for the logit of A's class minus that of B's.

    Args:
        heatmap: `(h, w)`, for the difference of both logits.
        target_region: `(h, w)`, where A is: one of the two photographs, or a segmentation of the object.
        other_region: `(h, w)`, where B is.

    Returns:
        Both shares. A map without values on one side has none on that side, NaN, and not a bad one; both are
        NaN if the map is not finite.

    Raises:
        InputError: regions of another shape than the map, empty, or overlapping.

    >>> left = np.asarray([[True, False]])
    >>> contrast_localization(np.asarray([[3.0, 1.0]]), left, ~left)
    ContrastLocalization(red=0.75, blue=nan)
    """
    values = np.asarray(heatmap, np.float64)
    target, other = np.asarray(target_region, bool), np.asarray(other_region, bool)
    for name, region in (("target_region", target), ("other_region", other)):
        if region.shape != values.shape:
            raise InputError(f"{name} must have the map's shape {values.shape}, got {region.shape}")
        if not region.any():
            raise InputError(f"{name} is empty: no pixel is True")
    if (target & other).any():
        raise InputError(f"the regions must not overlap, and {(target & other).sum()} pixels are in both")
    if not np.isfinite(values).all():
        return ContrastLocalization(float("nan"), float("nan"))
    return ContrastLocalization(_share(np.maximum(values, 0), target), _share(np.maximum(-values, 0), other))


def _share(mass: Float[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"]) -> float:
    largest = mass.max()
    if largest == 0:
        return float("nan")
    # Relative to the largest, no sum overflows.
    mass = mass / largest
    return float(mass[region].sum() / mass.sum())
