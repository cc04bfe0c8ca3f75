"""What the libraries call a network, as `function(params, images)`; none of them is imported for it."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any

from dmbp_jax.checks import NO_TORCH, InputError, is_torch, kind_of
from dmbp_jax.tracing.equinox_networks import of_equinox
from dmbp_jax.tracing.flax_networks import of_flax
from dmbp_jax.tracing.loaded import is_a, refuse_changes

WANTED = (
    "a flax.nnx.Module, (module, variables) of flax.linen, a TrainState, an equinox.Module, a Keras model, "
    "(transformed, params) of haiku, a Flax model of transformers, or (function, params) with "
    "function(params, images)"
)


def network_function(network: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """A network as a function and its parameters, a tree of arrays.

    Raises `InputError` for something else.
    """
    for known in (of_flax, of_equinox, _of_haiku, _of_keras, _of_function):
        found = known(network)
        if found is not None:
            return found
    raise InputError(f"gated takes {WANTED}; got {kind_of(network)}{_hint(network)}")


def _hint(network: Any) -> str:
    if isinstance(network, type):
        return ": give an object of it"
    if is_torch(network):
        return f": {NO_TORCH}"
    if hasattr(network, "apply") and hasattr(network, "params"):
        return ", whose apply takes a rule as it is: explain(model.apply, model.params, ...)"
    return ""


def _of_function(network: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    if not (isinstance(network, tuple) and len(network) == 2 and callable(network[0])):
        return None
    return network


def _of_haiku(network: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    if any(is_a(network, "haiku", name) for name in ("Transformed", "TransformedWithState")):
        raise InputError(
            "what haiku transforms has no parameters of its own: give gated((transformed, params)), or "
            "gated((transformed, (params, state))) of transform_with_state"
        )
    if not isinstance(network, tuple) or len(network) != 2:
        return None
    transformed, params = network
    if is_a(transformed, "haiku", "Transformed"):
        return _Haiku(transformed, False), params
    if not is_a(transformed, "haiku", "TransformedWithState"):
        return None
    if not isinstance(params, tuple) or len(params) != 2:
        raise InputError("transform_with_state needs both: give gated((transformed, (params, state)))")
    return _Haiku(transformed, True), params


@dataclasses.dataclass(frozen=True)
class _Haiku:
    """What a function that haiku has transformed computes, without random numbers."""

    transformed: Any
    has_state: bool

    def __call__(self, params: Any, images: Any) -> Any:
        takes_key = "rng" in inspect.signature(self.transformed.apply).parameters
        fixed = (*(params if self.has_state else (params,)), *((None,) if takes_key else ()))
        outputs = self.transformed.apply(*fixed, images)
        if self.has_state:
            outputs, after = outputs
            refuse_changes(
                params[1], after, "by transforming a function that calls it with is_training=False"
            )
        return outputs


def _of_keras(network: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    if not is_a(network, "keras", "Model"):
        return None
    backend = sys.modules["keras"].config.backend()
    if backend != "jax":
        raise InputError(
            f"Keras runs on {backend} here, and not on JAX: set the environment variable KERAS_BACKEND=jax "
            "before keras is imported"
        )
    if not network.built:
        raise InputError("the Keras model has no variables yet: call it once, model(images[:1])")
    both = (network.trainable_variables, network.non_trainable_variables)
    return _Keras(network), tuple([variable.value for variable in variables] for variables in both)


@dataclasses.dataclass(frozen=True)
class _Keras:
    """What a Keras model computes in evaluation; equal for one model, whatever its variables hold."""

    model: Any

    def __call__(self, params: Any, images: Any) -> Any:
        outputs, _ = self.model.stateless_call(*params, images, training=False)
        return outputs
