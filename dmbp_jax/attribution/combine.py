"""How the maps of several sites become one: Rebuffi et al., "There and Back Again: Revisiting Backpropagation
Saliency Methods", CVPR 2020, the part on combining saliency maps of different layers."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.ops import min_max, upsample

COMBINATIONS = ("geometric_mean", "sum")
WEIGHTINGS = ("uniform", "linear")


def combine_maps(
    maps: Sequence[Float[Array, "_ _"]],
    size: tuple[int, int],
    *,
    combine: str = "geometric_mean",
    weights: str | tuple[float | int, ...] = "uniform",
) -> Float[Array, "h w"]:
    """One map of `size` from the maps of one or more sites, which may have a size each.

    Every map `m_j` is upsampled bilinearly and scaled to [0, 1] by its minimum and maximum. With weights
    `w_j` that sum to 1 the result, in [0, 1] too, is `prod_j m_j ** w_j` (`"geometric_mean"`) or
    `sum_j w_j m_j` (`"sum"`).

    - A single map is upsampled and nothing else: it keeps its unit and its sign.
    - A map that is constant (up to rounding) says nothing about where. It is left out and the other weights
      grow in proportion; as zeros it would make the geometric mean zero everywhere. If all are constant the
      result is zeros.

    Args:
        maps: the maps, in the order of the network's forward pass.
        size: rows and columns of the result.
        combine: `"geometric_mean"` or `"sum"`.
        weights: `"uniform"`; `"linear"`, proportional to 1, 2, 3, ..., so that later sites weigh more; or one
            number per map, none below 0, which are divided by their sum.

    Raises:
        InputError: unknown option, no map, or weights that do not fit.

    >>> early, late = jnp.asarray([[0.0, 1.0], [3.0, 4.0]]), jnp.asarray([[0.0, 1.0], [0.0, 1.0]])
    >>> combine_maps((early, late), (2, 2), combine="sum", weights=(1, 3)).tolist()
    [[0.0, 0.8125], [0.1875, 1.0]]
    """
    check_choice("combine", combine, COMBINATIONS)
    shares = site_weights(weights, len(maps))
    large = [upsample(one[:, :, None], size)[:, :, 0] for one in maps]
    if len(large) == 1:
        return large[0]
    stack = jnp.stack([min_max(one) for one in large])
    counted = jnp.stack([_varies(one) for one in large])
    kept = jnp.where(counted, jnp.asarray(shares, stack.dtype), 0)
    total = kept.sum()
    kept = (kept / jnp.where(total > 0, total, 1))[:, None, None]
    if combine == "sum":
        return (kept * stack).sum(axis=0)
    # Where a map is least it is 0 for every image nearby; the power's own derivative there is infinite.
    zero = (stack == 0) & (kept > 0)
    powers = jnp.where(zero, 0, jnp.power(jnp.where(zero, 1, stack), kept))
    return jnp.where(total > 0, powers.prod(axis=0), 0)


def site_weights(weights: str | tuple[float | int, ...], count: int) -> tuple[float, ...]:
    """The weights of `count` sites, which sum to 1; see `combine_maps`.

    >>> site_weights("uniform", 4), site_weights((1, 3), 2)
    ((0.25, 0.25, 0.25, 0.25), (0.25, 0.75))

    Raises:
        InputError: an unknown name, no site, another number of weights than of sites, or weights that are
            negative, not finite or all zero.
    """
    if count < 1:
        raise InputError("there must be at least one site")
    if isinstance(weights, str):
        check_choice("weights", weights, WEIGHTINGS)
        numbers = [1.0] * count if weights == "uniform" else [index + 1.0 for index in range(count)]
    else:
        numbers = [float(weight) for weight in weights]
        if len(numbers) != count:
            raise InputError(f"got {len(numbers)} weights for {count} sites")
        if not all(math.isfinite(weight) and weight >= 0 for weight in numbers) or not any(numbers):
            raise InputError(f"weights must be finite, none below 0 and one above it, got {weights}")
    return tuple(weight / sum(numbers) for weight in numbers)


def _varies(one: Float[Array, "h w"]) -> Array:
    """Whether a map is more than a constant; interpolation makes a constant differ by a few roundings."""
    return one.max() - one.min() > 8 * float(jnp.finfo(one.dtype).eps) * jnp.abs(one).max()
