"""Elementwise nonlinearities: the operations between one value and a function of it, element by element.

`where(x > 0, x, 0.1 * x)` is three operations, and one activation of `x`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dmbp_jax.tracing.flatten import Flat, Op, Value
from dmbp_jax.tracing.kinds import ELEMENTWISE, Level, same_shape


class Group(NamedTuple):
    """`output` as a function of `root`, element by element."""

    root: Value
    output: Value
    ops: tuple[Op, ...]
    """In order; they also read values that do not depend on the images."""


class Facts(NamedTuple):
    """What is known of a program while its operations are gone through in order."""

    flat: Flat
    levels: dict[Value, Level]
    maker: dict[Value, Op]
    """The operation that made a value."""
    users: Mapping[Value, int]
    """How many operations, and outputs of the program, take a value."""
    groups: dict[Value, Group]
    """The activations found so far, by their output."""


def find_group(facts: Facts, op: Op) -> Group | None:
    """The activation that `op` completes; None if its result is no function of one single value.

    Goes back from the operands, the latest first, until one value is left that all of them come from.
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
    # relu6 is min(max(x, 0), 6): one activation, unless its first half is needed elsewhere too.
    taken = sum(inner.inputs.count(root) for inner in within.values())
    if before is not None and before.ops[0].own == op.own and facts.users[root] == taken:
        within.update({op.outputs[0]: op for op in before.ops})
        root = before.root
    return Group(root, output, tuple(within[v] for v in sorted(within)))


def _moving(facts: Facts, values: Iterable[Value]) -> set[Value]:
    return {v for v in values if facts.levels[v] >= Level.GATE}
