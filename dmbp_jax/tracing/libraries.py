"""What the libraries call a network, as `function(params, images)`; none of them is imported for it."""

import dataclasses
import operator
import sys
from collections.abc import Callable
from typing import Any

import jax

from dmbp_jax.checks import InputError

WANTED = (
    "a flax.nnx.Module, (module, variables) of flax.linen, an equinox.Module, or (function, params) with "
    "function(params, images)"
)


def network_function(network: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """A network as a function and its parameters, a tree of arrays.

    Raises `InputError` for something else.
    """
    if _is(network, "flax.nnx", "Module"):
        from flax import nnx

        structure, state = nnx.split(network)
        return _Nnx(structure), state
    if _is(network, "equinox", "Module"):
        import equinox

        arrays, rest = equinox.partition(network, equinox.is_array)
        leaves, structure = jax.tree.flatten(rest)
        return _Equinox(tuple(leaves), structure), arrays
    if isinstance(network, tuple) and len(network) == 2:
        function, params = network
        if _is(function, "flax.linen", "Module"):
            return _linen(function), params
        if callable(function) and not _is(params, "flax.linen", "Module"):
            return function, params
    if _is(network, "flax.linen", "Module"):
        raise InputError("a linen module has no parameters of its own: give gated((module, variables))")
    raise InputError(f"gated takes {WANTED}; got {type(network).__name__}")


@dataclasses.dataclass(frozen=True)
class _Nnx:
    """What a module of flax's nnx computes; equal for two of one structure, whatever their parameters."""

    structure: Any

    def __call__(self, params: Any, images: Any) -> Any:
        from flax import nnx

        # The module may write into what it is merged from.
        before = jax.tree.leaves(params)
        module = nnx.merge(self.structure, params)
        outputs = module(images)
        after = jax.tree.leaves(nnx.state(module))
        if len(after) != len(before) or any(map(operator.is_not, after, before)):
            raise InputError(
                "the network has a side effect: it changes its own state when it is called, as dropout "
                "and batch-norm in training mode do; switch it to evaluation, model.eval()"
            )
        return outputs


@dataclasses.dataclass(frozen=True)
class _Equinox:
    """What an equinox module computes for one example, on a batch."""

    leaves: tuple[Any, ...]
    structure: Any

    def __call__(self, params: Any, images: Any) -> Any:
        import equinox

        rest = jax.tree.unflatten(self.structure, self.leaves)
        return jax.vmap(equinox.combine(params, rest))(images)


@dataclasses.dataclass(frozen=True)
class _Linen:
    """What a module of flax's linen computes."""

    module: Any

    def __call__(self, params: Any, images: Any) -> Any:
        return self.module.apply(params, images)


def _linen(module: Any) -> Callable[[Any, Any], Any]:
    try:
        hash(module)
    except TypeError:
        # A field that is a list, say: equal to itself alone.
        apply: Callable[[Any, Any], Any] = module.apply
        return apply
    return _Linen(module)


def _is(thing: Any, module: str, name: str) -> bool:
    """Whether `thing` is an object of that class of a library; a library that nobody imported has none."""
    library = sys.modules.get(module)
    return library is not None and isinstance(thing, getattr(library, name))
