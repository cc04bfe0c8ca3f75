"""NormGrad, selective NormGrad, and how the maps of several layers are combined."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax._checks import InputError, check_choice, check_is_image
from dmbp_jax.ops import upsample
from dmbp_jax.ops._derivatives import first_max, square_root
from dmbp_jax.ops._resample import min_max
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.rules import ACTIVATIONS, Site, find_sites, tap
from dmbp_jax.rules._tap import choose_map, lay_out
from dmbp_jax.typing import Apply, Image, Key, Params, Target

# How the maps of several sites become one: Rebuffi et al., "There and Back Again: Revisiting Backpropagation
# Saliency Methods", CVPR 2020, the part on combining saliency maps of different layers.

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
    - A map that is constant (up to rounding) is left out, and the other weights grow in proportion; scaled to
    zeros it would make the geometric mean zero everywhere. If all are constant the result is zeros.

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
    # At its minimum a map is 0 for every image nearby, while the power's derivative is infinite there.
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
        raise InputError("no site given: name one or several")
    if isinstance(weights, str):
        check_choice("weights", weights, WEIGHTINGS)
        numbers = [1.0] * count if weights == "uniform" else [index + 1.0 for index in range(count)]
    else:
        numbers = [float(weight) for weight in weights]
        if len(numbers) != count:
            raise InputError(f"got {len(numbers)} weights for {count} sites")
        if not all(math.isfinite(weight) and weight >= 0 for weight in numbers) or not any(numbers):
            raise InputError(f"weights must be finite, not negative and not all zero, got {weights}")
    return tuple(weight / sum(numbers) for weight in numbers)


def _varies(one: Float[Array, "h w"]) -> Array:
    """Whether a map varies by more than the rounding errors of interpolation."""
    return one.max() - one.min() > 8 * float(jnp.finfo(one.dtype).eps) * jnp.abs(one).max()


# The NormGrad family: Rebuffi, Fong, Ji, Vedaldi, "There and Back Again: Revisiting Backpropagation Saliency
# Methods", CVPR 2020.
#
# A *virtual identity* layer is inserted after a site. The gradient of its weights is a sum over positions
# `u`; the size of the term of `u` is the importance of `u`. With the activation `x_u` and the gradient `g_u`
# of the explained score there, and the zero-padded 3x3 patch `p_u` of activations:
#
# | `virtual_layer` | weight gradient at `u` |
# |---|---|
# | `"bias"` | `g_u` |
# | `"scaling"` | `x_u * g_u`, channel by channel |
# | `"conv1x1"` | `g_u x_u^T` |
# | `"conv3x3"` | `g_u p_u^T`, over the nine positions of the patch |
#
# | `aggregation` | of the weight gradient's entries |
# |---|---|
# | `"norm"` | the (Frobenius) norm |
# | `"sum"` | the sum, which has a sign |
# | `"positive_norm"` | the norm of the positive ones |
# | `"max"` | the largest magnitude |
#
# Known methods are members (Table 2): bias and max is Simonyan's gradient; scaling and sum is the linear
# approximation, and Grad-CAM (with a ReLU) if the gradient is averaged over positions.

VIRTUAL_LAYERS = ("bias", "scaling", "conv1x1", "conv3x3")
AGGREGATIONS = ("norm", "sum", "positive_norm", "max")


def virtual_identity(
    activation: Float[Array, "h w c"],
    gradient: Float[Array, "h w c"],
    virtual_layer: str = "conv1x1",
    aggregation: str = "norm",
) -> Float[Array, "h w"]:
    """The size of every position's term in the weight gradient of a virtual identity layer; see the module.

    The matrix `g_u x_u^T` is never formed: its norm is `|g_u| |x_u|`, its sum `(sum g_u) (sum x_u)`, its
    largest magnitude `max|g_u| max|x_u|`, and the norm of its positive entries
    `sqrt(|g_u+|^2 |x_u+|^2 + |g_u-|^2 |x_u-|^2)`. In a patch, squares and sums add up over the nine
    positions: `|g_u| sqrt(boxsum3x3(|x|^2)_u)` is the norm.

    Raises `InputError` for an unknown `virtual_layer` or `aggregation`.

    >>> virtual_identity(jnp.asarray([[[3.0, 4.0]]]), jnp.asarray([[[0.0, -2.0]]])).tolist()
    [[10.0]]
    """
    check_choice("virtual_layer", virtual_layer, VIRTUAL_LAYERS)
    check_choice("aggregation", aggregation, AGGREGATIONS)
    if virtual_layer in ("bias", "scaling"):
        return _aggregate(gradient if virtual_layer == "bias" else activation * gradient, aggregation)

    def patch(of: Float[Array, "h w c"], how: str) -> Float[Array, "h w"]:
        return _aggregate(of, how) if virtual_layer == "conv1x1" else _aggregate_patches(of, how)

    if aggregation == "positive_norm":
        rising, falling = (
            _aggregate(sign * gradient, aggregation) * patch(sign * activation, aggregation)
            for sign in (1, -1)
        )
        return jnp.hypot(rising, falling)
    return _aggregate(gradient, aggregation) * patch(activation, aggregation)


def norm_grad(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    virtual_layer: str = "conv1x1",
    aggregation: str = "norm",
    site: str | tuple[str, ...] | None = None,
    combine: str = "geometric_mean",
    weights: str | tuple[float | int, ...] = "uniform",
    token_grid: tuple[int, int] | None = None,
) -> Attribution:
    """NormGrad, `|x_u| |g_u|` at each position `u` of a site; other members of the family by the options.

    An identity 1x1 convolution after the site, and the norm of each position's part in its weight gradient
    (Table 2). `g` is the gradient of the target's score, the logit, as in the authors' code (TorchRay).

    If the site is averaged directly afterwards, as the last stage of a ResNet, `g_u` is the same at every
    position, and the maps of all classes are proportional to `|x_u|`. Selective NormGrad, earlier sites, and
    `meta_saliency` depend on the class there too.

    Args:
        apply: the network.
        params: its parameters.
        image: `(h, w, c)`, as the network takes it.
        target: a class index, or one weight per class: `(k,)`.
        key: not used; nothing is drawn.
        virtual_layer: `"bias"`, `"scaling"`, `"conv1x1"` or `"conv3x3"`.
        aggregation: `"norm"`, `"sum"`, `"positive_norm"` or `"max"`.
        site: a site's name, or several; by default the last ReLU with a map below the last affine layer, the
            class scores. (SqueezeNet has two of equal depth there, each with half of the channels, and this
            is the second. Its class scores are a map themselves, at which `|x| |g|` does not depend on the
            class.)
        combine: how the maps of several sites become one, `"geometric_mean"` or `"sum"`; see `combine_maps`.
        weights: of several sites, in the order of `site`: `"uniform"`, `"linear"` or one number each.
        token_grid: `(rows, columns)` of the tokens of a transformer, whose `site` is then named.

    Returns:
        `values` of shape `(h, w, 1)`: the map of one site, upsampled to the image, or the combination of
        several, in [0, 1]. `finite` also covers the score and the maps before their combination.

    Raises:
        InputError: unknown option or site, a site whose output is not a map, or weights that do not fit.

    >>> def apply(params, images, *, rule):
    ...     return rule.relu("relu", images[:, ::2, ::2] @ params["w"]).mean(axis=(1, 2))
    >>> params = {"w": jnp.asarray([[3.0, 4.0]])}
    >>> a = norm_grad(apply, params, jnp.ones((2, 4, 1)), jnp.asarray(1))
    >>> a.values.shape, a.heatmap[0].tolist()
    ((2, 4, 1), [2.5, 2.5, 2.5, 2.5])
    """
    check_is_image(image.shape, "norm_grad")
    tapped_sites = _map_sites(apply, params, image, site, token_grid)
    tapped = tap(apply, params, image, target, tapped_sites)
    maps = [
        virtual_identity(
            lay_out(tapped.activations[site.name], token_grid),
            lay_out(tapped.gradients[site.name], token_grid),
            virtual_layer,
            aggregation,
        ).astype(image.dtype)
        for site in tapped_sites
    ]
    values = combine_maps(maps, (image.shape[0], image.shape[1]), combine=combine, weights=weights)
    explanation = attribution(values[:, :, None])
    # Scaling to [0, 1] hides values that are not finite; a target out of range changes the score only.
    finite = [explanation.finite, jnp.isfinite(tapped.score), *(jnp.isfinite(one).all() for one in maps)]
    return dataclasses.replace(explanation, finite=jnp.stack(finite).all())


def selective_norm_grad(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    site: str | tuple[str, ...] | None = None,
    combine: str = "geometric_mean",
    weights: str | tuple[float | int, ...] = "uniform",
    token_grid: tuple[int, int] | None = None,
) -> Attribution:
    """Selective NormGrad, `|(x_u * g_u)+|`: an identity scaling layer, and the norm of the positive entries.

    Table 2 of the paper. Options, result and errors are those of `norm_grad`.

    >>> def apply(params, images, *, rule):
    ...     return rule.relu("relu", images[:, ::2, ::2] @ params["w"]).mean(axis=(1, 2))
    >>> params = {"w": jnp.asarray([[3.0, 4.0]])}
    >>> a = selective_norm_grad(apply, params, jnp.ones((2, 4, 1)), jnp.asarray(1))
    >>> a.heatmap[0].tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    check_is_image(image.shape, "selective_norm_grad")
    return norm_grad(
        apply,
        params,
        image,
        target,
        key=key,
        virtual_layer="scaling",
        aggregation="positive_norm",
        site=site,
        combine=combine,
        weights=weights,
        token_grid=token_grid,
    )


def _aggregate(entries: Float[Array, "h w c"], aggregation: str) -> Float[Array, "h w"]:
    if aggregation == "sum":
        return entries.sum(axis=2)
    if aggregation == "max":
        return first_max(jnp.abs(entries), 2)
    kept = jnp.maximum(entries, 0) if aggregation == "positive_norm" else entries
    return square_root((kept**2).sum(axis=2))


def _aggregate_patches(entries: Float[Array, "h w c"], aggregation: str) -> Float[Array, "h w"]:
    """As `_aggregate`, over the channels of the 3x3 patch around each position, zero-padded."""
    if aggregation == "max":
        # Magnitudes are never below the padding's zeros, so padding with -inf gives the same maximum.
        return _window(_aggregate(entries, "max"), -jnp.inf, jax.lax.max)
    if aggregation == "sum":
        return _window(_aggregate(entries, "sum"), 0.0, jax.lax.add)
    kept = jnp.maximum(entries, 0) if aggregation == "positive_norm" else entries
    return square_root(_window((kept**2).sum(axis=2), 0.0, jax.lax.add))


def _window(
    one: Float[Array, "h w"], start: float, reduce: Callable[[Array, Array], Array]
) -> Float[Array, "h w"]:
    return jax.lax.reduce_window(one, start, reduce, (3, 3), (1, 1), "SAME")


def _map_sites(
    apply: Apply,
    params: Params,
    image: Image,
    names: str | tuple[str, ...] | None,
    token_grid: tuple[int, int] | None,
) -> Sequence[Site]:
    sites = find_sites(apply, params, image)
    if names is not None or token_grid is not None:
        named = (names,) if names is None or isinstance(names, str) else names
        return [choose_map(sites, name, token_grid) for name in named]
    # Class scores that are a map, as SqueezeNet's, have the same gradient everywhere, so that |x| |g| would
    # be the same map for every class.
    scores = max((index for index, site in enumerate(sites) if site.kind == "affine"), default=len(sites))
    hidden = sites[:scores]
    has_map = any(site.kind in ACTIVATIONS and len(site.shape) == 3 for site in hidden)
    return [choose_map(hidden if has_map else sites)]
