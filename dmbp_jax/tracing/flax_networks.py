"""What is built with flax, as `function(params, images)`: modules of nnx and linen, a `TrainState`, the Flax
models of transformers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from dmbp_jax.checks import InputError
from dmbp_jax.tracing.loaded import is_a, refuse_changes


def of_flax(network: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    """The function and its parameters, or None for what is not flax's.

    Raises `InputError` for a linen module without its variables.
    """
    if is_a(network, "flax.nnx", "Module"):
        from flax import nnx

        structure, state = nnx.split(network)
        return _Nnx(structure), state
    if is_a(network, "flax.training.train_state", "TrainState"):
        return _of_train_state(network)
    if is_a(network, "transformers.modeling_flax_utils", "FlaxPreTrainedModel"):
        return _Transformers(network), network.params
    if is_a(network, "flax.linen", "Module"):
        raise InputError("a linen module has no parameters of its own: give gated((module, variables))")
    return _of_parts(*network) if isinstance(network, tuple) and len(network) > 1 else None


def _of_parts(first: Any, *others: Any) -> tuple[Callable[[Any, Any], Any], Any] | None:
    """Of what `nnx.split` gives, or of a linen module with its variables."""
    if is_a(first, "flax.nnx", "GraphDef"):
        from flax import nnx

        return _Nnx(first), nnx.merge_state(*others)
    if len(others) != 1:
        return None
    if is_a(others[0], "flax.linen", "Module"):
        raise InputError("the pair is the other way round: give gated((module, variables))")
    return (_linen(first), others[0]) if is_a(first, "flax.linen", "Module") else None


@dataclasses.dataclass(frozen=True)
class _Nnx:
    """What a module of flax's nnx computes; equal for two of one structure, whatever their parameters."""

    structure: Any

    def __call__(self, params: Any, images: Any) -> Any:
        from flax import nnx

        # The module may write into what it is merged from.
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


def _of_train_state(state: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """Its function, and what of it are variables; `params` may hold all of them, as `init` returns them."""
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
    """What a Flax model of transformers computes when it is called: images with their channels first."""

    model: Any

    def __call__(self, params: Any, images: Any) -> Any:
        return self.model(images, params=params, train=False)
