"""Stable, readable names of sites: the scopes of an operation and its kind, numbered where repeated."""

from collections import Counter
from typing import TypeAlias

from dmbp_jax.tracing.flatten import Op
from dmbp_jax.tracing.steps import Activation, Choice, FrozenStep, Maximum, Pool, Smooth

_LAYERS = {"conv_general_dilated": "conv", "dot_general": "dense"}
_KINDS = {
    "max": "max",
    "relu": "max",  # one that is no activation: the guard of a normalisation
    "select_n": "where",
    "clamp": "clip",
    "reduce_window_max": "max_pool",
    "reduce_window_min": "min_pool",
    "reduce_max": "max",
    "reduce_min": "min",
}

Asking: TypeAlias = Activation | Pool | Maximum | Choice | FrozenStep | Smooth
"""The steps whose site needs a name."""


class Names:
    """The names given so far."""

    def __init__(self) -> None:
        self.given: Counter[str] = Counter()

    def give(self, step: Asking, op: Op) -> Asking:
        """The step under its name."""
        if isinstance(step, Activation):
            kind = "relu" if step.is_relu else _called(op) or _KINDS.get(op.name, op.name)
        elif isinstance(step, Pool):
            kind = _KINDS[op.name]
        else:
            kind = _called(op) or _KINDS.get(op.name, op.name)
        return step._replace(site=self.unique(".".join((*op.scope, kind))))

    def of_layer(self, op: Op) -> str:
        """A layer's name: that of its scope, if it has one."""
        kind = _LAYERS.get(op.name, "shift")
        parts = (*op.scope, kind) if kind == "shift" or not op.scope else op.scope
        return self.unique(".".join(parts))

    def unique(self, name: str) -> str:
        """`name`, or `name_2`, `name_3`, ... where it has been given before."""
        self.given[name] += 1
        return name if self.given[name] == 1 else f"{name}_{self.given[name]}"


def _called(op: Op) -> str:
    named = [call for call in op.calls if not call.startswith("_")]
    return named[-1] if named and named[-1].isidentifier() and named[-1] != op.name else ""
