"""How each operation depends on the images: not at all, by jumps, piecewise linearly, or smoothly."""

import enum

import jax
import jax.numpy as jnp

from dmbp_jax.ops.equations import exponent_of
from dmbp_jax.tracing.flatten import Op


class Level(enum.IntEnum):
    """How a value depends on the images."""

    CONSTANT = 0
    """Not at all, nor on the parameters."""
    PARAMETER = 1
    """On the parameters."""
    GATE = 2
    """Piecewise constant: comparisons, signs, positions of maxima. FrozenStep, it is a constant."""
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
"""Linear in the operands of these positions, while the others do not change."""

PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated"})
"""Linear in either operand while the other does not change."""

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
"""Elements put where an order says that depends on the images."""


def level_of(op: Op, levels: list[Level], dtype: jnp.dtype) -> Level | None:
    """How the result, of that `dtype`, depends on the images where the operands do as `levels` say.

    None if smoothly. Corners, maxima and choices by gates count as linear: which piece, a rule decides.
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
    """How each result depends on the images, where the operands do as `levels` say and the first as `level`.

    What an order puts elsewhere depends on the images as it did before, but piecewise constant at least; and
    so do positions in that order.
    """
    if op.name in ORDERINGS and level is Level.LINEAR:
        before = levels if op.name == "sort" else [Level.LINEAR, Level.GATE]
        return [max(one, Level.GATE) for one in before[: len(op.outputs)]]
    return [Level.LINEAR if level is None else level] * len(op.outputs)


def same_shape(kinds: dict[int, jax.ShapeDtypeStruct], one: int, other: int) -> bool:
    """Whether two values have one shape."""
    return kinds[one].shape == kinds[other].shape
