"""Elementwise functions recognised by their values at some points, computed in NumPy.

`(x + |x|) / 2` and `where(x > 0, x, 0)` are the same function. The operations between two values of one shape
are evaluated for one element: the axes of both values become one axis of points; further axes of the
operations between them, such as that of `max(stack([x, 0]))`, are kept. Nothing is compiled.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from dmbp_jax._gated.program import Flat, Op, Own, Value, flatten
from dmbp_jax.ops import _equations as equations

LONGEST = 40
"""The most operations of one function."""

_KINKED = frozenset({"max", "min", "abs", "clamp", "select_n", "relu", "reduce_max", "reduce_min", "sign"})
_KINKED |= frozenset({"eq", "ne", "lt", "le", "gt", "ge"})

Axes: TypeAlias = tuple[int, ...]
"""For each axis of the function's result, the axis of an array on the way to it."""


def recognise_relus(flat: Flat) -> Flat:
    """The program with one operation `relu` wherever a value is `max(x, 0)` of another one.

    It is recognised by its values, however it is written. Other operations are kept if they are needed.
    """
    search = _Search(flat)
    for op in flat.ops:
        root = search.root_of_relu(op)
        search.add(op if root is None else op._replace(name="relu", params={}, inputs=(root,), run=_relu))
    return flat.with_ops(search.ops)


def open_faithful(flat: Flat) -> Flat:
    """The program without custom derivatives that equal those of the functions' operations.

    They are compared by values, for elementwise functions of one value, away from their kinks; others keep
    their custom derivative.
    """
    same = {number for number, own in flat.own.items() if _is_faithful(flat, number, own)}
    ops = [op._replace(own=None) if op.own in same else op for op in flat.ops]
    kept = {number: own for number, own in flat.own.items() if number not in same}
    return flat._replace(ops=tuple(ops), own=kept)


def _is_faithful(flat: Flat, number: int, own: Own) -> bool:
    search = _Search(flat)
    within = []
    for op in flat.ops:
        search.add(op)
        if op.own == number:
            within.append(op)
    made = {v for op in within for v in op.outputs}
    moving = [v for v in own.inputs if v in search.moving]
    still = [v for v in own.inputs if v not in search.moving]
    held = {v: known for v in still if (known := search.number_of(v)) is not None}
    if len(moving) != 1 or len(own.outputs) != 1 or own.outputs[0] not in made:
        return False
    if len(held) != len(set(still)):
        return False
    kind, result = flat.kinds[moving[0]], flat.kinds[own.outputs[0]]
    if not _same_kind(kind, result) or not jax.numpy.issubdtype(kind.dtype, np.floating):
        return False
    constants = {v: np.broadcast_to(held[v], flat.kinds[v].shape) for v in held}

    def as_defined(x: Any) -> Any:
        return own.run(*({**constants, moving[0]: x}[v] for v in own.inputs))[0]

    def by_operations(x: Any) -> Any:
        known = {**flat.constants, **constants, moving[0]: x}
        for op in within:
            known.update(zip(op.outputs, op.run(*(known[v] for v in op.inputs)), strict=True))
        return known[own.outputs[0]]

    points = _points(kind.dtype) * np.asarray(1.0137, kind.dtype)
    points = points[(np.abs(points) > 1e-3) & (np.abs(points) < 20)]
    for cotangent in (1.0, -2.5, 1e3, 1e-3):
        one, other = (_backward(f, kind, cotangent, points) for f in (as_defined, by_operations))
        if one is None or other is None:
            return False
        tolerance = max(1e-4, 8 * float(jax.numpy.finfo(kind.dtype).eps))
        if not np.allclose(one, other, rtol=tolerance, atol=tolerance * abs(cotangent), equal_nan=True):
            return False
    return True


def _backward(
    function: Callable[[Any], Any], kind: jax.ShapeDtypeStruct, cotangent: float, points: np.ndarray
) -> np.ndarray | None:
    """The derivative of an elementwise function at points, times a cotangent; None if that is unknown."""

    def backward(_: None, x: Any) -> Any:
        return jax.vjp(function, x)[1](jax.numpy.full(kind.shape, cotangent, kind.dtype))[0]

    flat = flatten(backward, None, kind, linearize_smooth=True)
    search = _Search(flat)
    for op in flat.ops:
        search.add(op)
    return search.values_at(points)


def _relu(x: Any) -> Sequence[Any]:
    return (jax.nn.relu(x),)


class _Search:
    """The state of the search through a program."""

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self.ops: list[Op] = []
        self.maker: dict[Value, Op] = {}
        self.moving = {flat.images}
        """The values that depend on the images."""
        self.numbers: dict[Value, np.ndarray | None] = {}
        """Constants: the number that all their elements equal, None if they differ."""

    def add(self, op: Op) -> None:
        """Add the next operation."""
        self.ops.append(op)
        self.maker.update(dict.fromkeys(op.outputs, op))
        if not self.moving.isdisjoint(op.inputs):
            self.moving.update(op.outputs)

    def root_of_relu(self, op: Op) -> Value | None:
        """The value of which the operation's result is the ReLU; None if there is none.

        Searches backwards from the operands, the latest first, as long as the operations are elementwise.
        Wherever all operands depend on one value, the function of that value is tested.
        """
        kinds, output = self.flat.kinds, op.outputs[0]
        if self.moving.isdisjoint(op.inputs) or op.name not in _RESULTS:
            return None
        if not jax.numpy.issubdtype(kinds[output].dtype, np.floating) or op.name == "relu":
            return None
        axes: dict[Value, Axes] = {output: tuple(range(len(kinds[output].shape)))}
        within: dict[Value, Op] = {}
        frontier: set[Value] = {output}
        while len(within) < LONGEST:
            latest = max(frontier)
            maker = op if latest == output else self.maker.get(latest)
            if maker is None or maker.own != op.own or not self._enters(maker, latest, axes):
                return None
            within[latest] = maker
            frontier = (frontier - {latest}) | {v for v in maker.inputs if v in self.moving}
            if len(frontier) == 1 and any(inner.name in _KINKED for inner in within.values()):
                (root,) = frontier
                if axes[root] == axes[output] and _same_kind(kinds[root], kinds[output]):
                    ops = [within[v] for v in sorted(within)]
                    points = _points(kinds[root].dtype)
                    computed = self._compute(ops, {root: points}, axes)[output]
                    if computed.shape == points.shape and np.array_equal(computed, np.maximum(points, 0)):
                        return root
        return None

    def values_at(self, points: np.ndarray) -> np.ndarray | None:
        """The whole program's values at points, if it is elementwise."""
        (output,) = self.flat.outputs
        if output not in self.moving:
            number = self.number_of(output)
            return None if number is None else np.broadcast_to(number, points.shape).astype(float)
        axes: dict[Value, Axes] = {output: tuple(range(len(self.flat.kinds[output].shape)))}
        for op in reversed(self.ops):
            if op.outputs[0] in axes and not self._enters(op, op.outputs[0], axes):
                return None
        if axes.get(self.flat.images) != axes[output]:
            return None
        ops = [op for op in self.ops if op.outputs[0] in axes]
        return self._compute(ops, {self.flat.images: points}, axes)[output].astype(float)

    def _enters(self, op: Op, output: Value, axes: dict[Value, Axes]) -> bool:
        """Whether each element of the operation's result depends on one element of each operand, so that it
        can be part of an elementwise function; records the operands' axes."""
        if op.name not in _ELEMENTWISE and op.name not in _SHAPING:
            return False
        for v in op.inputs:
            if v not in self.moving:
                if self.number_of(v) is None:
                    return False
                continue
            found = _operand_axes(op, v, output, axes[output], self.flat)
            if found is None or axes.setdefault(v, found) != found:
                return False
        return True

    def number_of(self, value: Value) -> np.ndarray | None:
        """The number that all elements of a constant equal."""
        if value not in self.numbers:
            self.numbers[value] = self._find_number(value)
        return self.numbers[value]

    def _find_number(self, value: Value) -> np.ndarray | None:
        if value in self.flat.constants:
            held = self.flat.constants[value]
            return None if isinstance(held, jax.core.Tracer) else _only(np.asarray(held))
        op = self.maker.get(value)
        if op is None or (op.name not in _ELEMENTWISE and op.name not in _MOVES):
            return None
        numbers = [self.number_of(v) for v in op.inputs]
        if any(number is None for number in numbers):
            return None
        return numbers[0] if op.name in _MOVES else _elementwise(op, numbers)

    def _compute(
        self, ops: Sequence[Op], known: Mapping[Value, np.ndarray], axes: Mapping[Value, Axes]
    ) -> dict[Value, np.ndarray]:
        """The results of operations at points, which are the first axis of every array here; the others are
        the axes that an array has besides the function's."""
        known = dict(known)
        for op in ops:
            arrays = [known[v] if v in self.moving else self.number_of(v) for v in op.inputs]
            with np.errstate(all="ignore"):
                if op.name in _ELEMENTWISE:
                    known[op.outputs[0]] = _elementwise(op, arrays)
                else:
                    known[op.outputs[0]] = self._shaped(op, arrays, axes)
        return known

    def _shaped(self, op: Op, arrays: Sequence[Any], axes: Mapping[Value, Axes]) -> np.ndarray:
        """The result of an operation that has other axes than its operands."""

        def beside(value: Value) -> list[int]:
            return [axis for axis in range(len(kinds[value].shape)) if axis not in axes[value]]

        kinds, (output,) = self.flat.kinds, op.outputs
        moving = next(v for v in op.inputs if v in self.moving)
        array = arrays[op.inputs.index(moving)]
        own, lengths = beside(output), kinds[output].shape
        if op.name == "broadcast_in_dim":
            to = equations.broadcast_axes(op.params)
            kept = dict(zip([to[axis] for axis in beside(moving)], array.shape[1:], strict=True))
            array = array.reshape(len(array), *(kept.get(axis, 1) for axis in own))
            return np.broadcast_to(array, (len(array), *(lengths[axis] for axis in own)))
        if op.name in _MOVES:
            return array.reshape(len(array), *(lengths[axis] for axis in own))
        if op.name == "stack":
            at = own.index(equations.stacked_axis(op.params))
            return np.stack(np.broadcast_arrays(*arrays), axis=1 + at)
        if op.name == "concatenate":
            axis = equations.concatenated_axis(op.params)
            at = 1 + own.index(axis)
            shapes = [(*array.shape[:at], kinds[v].shape[axis], *array.shape[at + 1 :]) for v in op.inputs]
            return np.concatenate(list(map(np.broadcast_to, arrays, shapes)), axis=at)
        gone = [1 + beside(moving).index(axis) for axis in equations.removed_axes(op.params)]
        return _REDUCTIONS[op.name](array, tuple(gone)).astype(kinds[output].dtype)


def _only(array: np.ndarray) -> np.ndarray | None:
    flat = array.reshape(-1)
    return flat[:1].reshape(()) if flat.size and bool(np.all(flat == flat[0])) else None


def _same_kind(one: jax.ShapeDtypeStruct, other: jax.ShapeDtypeStruct) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _points(dtype: Any) -> np.ndarray:
    """Zero, and numbers of both signs: small ones, large ones, and dense ones between."""
    limits = jax.numpy.finfo(dtype)
    sizes = np.geomspace(4 * float(limits.smallest_normal), float(limits.max) / 8, 200)
    sizes = np.concatenate([[0], sizes, np.arange(0.25, 40, 0.25)])
    return np.concatenate([-sizes[::-1], sizes]).astype(dtype)


def _operand_axes(op: Op, operand: Value, output: Value, axes: Axes, flat: Flat) -> Axes | None:
    """The function's axes in an operand, if each element of the result depends on one of its elements."""
    shape, result = flat.kinds[operand].shape, flat.kinds[output].shape
    if op.name in _ELEMENTWISE:
        return axes if shape == result else None
    if op.name == "broadcast_in_dim":
        to = equations.broadcast_axes(op.params)
        whole = all(axis in to and shape[to.index(axis)] == result[axis] for axis in axes)
        return tuple(to.index(axis) for axis in axes) if whole else None
    if op.name in _MOVES:
        # Axes of length 1 may be added and removed.
        long, ours = ([axis for axis, size in enumerate(s) if size > 1] for s in (result, shape))
        short = iter(axis for axis, size in enumerate(shape) if size == 1)
        if [result[axis] for axis in long] != [shape[axis] for axis in ours]:
            return None
        places = [ours[long.index(axis)] if axis in long else next(short, None) for axis in axes]
        return None if None in places else tuple(place for place in places if place is not None)
    if op.name in ("stack", "concatenate"):
        stacks = op.name == "stack"
        new = equations.stacked_axis(op.params) if stacks else equations.concatenated_axis(op.params)
        return None if new in axes else tuple(axis - (stacks and axis > new) for axis in axes)
    gone = equations.removed_axes(op.params)
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return tuple(kept[axis] for axis in axes)


def _elementwise(op: Op, arrays: Sequence[Any]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(_ELEMENTWISE[op.name](op.params, *arrays))


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    number_of, *values = np.broadcast_arrays(which, *cases)
    result = values[0]
    for number, case in enumerate(values[1:], 1):
        result = np.where(number_of == number, case, result)
    return result


def _simple(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *arrays: function(*arrays)


_MOVES = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims"})
_REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "reduce_max": lambda x, axes: x.max(axes),
    "reduce_min": lambda x, axes: x.min(axes),
    "reduce_sum": lambda x, axes: x.sum(axes),
    "reduce_and": lambda x, axes: x.all(axes),
    "reduce_or": lambda x, axes: x.any(axes),
    "argmax": lambda x, axes: x.argmax(*axes),
    "argmin": lambda x, axes: x.argmin(*axes),
}
_SHAPING = _MOVES | {"stack", "concatenate", *_REDUCTIONS}
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "convert_element_type": lambda params, x: x.astype(equations.new_dtype(params)),
    "integer_pow": lambda params, x: x ** equations.exponent_of(params),
    **dict.fromkeys(("copy", "copy_p"), _simple(lambda x: x)),
    "clamp": _simple(lambda low, x, high: np.minimum(np.maximum(x, low), high)),
    "select_n": _simple(_select),
    "relu": _simple(lambda x: np.maximum(x, np.zeros_like(x))),
    **dict.fromkeys(("add", "add_any"), _simple(np.add)),
    "logistic": _simple(lambda x: 1 / (1 + np.exp(-x))),
    "rsqrt": _simple(lambda x: 1 / np.sqrt(x)),
    **{
        name: _simple(function)
        for name, function in {
            **{"max": np.maximum, "min": np.minimum, "abs": np.abs, "neg": np.negative, "sub": np.subtract},
            **{"mul": np.multiply, "div": np.divide, "sign": np.sign, "floor": np.floor, "ceil": np.ceil},
            **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater},
            **{"ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
            **{"not": np.invert, "is_finite": np.isfinite, "square": np.square, "sqrt": np.sqrt},
            **{"exp": np.exp, "exp2": np.exp2, "log": np.log, "log1p": np.log1p, "expm1": np.expm1},
            **{"tanh": np.tanh, "sin": np.sin, "cos": np.cos, "pow": np.power},
        }.items()
    },
}
_RESULTS = frozenset({*_ELEMENTWISE, "reduce_max", "reduce_min"})
