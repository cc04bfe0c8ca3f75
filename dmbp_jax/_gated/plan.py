"""The plan of a program: the kind and the name of each operation, and refusals."""

import contextlib
import itertools
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dmbp_jax._checks import InputError
from dmbp_jax._gated.activations import Facts, Group, find_group
from dmbp_jax._gated.axes import AxesOf, follow_axes
from dmbp_jax._gated.layers import (
    CORNERS,
    ELEMENTWISE,
    MAXIMA,
    ORDERINGS,
    PRODUCTS,
    STRUCTURAL,
    Level,
    find_layers,
    level_of,
    levels_of_results,
)
from dmbp_jax._gated.program import Flat, Op, Value, is_own
from dmbp_jax._gated.steps import (
    Activation,
    Affine,
    Choice,
    FrozenStep,
    Maximum,
    OwnDerivative,
    PlainStep,
    Pool,
    Smooth,
    Step,
    as_pool,
    choice_of,
    elements_of,
)
from dmbp_jax.ops._equations import convolution_of

# Errors while a network is traced, as one message with a remedy.


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Raise `InputError` for code that depends on the values of images, which are unknown during tracing, and
    for a linen module that updates its state or does not find its variables."""
    flax_errors = sys.modules.get("flax.errors")
    changes_state: tuple[type[Exception], ...] = ()
    lacks_variables: tuple[type[Exception], ...] = ()
    if flax_errors is not None:
        changes_state = (flax_errors.ModifyScopeVariableError,)
        lacks_variables = (flax_errors.ScopeCollectionNotFound, flax_errors.ScopeParamNotFoundError)
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if is_own(f.filename)]
        at = "an unknown place"
        if frames:
            at = f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].name})"
        raise InputError(
            "data-dependent control flow: the network's Python code needs the values of its inputs, at "
            f"{at}; use jnp.where in place of if and jax.numpy in place of numpy, or fix the value beforehand"
        ) from error
    except changes_state as error:
        raise InputError(
            "the network has a side effect: it updates its variables, as batch-norm in training mode does; "
            f"switch it to evaluation, for example with use_running_average=True ({error})"
        ) from error
    except lacks_variables as error:
        raise InputError(
            "the variables lack what the linen module reads: give all that module.init returned, "
            f"{{'params': ..., 'batch_stats': ...}} ({error})"
        ) from error


# Stable, readable names of sites: the scopes of an operation and its kind, numbered where repeated.

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


# From a flat program to steps under a rule: its nonlinearities and layers found, named, or refused.


class NetworkProgram(NamedTuple):
    """A flat program as steps."""

    flat: Flat
    steps: tuple[Step, ...]


def plan_steps(flat: Flat, others: Flat, *, linearize_smooth: bool) -> NetworkProgram:
    """Find the sites of a program.

    `others` is the program for another number of images.

    Raises `InputError` for an operation that is not piecewise linear, unless `linearize_smooth`.
    """
    users: dict[Value, list[Op]] = {v: [] for v in flat.kinds}
    for op in flat.ops:
        for v in op.inputs:
            users[v].append(op)
    counts = {v: len(ops) for v, ops in users.items()}
    for v in flat.outputs:
        counts[v] += 1
    facts = Facts(flat, _inputs(flat), {}, counts, {})
    made: dict[Value, Step] = {}
    smooth: set[Value] = set()
    for op in flat.ops:
        levels = [facts.levels[v] for v in op.inputs]
        level = level_of(op, levels, flat.kinds[op.outputs[0]].dtype)
        if level is None and not linearize_smooth:
            raise InputError(_refusal(op))
        if level is None:
            _check_tangent(flat, op, levels)
        if op.own is not None and op.outputs[0] in flat.own[op.own].outputs and level is not None:
            # The function has a derivative, so its output is not frozen, even if it is piecewise constant.
            level = max(level, *(min(facts.levels[v], Level.LINEAR) for v in flat.own[op.own].inputs))
        facts.levels.update(zip(op.outputs, levels_of_results(op, levels, level), strict=True))
        facts.maker.update(dict.fromkeys(op.outputs, op))
        if level is None:
            smooth.add(op.outputs[0])
        if op.name in CORNERS and level is Level.LINEAR and _is_guard(op.outputs[0], users, facts.levels):
            smooth.add(op.outputs[0])
        made[op.outputs[0]] = _step(facts, op, levels, level, smooth)

    layers = {
        layer.end: layer
        for layer in find_layers(
            flat,
            facts.levels,
            {v for v, step in made.items() if not isinstance(step, PlainStep | FrozenStep)},
            users,
        )
    }
    products = {layer.op.outputs[0] for layer in layers.values() if layer.role != "shift"}
    axes = follow_axes(flat, others if is_same(flat, others) else None, products)
    _check_channels(flat, axes)
    names = Names()
    steps: list[tuple[int | None, Step]] = []
    for op in _needed(flat, made):
        step = _with_axes(flat, op, made[op.outputs[0]], axes)
        steps.append((op.own, names.give(step, op) if isinstance(step, Asking) else step))
        if op.outputs[0] in layers:
            layer = layers[op.outputs[0]]
            end = Affine(names.of_layer(layer.op), layer.end, layer.role, axes[layer.end], layer.parameters)
            steps.append((op.own, end))
    return NetworkProgram(flat, tuple(_with_own(flat, steps)))


def _with_own(flat: Flat, steps: Sequence[tuple[int | None, Step]]) -> Iterator[Step]:
    """The steps, those of a function with a custom derivative as one."""
    for number, some in itertools.groupby(steps, key=lambda pair: pair[0]):
        inner = tuple(step for _, step in some)
        if number is None:
            yield from inner
        else:
            yield OwnDerivative(flat.own[number], inner)


def _check_channels(flat: Flat, axes: AxesOf) -> None:
    """Raise `InputError` if the first convolution takes another axis of the images than the last as channels:
    its sites' maps and the sum over channels of an explanation would be wrong."""
    if len(flat.kinds[flat.images].shape) != 4:
        return
    for op in flat.ops:
        if op.name == "conv_general_dilated" and op.inputs[0] in axes:
            channels = axes[op.inputs[0]].channels
            if channels and convolution_of(op.params).axes.lhs_spec[1] not in channels:
                raise InputError(
                    "the network takes its channels from another axis than the last of the images, at "
                    f"{op.place}: images are (n, h, w, c) here, and gated(..., layout='NCHW') turns them for "
                    "a network that wants channels first"
                )
            return


def is_same(flat: Flat, others: Flat) -> bool:
    """Whether two programs differ only in the lengths of their arrays."""

    def structure(program: Flat) -> list[Any]:
        ranks = [len(kind.shape) for kind in program.kinds.values()]
        return [ranks, *((op.name, op.inputs, op.outputs) for op in program.ops)]

    return structure(flat) == structure(others)


def _with_axes(flat: Flat, op: Op, step: Step, axes: AxesOf) -> Step:
    """The step with the axes of its images and channels."""
    if isinstance(step, Activation):
        return step._replace(axes=axes[step.root])
    if isinstance(step, Maximum):
        return as_pool(flat, op, axes) or step._replace(axes=axes[step.output])
    if isinstance(step, Smooth):
        moving = [op.inputs[position] for position in step.moving]
        return step._replace(
            axes=tuple(axes[v] for v in (*moving, *op.outputs)),
            shapes=tuple(flat.kinds[v].shape for v in op.outputs),
        )
    return step


def _inputs(flat: Flat) -> dict[Value, Level]:
    levels = dict.fromkeys(flat.constants, Level.CONSTANT) | dict.fromkeys(flat.params, Level.PARAMETER)
    return {**levels, flat.images: Level.LINEAR}


def _step(facts: Facts, op: Op, levels: list[Level], level: Level | None, smooth: set[Value]) -> Step:
    if Level.LINEAR not in levels:
        return PlainStep(op)
    if op.name in MAXIMA | ORDERINGS:
        return _maximum(op)
    if level is Level.GATE:
        return FrozenStep("", op)
    group = _group(facts, op, levels, level)
    if group is not None or op.name in CORNERS:
        return _maximum(op) if group is None else _activation(group, smooth)
    moving = [position for position, at in enumerate(levels) if at is Level.LINEAR]
    return PlainStep(op) if level is not None else Smooth("", op, tuple(moving))


def _is_guard(value: Value, users: Mapping[Value, list[Op]], levels: Mapping[Value, Level]) -> bool:
    """Whether a kink only keeps an argument in range, such as the variance of a normalisation above zero.

    It is part of the following root, logarithm or division, and no activation.
    """
    for op in users[value]:
        still = all(levels.get(v, Level.LINEAR) < Level.LINEAR for v in op.inputs if v != value)
        if op.name in ("sqrt", "rsqrt", "cbrt", "log") or (op.name == "div" and op.inputs[0] != value):
            continue
        passes = op.name in STRUCTURAL or (op.name in ("add", "mul", "max") and still)
        if not passes or not _is_guard(op.outputs[0], users, levels):
            return False
    return bool(users[value])


def _group(facts: Facts, op: Op, levels: list[Level], level: Level | None) -> Group | None:
    """The activation that ends with an operation, if there is one."""
    by_gate = op.name in ("select_n", "mul") and Level.GATE in levels
    if op.name not in CORNERS and not by_gate and level is not None:
        return None
    group = find_group(facts, op)
    if group is not None:
        facts.groups[group.output] = group
    return group


def _activation(group: Group, smooth: set[Value]) -> Activation:
    has_smooth = any(op.outputs[0] in smooth for op in group.ops)
    relu = all(op.name in ("relu", "copy") for op in group.ops) and not has_smooth
    return Activation("", relu, group.root, group.output, group.ops, has_smooth)


def _maximum(op: Op) -> Maximum | Choice:
    if op.name in ORDERINGS or op.name == "clamp":
        return choice_of(op)
    stacks, sign = elements_of(op)
    return Maximum("", op.inputs, op.outputs[0], stacks, sign)


def _needed(flat: Flat, made: dict[Value, Step]) -> list[Op]:
    """The operations whose results are used, in order: an activation's own are inside its step."""
    needed = set(flat.outputs)
    kept = []
    for op in reversed(flat.ops):
        if needed.isdisjoint(op.outputs):
            continue
        kept.append(op)
        step = made[op.outputs[0]]
        if isinstance(step, Activation):
            inside = {v for inner in step.ops for v in inner.outputs}
            needed.add(step.root)
            needed.update(v for inner in step.ops for v in inner.inputs if v not in inside)
        else:
            needed.update(op.inputs)
        if op.own is not None:
            needed.update(flat.own[op.own].inputs)
    return kept[::-1]


_FAMILIAR = {
    "logistic": "a sigmoid",
    "erf": "as in GELU",
    "erfc": "as in GELU",
    "integer_pow": "a power, as in GELU",
    "exp": "as in softmax or ELU",
    "stop_gradient": "whose value depends on the image and whose gradient does not, as in softmax",
    "dot_general": "a product of two values that both depend on the image, and so quadratic, as in attention",
    "mul": "a product of two values that both depend on the image, and so quadratic, as in a gate",
    "div": "by what depends on the image, as in normalisation by its statistics",
    "rsqrt": "as in normalisation by the image's own statistics",
    "square": "as in normalisation by the image's own statistics",
}


def _refusal(op: Op) -> str:
    named = [call for call in op.calls if not call.startswith("_") and call != op.name]
    explained = ", ".join(part for part in (op.name, _FAMILIAR.get(op.name, "")) if part)
    what = f"{named[-1]} ({explained})" if named else explained
    hint = " If this is a batch-norm in training mode, switch it to evaluation." if _normalises(op) else ""
    return (
        f"the network is not piecewise linear: {what}, at {op.place}.{hint} Replace it, or take "
        "gated(..., linearize_smooth=True), which uses its tangent at the image"
    )


def _check_tangent(flat: Flat, op: Op, levels: list[Level]) -> None:
    """Raise `InputError` for a kernel or a callback without a derivative."""
    if op.name in ELEMENTWISE | PRODUCTS:
        return
    kinds = [flat.kinds[v] for v in op.inputs]
    moving = [position for position, level in enumerate(levels) if level is Level.LINEAR]

    def results(*moved: Array) -> Sequence[Array]:
        inputs: list[Any] = [jnp.zeros(kind.shape, kind.dtype) for kind in kinds]
        for position, array in zip(moving, moved, strict=True):
            inputs[position] = array
        return op.run(*inputs)

    try:
        jax.eval_shape(lambda *moved: jax.vjp(results, *moved)[0], *(kinds[at] for at in moving))
    except (ValueError, NotImplementedError, AssertionError) as error:
        raise InputError(
            f"the network has no tangent at {op.name}, at {op.place}: JAX knows no derivative of a kernel or "
            "a callback; write it with jax.numpy"
        ) from error


def _normalises(op: Op) -> bool:
    return op.name in ("rsqrt", "square", "sqrt", "div") or "normalization" in op.place
