"""Activations, recognised by their values, and their slopes at kinks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dmbp_jax._gated.layers import ELEMENTWISE, Level, same_shape
from dmbp_jax._gated.program import Flat, Op, Value

# The slope of an elementwise function at its kinks, which does not depend on how the function is written.
#
# The left and the right slope of each value are propagated through the operations. Where they differ, the one
# of smaller magnitude is used, and 0 where their signs differ: 0 for a ReLU at 0, for `clip` at both ends and
# for `abs` at 0; the negative side's for a leaky ReLU.

_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})


class _Germ(NamedTuple):
    """A value just beside a point, and its slope there."""

    value: Array
    slope: Array


def evaluate_with_slopes(ops: Sequence[Op], known: Mapping[Value, Any], root: Value, output: Value) -> Array:
    """The result of operations on `known[root]`, element by element, with the derivative described above."""
    plain: Array = _run(ops, known)[output]
    if not any(op.name in _COMPARISONS or op.name in _CORNERS for op in ops):
        return plain
    right, left = (_beside(ops, known, root, side)[output] for side in (1, -1))
    up, down = right.slope, left.slope
    chosen = jnp.where(jnp.abs(up) < jnp.abs(down), right.value, left.value)
    chosen = jnp.where(up * down < 0, jax.lax.stop_gradient(plain), chosen)
    # At a jump, the value at the point itself.
    return jnp.where((right.value == plain) & (left.value == plain), chosen, plain)


def _run(ops: Sequence[Op], known: Mapping[Value, Any]) -> dict[Value, Any]:
    within = dict(known)
    for op in ops:
        within.update(zip(op.outputs, op.run(*(within[v] for v in op.inputs)), strict=True))
    return within


def _beside(ops: Sequence[Op], known: Mapping[Value, Any], root: Value, side: int) -> dict[Value, _Germ]:
    """All values to the right of the point, `side` 1, or to the left of it, -1."""
    x = known[root]
    found = {root: _Germ(x, jnp.ones_like(x))}
    for op in ops:
        operands = [found[v] if v in found else _still(known[v]) for v in op.inputs]
        found[op.outputs[0]] = _germ(op, operands, side)
    return found


def _still(value: Any) -> _Germ:
    array = jnp.asarray(value)
    return _Germ(array, jnp.zeros_like(array))


def _germ(op: Op, operands: Sequence[_Germ], side: int) -> _Germ:
    """The result of an operation on values beside the point."""
    one, *others = operands
    if op.name in _CORNERS:
        return _CORNERS[op.name](operands, side)
    if op.name in _COMPARISONS:
        other = others[0]
        (apart,), (equal,) = op.run(one.value, other.value), op.run(side * one.slope, side * other.slope)
        return _still(jnp.where(one.value == other.value, equal, apart))
    if op.name == "select_n":
        values, slopes = zip(*others, strict=True)
        return _Germ(op.run(one.value, *values)[0], op.run(one.value, *slopes)[0])
    return _moved(op, operands)


def _moved(op: Op, operands: Sequence[_Germ]) -> _Germ:
    """The result of an operation without kinks, by its derivative."""
    floats = [at for at, g in enumerate(operands) if jnp.issubdtype(g.value.dtype, jnp.floating)]
    values = [g.value for g in operands]

    def function(*moved: Array) -> Array:
        inputs = list(values)
        for at, array in zip(floats, moved, strict=True):
            inputs[at] = array
        result: Array = op.run(*inputs)[0]
        return result

    primals, tangents = ([getattr(operands[at], name) for at in floats] for name in ("value", "slope"))
    if not floats or not jnp.issubdtype(jax.eval_shape(function, *primals).dtype, jnp.floating):
        return _still(op.run(*values)[0])
    return _Germ(*jax.jvp(function, tuple(primals), tuple(tangents)))


def _larger(one: _Germ, other: _Germ, side: int) -> _Germ:
    takes = (one.value > other.value) | ((one.value == other.value) & (side * one.slope > side * other.slope))
    return _Germ(jnp.where(takes, one.value, other.value), jnp.where(takes, one.slope, other.slope))


def _negative(germ: _Germ) -> _Germ:
    return _Germ(-germ.value, -germ.slope)


def _smaller(one: _Germ, other: _Germ, side: int) -> _Germ:
    return _negative(_larger(_negative(one), _negative(other), side))


def _sign(one: _Germ, side: int) -> _Germ:
    return _still(jnp.where(one.value == 0, jnp.sign(side * one.slope), jnp.sign(one.value)))


_CORNERS: dict[str, Callable[[Sequence[_Germ], int], _Germ]] = {
    "relu": lambda g, side: _larger(g[0], _still(jnp.zeros_like(g[0].value)), side),
    "max": lambda g, side: _larger(g[0], g[1], side),
    "min": lambda g, side: _smaller(g[0], g[1], side),
    "abs": lambda g, side: _larger(g[0], _negative(g[0]), side),
    "clamp": lambda g, side: _smaller(_larger(g[1], g[0], side), g[2], side),
    "sign": lambda g, side: _sign(g[0], side),
}


# Elementwise nonlinearities: the operations between one value and a function of it, element by element.
#
# `where(x > 0, x, 0.1 * x)` is three operations, and one activation of `x`.


class Group(NamedTuple):
    """`output` as a function of `root`, element by element."""

    root: Value
    output: Value
    ops: tuple[Op, ...]
    """Its operations in order; they may also read values that do not depend on the images."""


class Facts(NamedTuple):
    """The facts about a program, collected operation by operation."""

    flat: Flat
    levels: dict[Value, Level]
    maker: dict[Value, Op]
    """The operation that computes a value."""
    users: Mapping[Value, int]
    """The number of operations and program outputs that use a value."""
    groups: dict[Value, Group]
    """The activations found so far, by their output."""


def find_group(facts: Facts, op: Op) -> Group | None:
    """The activation that ends with `op`; None if its result is not a function of one single value.

    Searches backwards from the operands, the latest first, until all of them depend on one value.
    """
    output = op.outputs[0]
    frontier = _moving(facts, op.inputs)
    within = {output: op}
    while len(frontier) > 1 or any(facts.levels[v] is Level.GATE for v in frontier):
        latest = max(frontier)
        maker = facts.maker.get(latest)
        if (
            maker is None
            or maker.own != op.own
            or maker.name not in ELEMENTWISE
            or not same_shape(facts.flat.kinds, latest, output)
        ):
            return None
        within[latest] = maker
        frontier = (frontier - {latest}) | _moving(facts, maker.inputs)
    (root,) = frontier
    if not same_shape(facts.flat.kinds, root, output):
        return None
    before = facts.groups.get(root)
    # relu6 is min(max(x, 0), 6): one activation, unless max(x, 0) is used elsewhere too.
    taken = sum(inner.inputs.count(root) for inner in within.values())
    if before is not None and before.ops[0].own == op.own and facts.users[root] == taken:
        within.update({op.outputs[0]: op for op in before.ops})
        root = before.root
    return Group(root, output, tuple(within[v] for v in sorted(within)))


def _moving(facts: Facts, values: Iterable[Value]) -> set[Value]:
    return {v for v in values if facts.levels[v] >= Level.GATE}
