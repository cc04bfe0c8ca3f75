"""Sanity checks: randomised layers, and maps of other classes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.ops._programs import fold_in_name, named_tensors
from dmbp_jax.typing import Key, Numbers, Params

# Rank correlation of two heat maps: the measure of the sanity check (Adebayo et al., "Sanity Checks for
# Saliency Maps", NeurIPS 2018) and of class sensitivity (Rebuffi et al., CVPR 2020).


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation of two heat maps, in [-1, 1]; NaN where it is not defined."""

    signed: float
    """The values' correlation."""
    absolute: float
    """The correlation of the magnitudes, without the sign."""


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
    # SciPy warns about these.
    if any(values.size < 2 or np.isnan(values).any() or (values == values[0]).all() for values in (a, b)):
        return float("nan")
    from scipy import stats

    return float(stats.spearmanr(a, b).statistic)


# Randomised layers: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps",
# NeurIPS 2018 (the model parameter randomisation test).

Layer: TypeAlias = str | Sequence[str]
"""A dotted path in a tree of parameters, such as `"layer1.0.conv1"`, which stands for all tensors below it;
or the paths of a layer's tensors, as `dmbp_jax.layer_parameters` finds them in any network."""

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def randomize_layers(key: Key, params: Params, layers: Iterable[Layer]) -> Params:
    """`params` with every tensor of those layers replaced by random numbers; all others are unchanged.

    A tensor `W` becomes `s * N(0, 1)` with `s` the standard deviation of its trained values. The paper says
    "normal distribution" without a scale; with the trained scale, logits and gradients keep their size. Where
    all trained values are equal, such as a bias of one element, `s` is their magnitude; a tensor of zeros
    stays zero.

    Args:
        key: a random key. A tensor's numbers depend on the key and the tensor's path only, not on which other
            layers are randomised.
        params: any tree of arrays. They are not changed.
        layers: see `Layer`. A path's parts are joined by dots, as
            `jax.tree_util.keystr(path, simple=True, separator=".")` writes them.

    Returns:
        A tree of the same structure, shapes and dtypes.

    Raises:
        InputError: a path at which `params` has no tensor.

    >>> params = {"conv": {"bias": jnp.ones(2)}, "fc": {"bias": jnp.arange(3.0)}}
    >>> drawn = randomize_layers(jax.random.key(0), params, ["fc"])
    >>> drawn["conv"]["bias"].tolist(), bool((drawn["fc"]["bias"] == params["fc"]["bias"]).any())
    ([1.0, 1.0], False)
    """
    below = _tensors_below(params)
    chosen = {tensor for layer in layers for tensor in _tensors(layer, below)}
    return _draw(key, params, chosen) if chosen else params


def cascade(
    key: Key, params: Params, layers_from_top: Iterable[AnyLayer]
) -> Iterator[tuple[AnyLayer, Params]]:
    """Cascading randomisation: each layer, with `params` in which all layers down to this one are random.

    As `randomize_layers` of the first layer, of the first two, and so on, from the class layer downwards; one
    set of parameters at a time. The trained `params` themselves are not included: a map is perfectly
    correlated with itself, and an average over the cascade must not count that.

    >>> params = {"conv": {"bias": jnp.arange(2.0)}, "fc": {"bias": jnp.arange(3.0)}}
    >>> [name for name, _ in cascade(jax.random.key(0), params, ["fc", "conv"])]
    ['fc', 'conv']
    """
    below = _tensors_below(params)
    return _cascade(key, params, [(layer, _tensors(layer, below)) for layer in layers_from_top])


def _cascade(
    key: Key, params: Params, layers: list[tuple[AnyLayer, list[str]]]
) -> Iterator[tuple[AnyLayer, Params]]:
    # Apart from `cascade`, so that bad arguments raise when it is called, not when it is iterated.
    result, drawn = params, set[str]()
    for layer, tensors in layers:
        # A tensor that two layers share is drawn once.
        result = _draw(key, result, set(tensors) - drawn)
        drawn.update(tensors)
        yield layer, result


def _tensors_below(params: Params) -> dict[str, list[str]]:
    """For every path of the tree, the paths of the tensors below it."""
    below: dict[str, list[str]] = {}
    for path, _ in named_tensors(params):
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            below.setdefault(".".join(parts[:depth]), []).append(path)
    return below


def _tensors(layer: Layer, below: dict[str, list[str]]) -> list[str]:
    names = [layer] if isinstance(layer, str) else list(layer)
    for name in names:
        check_choice("layer", name, below)
    return [tensor for name in names for tensor in below[name]]


def _draw(key: Key, params: Params, chosen: set[str]) -> Params:
    drawn = [
        _draw_like(fold_in_name(key, path), jnp.asarray(trained)) if path in chosen else trained
        for path, trained in named_tensors(params)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), drawn)


@jax.jit
def _draw_like(key: Key, trained: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # In single precision also where JAX runs in double, so that a key means the same draws.
    noise = jax.random.normal(key, trained.shape, jnp.float32).astype(trained.dtype)
    constant = trained.max() == trained.min()
    return noise * jnp.where(constant, jnp.abs(trained).max(), trained.std())


# Class sensitivity: Rebuffi, Fong, Ji, Vedaldi, "There and Back Again: Revisiting Backpropagation Saliency
# Methods", CVPR 2020.


class LikelyClasses(NamedTuple):
    """The most and the least likely class of an image, whose heat maps should differ most."""

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
        raise InputError(f"class sensitivity needs a network of at least 2 classes, got {values.shape[-1]}")
    return LikelyClasses(most=values.argmax(axis=-1), least=values.argmin(axis=-1))
