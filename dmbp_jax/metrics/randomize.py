"""Layers that forget what they learned: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for
Saliency Maps", NeurIPS 2018 (the model parameter randomisation test).
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from dmbp_jax.checks import check_choice
from dmbp_jax.typing import Key, Params


def randomize_layers(key: Key, params: Params, layers: Iterable[str]) -> Params:
    """`params` with every tensor of the named layers drawn anew; all others are handed on as they are.

    A tensor `W` becomes `s * N(0, 1)` with `s` the standard deviation of its trained values. The paper says
    "normal distribution" and no more; with the trained scale, neither the size of the logits nor that of
    the gradients decides the outcome. Where the trained values are all the same number, such as a bias of one
    element, `s` is that number's magnitude; a tensor of zeros so stays zero, having nothing to forget.

    Args:
        key: a random key. A tensor's draw depends on the key and the tensor's own name only, and not on which
            other layers are drawn.
        params: nested dicts of arrays. They are not changed.
        layers: dotted module paths such as `"layer1.0.conv1"`. A module of several layers, such as
            `"layer1"`, stands for all of them.

    Returns:
        Nested dicts of the same names, shapes and dtypes.

    Raises:
        InputError: a name that is no module of `params`.

    >>> params = {"conv": {"bias": jnp.ones(2)}, "fc": {"bias": jnp.arange(3.0)}}
    >>> drawn = randomize_layers(jax.random.key(0), params, ["fc"])
    >>> drawn["conv"]["bias"].tolist(), bool((drawn["fc"]["bias"] == params["fc"]["bias"]).any())
    ([1.0, 1.0], False)
    """
    result = params
    for name in _check_layers(params, layers):
        result = _redraw(key, params, result, name)
    return result


def cascade(key: Key, params: Params, layers_from_top: Iterable[str]) -> Iterator[tuple[str, Params]]:
    """Cascading randomisation: each layer's name, with `params` whose layers down to this one are drawn anew.

    As `randomize_layers` of the first layer, of the first two, and so on, from the class layer downwards; one
    set of parameters at a time. The trained `params` themselves are not among them: a map is always perfectly
    correlated with itself, and an average over the cascade must not count that.

    >>> params = {"conv": {"bias": jnp.arange(2.0)}, "fc": {"bias": jnp.arange(3.0)}}
    >>> [name for name, _ in cascade(jax.random.key(0), params, ["fc", "conv"])]
    ['fc', 'conv']
    """
    return _cascade(key, params, _check_layers(params, layers_from_top))


def _cascade(key: Key, params: Params, names: list[str]) -> Iterator[tuple[str, Params]]:
    # Apart from `cascade`, which so complains of its arguments when it is called and not when it is walked.
    result = params
    for name in names:
        result = _redraw(key, params, result, name)
        yield name, result


def _check_layers(params: Params, layers: Iterable[str]) -> list[str]:
    names, known = list(layers), set(_modules(params))
    for name in names:
        check_choice("layer", name, known)
    return names


def _modules(params: Params, prefix: str = "") -> Iterator[str]:
    """The dotted path of every module, outer ones before those within."""
    for name, child in params.items():
        if isinstance(child, Mapping):
            yield prefix + name
            yield from _modules(child, f"{prefix}{name}.")


def _redraw(key: Key, trained: Params, params: Params, name: str) -> Params:
    """`params` with the layer drawn anew at the scale of `trained`, sharing everything else."""
    layer: Any = trained
    for part in name.split("."):
        layer = layer[part]
    return _put(params, name.split("."), _draw(key, layer, name))


def _put(params: Params, path: list[str], module: Params) -> Params:
    name, *rest = path
    return {**params, name: _put(params[name], rest, module) if rest else module}


def _draw(key: Key, node: Any, path: str) -> Any:
    if isinstance(node, Mapping):
        return {name: _draw(key, child, f"{path}.{name}") for name, child in node.items()}
    # Not Python's `hash`, which is another in every process.
    return _draw_like(key, jnp.uint32(zlib.crc32(path.encode())), jnp.asarray(node))


@jax.jit
def _draw_like(key: Key, name: UInt32[Array, ""], trained: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # In single precision also where JAX runs in double, so that a key means the same draws.
    noise = jax.random.normal(jax.random.fold_in(key, name), trained.shape, jnp.float32).astype(trained.dtype)
    constant = trained.max() == trained.min()
    return noise * jnp.where(constant, jnp.abs(trained).max(), trained.std())
