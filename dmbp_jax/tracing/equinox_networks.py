"""Modules of equinox as `function(params, images)`, with a state and a random key if they take them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from dmbp_jax.checks import InputError
from dmbp_jax.tracing.loaded import is_a, refuse_changes

_INFERENCE = "equinox.nn.inference_mode(model)"


def of_equinox(network: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    """The function and its parameters of a module, or of `(module, state)`; None for something else."""
    is_pair = (
        isinstance(network, tuple)
        and len(network) == 2
        and is_a(network[0], "equinox", "Module")
        and is_a(network[1], "equinox.nn", "State")
    )
    if not (is_pair or is_a(network, "equinox", "Module")):
        return None
    import equinox

    module = network[0] if is_pair else network
    state = _parameters(module).get("state")
    if state is not None and state.default is state.empty and not is_pair:
        raise InputError("the module takes a state: give gated((model, state)), of eqx.nn.make_with_state")
    arrays, rest = equinox.partition(network, equinox.is_array)
    leaves, structure = jax.tree.flatten(rest)
    return _Equinox(tuple(leaves), structure), arrays


@dataclasses.dataclass(frozen=True)
class _Equinox:
    """What an equinox module computes for one example, on a batch."""

    leaves: tuple[Any, ...]
    structure: Any

    def __call__(self, params: Any, images: Any) -> Any:
        import equinox

        rest = jax.tree.unflatten(self.structure, self.leaves)
        try:
            network = equinox.combine(params, rest)
        except ValueError as error:
            raise InputError("params are not this module's: take those of gated(model)") from error
        module, *state = network if isinstance(network, tuple) else (network,)
        before = jax.tree.leaves(state)  # of a state that has been written to, nothing can be read any more
        options = {"key": _key_that_draws_nothing()} if "key" in _parameters(module) else {}

        def one(image: Any) -> Any:
            outputs = module(image, *state, **options)
            if not state:
                return outputs
            outputs, after = outputs
            refuse_changes(before, after, _INFERENCE)
            return outputs

        try:
            return jax.vmap(one)(images)
        except NameError as error:
            if "unbound axis" not in str(error):
                raise
            raise InputError(
                "the network has a side effect: it averages over the batch, as batch-norm in training mode "
                f"does; switch it to evaluation, {_INFERENCE} ({error})"
            ) from error


def _parameters(module: Any) -> Any:
    return inspect.signature(type(module).__call__).parameters


@functools.cache
def _random_without_draws() -> Any:
    """A kind of random key that can be divided, but not drawn from."""

    def bits(*_: Any) -> Any:
        raise InputError(
            "the network has a side effect: it draws random numbers, as dropout in training mode does; "
            f"switch it to evaluation, {_INFERENCE}, or equinox.Partial(model, inference=True)"
        )

    return define_prng_impl(
        key_shape=(1,),
        seed=lambda _: jnp.zeros(1, jnp.uint32),
        split=lambda _, shape: jnp.zeros((*shape, 1), jnp.uint32),
        random_bits=bits,
        fold_in=lambda key, _: key,
        name="draws_nothing",
        tag="nil",
    )


def _key_that_draws_nothing() -> jax.Array:
    return jax.random.key(0, impl=_random_without_draws())
