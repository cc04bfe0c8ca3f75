"""Operations by kind, and the layers of a network."""

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dmbp_jax._gated.program import Flat, Op, Value
from dmbp_jax.ops._equations import exponent_of
from dmbp_jax.typing import Role

# How each value depends on the images: not at all, piecewise constantly, piecewise linearly, or smoothly.


class Level(enum.IntEnum):
    """How a value depends on the images."""

    CONSTANT = 0
    """Not at all, nor on the parameters."""
    PARAMETER = 1
    """On the parameters."""
    GATE = 2
    """Piecewise constant: comparisons, signs, indices of maxima. A `FrozenStep` makes it a constant."""
    LINEAR = 3
    """Piecewise affine."""


JUMPS = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "sign", "floor", "ceil", "round", "argmax", "argmin", "is_finite"}
)
"""Their results are piecewise constant."""

ADDITIVE = frozenset(
    {"add", "sub", "neg", "add_any", "copy", "copy_p", "reduce_precision", "reshape", "transpose", "squeeze"}
    | {"broadcast_in_dim", "expand_dims", "slice", "rev", "concatenate", "pad", "reduce_sum", "cumsum"}
    | {"reduce_window_sum", "split", "stack", "unstack", "tile", "optimization_barrier"}
    | {"sharding_constraint"}
)
"""Linear in all of their operands together."""

BY_CONSTANTS = {
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "gather": (0,),
    "scatter-add": (0, 2),
    "scatter_add": (0, 2),
    "scatter": (0, 2),
    "div": (0,),
}
"""Linear in the operands at these positions while the others are constant."""

PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated"})
"""Linear in either operand while the other is constant."""

STRUCTURAL = frozenset(
    {"reshape", "transpose", "squeeze", "broadcast_in_dim", "expand_dims", "convert_element_type", "copy"}
)
"""They move elements without changing them."""

ELEMENTWISE = frozenset(
    {"relu", "max", "min", "abs", "clamp", "select_n", "mul", "div", "add", "sub", "neg", "add_any", "copy"}
    | {"convert_element_type", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "xor", "sign"}
    | {"floor", "ceil", "round", "is_finite", "reduce_precision", "integer_pow", "pow", "square", "sqrt"}
    | {"rsqrt", "cbrt", "exp", "exp2", "log", "log1p", "expm1", "logistic", "tanh", "erf", "erfc", "erf_inv"}
    | {"sin", "cos", "tan", "sinh", "cosh", "asinh", "acosh", "atanh", "asin", "acos", "atan", "atan2"}
)
"""Element by element, operands of one shape."""

CORNERS = frozenset({"relu", "max", "min", "abs", "clamp"})
"""Piecewise linear, element by element."""

MAXIMA = frozenset({"reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min"})
"""The largest, or smallest, of several elements."""


ORDERINGS = frozenset({"sort", "top_k", "approx_top_k", "cummax", "cummin"})
"""Permutations of elements whose order depends on the images."""


def level_of(op: Op, levels: list[Level], dtype: jnp.dtype) -> Level | None:
    """How the result, of that `dtype`, depends on the images if the operands depend on them as `levels`.

    None if smoothly. Kinks, maxima and selections by gates count as linear: a rule chooses the piece.
    """
    highest = max(levels, default=Level.CONSTANT)
    if highest < Level.LINEAR:
        return highest
    if op.name in JUMPS:
        return Level.GATE
    if op.name == "convert_element_type":
        return Level.LINEAR if jnp.issubdtype(dtype, jnp.floating) else Level.GATE
    moving = [position for position, level in enumerate(levels) if level is Level.LINEAR]
    linear = (
        op.name in ADDITIVE
        or op.name in CORNERS | MAXIMA | ORDERINGS
        or (op.name in PRODUCTS and len(moving) == 1)
        or (op.name == "select_n" and 0 not in moving)
        or (op.name in BY_CONSTANTS and set(moving) <= set(BY_CONSTANTS[op.name]))
        or (op.name == "integer_pow" and exponent_of(op.params) == 1)
    )
    return Level.LINEAR if linear else None


def levels_of_results(op: Op, levels: list[Level], level: Level | None) -> list[Level]:
    """How each result depends on the images, if the operands depend on them as `levels` and the first result
    as `level`.

    Permuted elements depend on the images as before, but at least piecewise constantly; so do indices in that
    order.
    """
    if op.name in ORDERINGS and level is Level.LINEAR:
        before = levels if op.name == "sort" else [Level.LINEAR, Level.GATE]
        return [max(one, Level.GATE) for one in before[: len(op.outputs)]]
    return [Level.LINEAR if level is None else level] * len(op.outputs)


def same_shape(kinds: dict[int, jax.ShapeDtypeStruct], one: int, other: int) -> bool:
    """Whether two values have one shape."""
    return kinds[one].shape == kinds[other].shape


# The affine layers of a program, and the role of each.

_SHIFTS = frozenset({"add", "sub", "add_any"})
_CHAIN = frozenset({"mul", "div", "neg"}) | _SHIFTS
_ROOTS = frozenset({"sqrt", "rsqrt", "log"})
_LAYERS = frozenset({"conv_general_dilated", "dot_general"})


class Layer(NamedTuple):
    """An affine map, from its product with the weights (if it has any) to the last of its shifts."""

    op: Op
    end: Value
    role: Role
    parameters: tuple[int, ...]
    """The indices of the parameters that it reads, among the program's."""


def find_layers(
    flat: Flat, levels: Mapping[Value, Level], decided: set[Value], users: Mapping[Value, list[Op]]
) -> tuple[Layer, ...]:
    """The affine layers in order.

    A convolution or matrix product with weights, with the following bias and frozen batch-norm. Other shifts,
    such as a batch-norm after an addition, are separate layers without a filter. `decided`: the results of
    nonlinearities.
    """
    graph = _Graph(flat, levels, decided, users)
    weighted = [op for op in flat.ops if op.name in _LAYERS and graph.weights(op) is not None]
    # Products with arrays that are not parameters are averages and similar, unless no product has parameters.
    learned = [op for op in weighted if graph.weights(op) is Level.PARAMETER]
    chosen = {op.outputs[0] for op in learned or weighted}
    ends: dict[Value, tuple[Op, list[Value]]] = {}
    chained: set[Value] = set()
    for op in flat.ops:
        is_layer = op.outputs[0] in chosen
        is_shift = op.name in _SHIFTS and graph.by_constant(op) and op.outputs[0] not in chained
        if is_layer or is_shift:
            end, passed = graph.follow(op.outputs[0])
            chained.update(passed)
            ends[end] = op, passed
    layers = [op for op, _ in ends.values() if op.name in _LAYERS]
    return tuple(
        Layer(op, end, graph.role(op, end, layers), graph.parameters(passed))
        for end, (op, passed) in ends.items()
    )


class _Graph(NamedTuple):
    flat: Flat
    levels: Mapping[Value, Level]
    decided: set[Value]
    users: Mapping[Value, list[Op]]

    def moving(self, op: Op) -> list[Value]:
        return [v for v in op.inputs if self.levels[v] is Level.LINEAR]

    def by_constant(self, op: Op) -> bool:
        """Whether a value is combined with a value that does not depend on the images."""
        still = [self.levels[v] for v in op.inputs if self.levels[v] is not Level.LINEAR]
        return (
            op.outputs[0] not in self.decided
            and self.levels[op.outputs[0]] is Level.LINEAR
            and len(self.moving(op)) == 1
            and all(level < Level.GATE for level in still)
        )

    def weights(self, op: Op) -> Level | None:
        """How the other operand of a product depends on the parameters; None if it is no weight."""
        return min(self.levels[v] for v in op.inputs) if self.by_constant(op) else None

    def follow(self, value: Value) -> tuple[Value, list[Value]]:
        """The end of the layer that begins with `value`, and all values up to it."""
        end, passed = value, [value]
        while len(self.users[value]) == 1:
            (op,) = self.users[value]
            if op.name not in _CHAIN | STRUCTURAL or not self.by_constant(op):
                break
            value = op.outputs[0]
            passed.append(value)
            if op.name in _CHAIN:
                end = value
        return end, passed[: passed.index(end) + 1]

    def parameters(self, passed: Sequence[Value]) -> tuple[int, ...]:
        """The parameters in the operations that made those values; without those under a root, which are the
        variances of batch-norms: statistics, none of which may be below zero."""
        makers = {v: op for op in self.flat.ops for v in op.outputs}
        numbers = {v: number for number, v in enumerate(self.flat.params)}
        todo = [v for value in passed for v in makers[value].inputs]
        seen: set[Value] = set()
        while todo:
            value = todo.pop()
            if self.levels[value] is Level.PARAMETER and value not in seen:
                seen.add(value)
                op = makers.get(value)
                todo.extend(op.inputs if op is not None and op.name not in _ROOTS else ())
        return tuple(sorted(numbers[v] for v in seen if v in numbers))

    def role(self, op: Op, end: Value, layers: Sequence[Op]) -> Role:
        if op.name not in _LAYERS:
            return "shift"
        after = self.reach(end, forward=True)
        if after.isdisjoint(self.decided) and not any(
            other is not op and other.outputs[0] in after for other in layers
        ):
            return "class"
        return "shortcut" if self.is_shortcut(op, end) else "filter"

    def is_shortcut(self, op: Op, end: Value) -> bool:
        """Whether the layer is a linear path parallel to nonlinearities, to the sum of both paths.

        fork ---- this layer (end) -------- + (the first sum behind it)
          \\------ layers, at least one nonlinearity (other) ---/
        """
        value = end
        while True:
            sums = [
                user
                for user in self.users[value]
                if user.name in _SHIFTS
                and len(self.moving(user)) == 2
                and user.outputs[0] not in self.decided
            ]
            if sums:
                break
            if len(self.users[value]) != 1 or not self.is_linear(self.users[value][0]):
                return False
            value = self.users[value][0].outputs[0]
        (other,) = [v for v in self.moving(sums[0]) if v != value] or [value]
        if other in self.reach(end, forward=True):
            return False
        fork = self.moving(op)[0]
        makers = {v: made for made in self.flat.ops for v in made.outputs}
        while fork in makers and fork not in self.decided and self.is_linear(makers[fork]):
            if len(self.users[fork]) > 1:
                break
            fork = self.moving(makers[fork])[0]
        between = self.reach(fork, forward=True) & self.reach(other, forward=False)
        return not (between - {fork}).isdisjoint(self.decided)

    def is_linear(self, op: Op) -> bool:
        """Whether the operation takes one value linearly."""
        return op.outputs[0] not in self.decided and len(self.moving(op)) == 1 and op.name not in _LAYERS

    def reach(self, start: Value, *, forward: bool) -> set[Value]:
        """The values that depend on a value, or on which it depends, itself included."""
        found = {start}
        for op in self.flat.ops if forward else reversed(self.flat.ops):
            sources, targets = (op.inputs, op.outputs) if forward else (op.outputs, op.inputs)
            if not found.isdisjoint(sources):
                found.update(v for v in targets if forward or self.levels[v] >= Level.GATE)
        return found
