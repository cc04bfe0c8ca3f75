"""Networks of flax, equinox, haiku, Keras and transformers as functions of parameters and images."""

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from dmbp_jax._checks import NO_TORCH, InputError, is_torch, kind_of
from dmbp_jax._gated.program import is_a, refuse_changes

# Modules of equinox as `function(params, images)`, with a state and a random key if they take them.

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
    """An equinox module for one example, as a function of a batch."""

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
    """A random key type that can be split, but raises when numbers are drawn."""

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


# Networks of flax as `function(params, images)`: modules of nnx and linen, a `TrainState`, the Flax models of
# transformers.


def of_flax(network: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    """The function and its parameters, or None for an object that is not flax's.

    Raises `InputError` for a linen module without its variables.
    """
    if is_a(network, "flax.nnx", "Module"):
        from flax import nnx

        return _of_split(*nnx.split(network))
    if is_a(network, "flax.training.train_state", "TrainState"):
        return _of_train_state(network)
    if is_a(network, "transformers.modeling_flax_utils", "FlaxPreTrainedModel"):
        return _Transformers(network), network.params
    if is_a(network, "flax.linen", "Module"):
        raise InputError("a linen module has no parameters of its own: give gated((module, variables))")
    return _of_parts(*network) if isinstance(network, tuple) and len(network) > 1 else None


def _of_parts(first: Any, *others: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    """The function and parameters of the result of `nnx.split`, or of a linen module with its variables."""
    if is_a(first, "flax.nnx", "GraphDef"):
        return _of_split(first, *others)
    if len(others) != 1:
        return None
    if is_a(others[0], "flax.linen", "Module"):
        raise InputError("the pair is the other way round: give gated((module, variables))")
    return (_linen(first), others[0]) if is_a(first, "flax.linen", "Module") else None


def _of_split(structure: Any, *states: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """Of what `nnx.split` gives, with the values that the parameters have now.

    The states hold the module's own variables, in which a later training step writes.
    """
    from flax import nnx

    return _Nnx(structure), jax.tree.map(lambda value: value, nnx.merge_state(*states))


@dataclasses.dataclass(frozen=True)
class _Nnx:
    """A flax nnx module as a function; equal for modules of one structure, whatever their parameters."""

    structure: Any

    def __call__(self, params: Any, images: Any) -> Any:
        from flax import nnx

        # The module may write into the arrays from which it is merged.
        before = jax.tree.leaves(params)
        try:
            module = nnx.merge(self.structure, params)
        except Exception as error:
            raise InputError(
                "params are not all that the module holds: take those of gated(model), or nnx.state(model) "
                f"with its batch statistics ({error})"
            ) from error
        outputs = module(images)
        refuse_changes(before, nnx.state(module), "model.eval()")
        return outputs


@dataclasses.dataclass(frozen=True)
class _Linen:
    """A flax linen module as a function."""

    module: Any

    def __call__(self, params: Any, images: Any) -> Any:
        return self.module.apply(params, images)


def _linen(module: Any) -> Callable[[Any, Any], Any]:
    try:
        hash(module)
    except TypeError:
        # Not hashable, for example with a field that is a list: equal to itself only.
        apply: Callable[[Any, Any], Any] = module.apply
        return apply
    return _Linen(module)


def _of_train_state(state: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """Its function and its variables; `params` may hold all of them, as `init` returns them."""
    module = getattr(state.apply_fn, "__self__", None)
    is_apply = getattr(state.apply_fn, "__name__", "") == "apply"
    linen = is_apply and is_a(module, "flax.linen", "Module")
    variables = state.params
    if not (isinstance(variables, Mapping) and "params" in variables):
        variables = {"params": state.params}
    if getattr(state, "batch_stats", None) is not None:
        variables = {**variables, "batch_stats": state.batch_stats}
    return _linen(module) if linen else state.apply_fn, variables


@dataclasses.dataclass(frozen=True)
class _Transformers:
    """A Flax model of transformers as a function; it takes images with channels first."""

    model: Any

    def __call__(self, params: Any, images: Any) -> Any:
        return self.model(images, params=params, train=False)


# A network of any library as `function(params, images)`. None of the libraries is imported for it.

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
    """A function transformed by haiku, without random numbers."""

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
    """A Keras model in evaluation mode as a function; equal for the same model, whatever its variables'
    values."""

    model: Any

    def __call__(self, params: Any, images: Any) -> Any:
        outputs, _ = self.model.stateless_call(*params, images, training=False)
        return outputs
