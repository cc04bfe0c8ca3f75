"""Where an operation puts the axes of its operands."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from dmbp_jax.ops import equations
from dmbp_jax.tracing.flatten import Flat, Op, Value

Moves: TypeAlias = list[list[int]]
"""For each axis of an operand, the axes of the result that it becomes."""


def moves_of(op: Op, position: int, value: Value, flat: Flat) -> Moves:
    """Where the axes of an operand go; nowhere, where that is not known."""
    shape, result = flat.kinds[op.inputs[position]].shape, flat.kinds[value].shape
    ranks = [len(flat.kinds[v].shape) for v in op.inputs]
    special = _SPECIAL.get(op.name)
    if op.name == "reshape":
        return _reshaped_moves(shape, result)
    if op.name == "dot_general":
        return product_moves(op, position, ranks)
    if op.name == "conv_general_dilated":
        axes = equations.convolution_of(op.params).axes
        spec, out = axes.lhs_spec, axes.out_spec
        to = {spec[0]: out[0], **dict(zip(spec[2:], out[2:], strict=True))} if position == 0 else {}
        return [[to[axis]] if axis in to else [] for axis in range(len(shape))]
    if special is not None:
        return special(op, len(shape))
    if len(shape) == len(result):
        return [[axis] for axis in range(len(shape))] if op.name not in _UNKNOWN else [[] for _ in shape]
    return [[] for _ in shape]


_UNKNOWN = frozenset({"gather", "scatter", "scatter-add", "scatter_add"})
"""Their axes go where their parameters say, of which only the program for other images knows."""


def _transposed(op: Op, rank: int) -> Moves:
    order = equations.permutation_of(op.params)
    return [[order.index(axis)] for axis in range(rank)]


def _broadcast(op: Op, _: int) -> Moves:
    return [[axis] for axis in equations.broadcast_axes(op.params)]


def _stacked(op: Op, rank: int) -> Moves:
    new = equations.stacked_axis(op.params)
    return [[axis + (axis >= new)] for axis in range(rank)]


def _unstacked(op: Op, rank: int) -> Moves:
    return _without({equations.stacked_axis(op.params)}, rank)


def _removed(op: Op, rank: int) -> Moves:
    return _without(set(equations.removed_axes(op.params)), rank)


def _without(gone: set[int], rank: int) -> Moves:
    kept = iter(range(rank))
    return [[] if axis in gone else [next(kept)] for axis in range(rank)]


_SPECIAL: dict[str, Callable[[Op, int], Moves]] = {
    "transpose": _transposed,
    "broadcast_in_dim": _broadcast,
    "squeeze": _removed,
    "stack": _stacked,
    "unstack": _unstacked,
    **dict.fromkeys(
        (f"reduce_{what}" for what in ("sum", "max", "min", "prod", "and", "or", "xor")), _removed
    ),
    **dict.fromkeys(("argmax", "argmin"), _removed),
}


def product_moves(op: Op, position: int, ranks: Sequence[int]) -> Moves:
    """The result of a `dot_general` has the axes of both, then the first operand's own, then the second's."""
    sides = equations.product_axes(op.params)
    _, batch = sides[position]
    own = [
        [axis for axis in range(rank) if axis not in (*gone, *both)]
        for rank, (gone, both) in zip(ranks, sides, strict=True)
    ]
    first = len(batch) + (len(own[0]) if position == 1 else 0)
    to = {axis: at for at, axis in enumerate(batch)}
    to |= {axis: first + at for at, axis in enumerate(own[position])}
    return [[to[axis]] if axis in to else [] for axis in range(ranks[position])]


def reshape_groups(shape: Sequence[int], result: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes that a reshape makes of each other: the shortest runs of equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(shape) and j < len(result):
        ours, theirs, a, b = [i], [j], shape[i], result[j]
        while a != b:
            if a < b:
                i += 1
                ours.append(i)
                a *= shape[i]
            else:
                j += 1
                theirs.append(j)
                b *= result[j]
        groups.append((ours, theirs))
        i, j = i + 1, j + 1
    # Axes of length 1 at the end.
    if groups:
        groups[-1][0].extend(range(i, len(shape)))
        groups[-1][1].extend(range(j, len(result)))
    return groups


def _reshaped_moves(shape: Sequence[int], result: Sequence[int]) -> Moves:
    moves: Moves = [[] for _ in shape]
    for ours, theirs in reshape_groups(shape, result):
        long, divided = ([a for a in of if s[a] > 1] for of, s in ((ours, shape), (theirs, result)))
        for axis in ours:
            # One axis divided, or several merged; what is mixed otherwise is not followed.
            if len(divided) <= 1 or long == [axis]:
                moves[axis] = divided or theirs[:1]
    return moves
