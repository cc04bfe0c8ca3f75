"""The steps of a program under a rule, maxima among them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax._checks import InputError
from dmbp_jax._gated.activations import evaluate_with_slopes
from dmbp_jax._gated.axes import Axes, AxesOf, present, restore
from dmbp_jax._gated.program import Flat, Op, Own, Value
from dmbp_jax.ops._convolution import convolve
from dmbp_jax.ops._equations import convolution_of, ordering_of, removed_axes, windows_of
from dmbp_jax.ops._pool import window_extent
from dmbp_jax.typing import Role, Rule, Window

# The steps of a gated network: plain operations, and those that a rule replaces.

Arrays: TypeAlias = dict[Value, Any]


class PlainStep(NamedTuple):
    """An operation that is the same under every rule."""

    op: Op

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Evaluate it."""
        results = evaluate(self.op, [known[v] for v in self.op.inputs])
        known.update(zip(self.op.outputs, results, strict=True))


class Affine(NamedTuple):
    """The end of an affine layer."""

    site: str
    value: Value
    role: Role
    axes: Axes
    parameters: tuple[int, ...]
    """Of the layer; see `layers.Layer`."""

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Pass the layer's output to the rule."""
        z = known[self.value]
        seen = present(z, self.axes, count, self.site)
        known[self.value] = restore(
            rule.affine(self.site, seen, self.role), z.shape, self.axes, count, self.site
        )


class Activation(NamedTuple):
    """An elementwise nonlinearity of one value: a ReLU, or `function`."""

    site: str
    is_relu: bool
    root: Value
    output: Value
    ops: tuple[Op, ...]
    smooth: bool
    axes: Axes = Axes()

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule for the activation."""
        z = known[self.root]
        seen = present(z, self.axes, count, self.site)

        def function(x: Array) -> Array:
            within = {**known, self.root: restore(x, z.shape, self.axes, count, self.site)}
            result = evaluate_with_slopes(self.ops, within, self.root, self.output)
            return present(result, self.axes, count, self.site)

        if self.is_relu:
            result = rule.relu(self.site, seen)
        else:
            result = rule.piecewise(self.site, seen, function, smooth=self.smooth)
        known[self.output] = restore(result, z.shape, self.axes, count, self.site)


class Pool(NamedTuple):
    """A max-pool over rows and columns; of minima where `sign` is -1."""

    site: str
    input: Value
    output: Value
    window: Window
    to_nhwc: tuple[int, ...]
    sign: int

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule for the maxima."""
        seen = self.sign * known[self.input].transpose(self.to_nhwc)
        pooled = self.sign * rule.max_pool(self.site, seen, self.window)
        back = tuple(self.to_nhwc.index(axis) for axis in range(len(self.to_nhwc)))
        known[self.output] = pooled.transpose(back)


class Maximum(NamedTuple):
    """The largest of several elements, the smallest where `sign` is -1: of those that the first of `stacks`
    puts on a new first axis, and so on of the maxima."""

    site: str
    inputs: tuple[Value, ...]
    output: Value
    stacks: tuple[Callable[..., Array], ...]
    sign: int
    axes: Axes = Axes()

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule which it is."""
        values = [self.sign * known[v] for v in self.inputs]
        for number, stack in enumerate(self.stacks):
            stacked = stack(*values)
            seen = jax.vmap(lambda x: present(x, self.axes, count, self.site))(stacked)
            result = rule.maximum(f"{self.site}.{number}" if number else self.site, seen)
            values = [restore(result, stacked.shape[1:], self.axes, count, self.site)]
        known[self.output] = self.sign * values[0]


class Choice(NamedTuple):
    """A permutation or selection of elements, as in a sort: `choose` computes indices, `take` applies
    them."""

    site: str
    op: Op
    choose: Callable[..., Array]
    take: Callable[..., tuple[Array, ...]]

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule for the choice."""
        operands = [known[v] for v in self.op.inputs]
        choice = rule.decide(self.site, self.choose(*jax.lax.stop_gradient(operands)))
        known.update(zip(self.op.outputs, self.take(choice, *operands), strict=True))


class FrozenStep(NamedTuple):
    """A comparison, or another piecewise constant operation, whose result is used later."""

    site: str
    op: Op

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule for the decision."""
        (result,) = evaluate(self.op, [known[v] for v in self.op.inputs])
        known[self.op.outputs[0]] = rule.decide(self.site, result)


class Smooth(NamedTuple):
    """An operation that is not piecewise linear, to be taken by its tangent."""

    site: str
    op: Op
    moving: tuple[int, ...]
    """The positions of the operands that depend on the images."""
    axes: tuple[Axes, ...] = ()
    """The axes of these operands, then of the results."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The results' shapes."""

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule for the value."""
        operands = [known[v] for v in self.op.inputs]
        of_operands, of_results = self.axes[: len(self.moving)], self.axes[len(self.moving) :]

        def function(*moved: Array) -> tuple[Array, ...]:
            inputs = list(operands)
            for position, array, axes in zip(self.moving, moved, of_operands, strict=True):
                inputs[position] = restore(array, operands[position].shape, axes, count, self.site)
            results = zip(evaluate(self.op, inputs), of_results, strict=True)
            return tuple(present(result, axes, count, self.site) for result, axes in results)

        moving = [
            present(operands[position], axes, count, self.site)
            for position, axes in zip(self.moving, of_operands, strict=True)
        ]
        results = rule.smooth(self.site, function, *moving)
        for value, result, axes, shape in zip(self.op.outputs, results, of_results, self.shapes, strict=True):
            known[value] = restore(result, shape, axes, count, self.site)


class OwnDerivative(NamedTuple):
    """A function with a custom derivative, and its steps."""

    function: Own
    steps: tuple[Any, ...]

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule for its custom derivative or that of its steps."""
        function = self.function
        sites = frozenset(step.site for step in self.steps if hasattr(step, "site"))

        def as_defined() -> Sequence[Array | None]:
            return function.run(*(known[v] for v in function.inputs))

        def from_operations() -> Sequence[Array | None]:
            within = dict(known)
            for step in self.steps:
                step.run(within, rule, count)
            # None: an output that is not used.
            return [within.get(v) for v in function.outputs]

        results = rule.custom_derivative(function.name, sites, as_defined, from_operations)
        known.update(zip(function.outputs, results, strict=True))


Step: TypeAlias = (
    PlainStep | Affine | Activation | Pool | Maximum | Choice | FrozenStep | Smooth | OwnDerivative
)
"""A step of a gated network: `run` adds its results to the `known` arrays, of `count` images."""


def evaluate(op: Op, arrays: list[Any]) -> Any:
    """The results of an operation."""
    if op.name == "conv_general_dilated" and _is_common(op, arrays[1]):
        kind, (x, kernel) = convolution_of(op.params), arrays
        (down, across), (rows, columns) = kind.strides, kind.padding
        return (convolve(x, kernel, (down, across), (rows, columns)),)
    return op.run(*arrays)


def _is_common(op: Op, kernel: Any) -> bool:
    kind = convolution_of(op.params)
    axes = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
    return (
        kernel.ndim == 4
        and tuple(kind.axes) == tuple(axes)
        and kind.feature_groups == kind.batch_groups == 1
        and set(kind.lhs_dilation) == set(kind.rhs_dilation) == {1}
        and kind.precision is None
        and kind.result_dtype in (None, kernel.dtype)
        and all(low >= 0 and high >= 0 for low, high in kind.padding)
    )


# Maxima over windows and axes: as the max-pool that rules know, or as a choice among stacked elements.
#
# Also operations that are permutations for a given order: sorts, top-k, running maxima.


def as_pool(flat: Flat, op: Op, axes: AxesOf) -> Pool | None:
    """The step of a square pool over two axes; None for other maxima."""
    images = axes[op.inputs[0]].images
    if op.name not in ("reduce_window_max", "reduce_window_min") or images is None:
        return None
    over, shape = windows_of(op.params), flat.kinds[op.inputs[0]].shape
    sizes, strides, pads = over.sizes, over.strides, over.padding
    space = [axis for axis, size in enumerate(sizes) if size > 1]
    still = [axis for axis in range(len(shape)) if axis not in space]
    if (
        len(shape) != 4
        or len(space) != 2
        or images not in [(axis, 1, 1) for axis in still]
        or {*over.base_dilation, *over.window_dilation} != {1}
        or any((strides[axis], pads[axis]) != (1, (0, 0)) for axis in still)
        or len({(sizes[axis], strides[axis], pads[axis][0]) for axis in space}) != 1
    ):
        return None
    size, stride, (padding, _) = sizes[space[0]], strides[space[0]], pads[space[0]]
    for ceil_mode in (False, True):
        window = Window(size, stride, padding, ceil_mode)
        if all(_fits(shape[axis], pads[axis], window) for axis in space):
            # Of the two axes that are not pooled, the other one is the channels'.
            (channel,) = set(still) - {images.axis}
            sign = 1 if op.name == "reduce_window_max" else -1
            return Pool("", op.inputs[0], op.outputs[0], window, (images.axis, *space, channel), sign)
    return None


def _fits(length: int, pads: tuple[int, int], window: Window) -> bool:
    """Whether the window's own padding has the same windows as these pads."""
    if length + sum(pads) < window.size:
        return False
    count, (_, after) = window_extent(length, window)
    here = (length + sum(pads) - window.size) // window.stride + 1
    return count == here and after >= 0


def elements_of(op: Op) -> tuple[tuple[Callable[..., Array], ...], int]:
    """Functions that stack the elements of each maximum on a new first axis; and -1 for minima, else 1.

    A window over several axes is the maximum of maxima: one stack for each axis, the last first, so that of
    equal elements the first one row by row is taken.
    """
    if op.name in ("max", "min"):
        return (lambda *both: jnp.stack(jnp.broadcast_arrays(*both)),), (1 if op.name == "max" else -1)
    if op.name in ("reduce_max", "reduce_min"):
        axes = removed_axes(op.params)

        def stack(x: Array) -> Array:
            moved = jnp.moveaxis(x, axes, range(len(axes)))
            return moved.reshape(-1, *moved.shape[len(axes) :])

        return (stack,), (1 if op.name == "reduce_max" else -1)
    if op.name in ("reduce_window_max", "reduce_window_min"):
        return _window_stacks(op), (1 if op.name == "reduce_window_max" else -1)
    raise InputError(f"{op.name} of several values that depend on the image is not supported, at {op.place}")


def _window_stacks(op: Op) -> tuple[Callable[..., Array], ...]:
    over = windows_of(op.params)
    used = [
        axis
        for axis in reversed(range(len(over.sizes)))
        if (over.sizes[axis], over.strides[axis], over.padding[axis], over.base_dilation[axis])
        != (1, 1, (0, 0), 1)
    ]

    def stack(x: Array, *, axis: int) -> Array:
        size, stride, (low, high) = over.sizes[axis], over.strides[axis], over.padding[axis]
        apart, spread = over.window_dilation[axis], over.base_dilation[axis] - 1
        config = [(low, high, spread) if other == axis else (0, 0, 0) for other in range(x.ndim)]
        padded = jax.lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), config)
        count = (padded.shape[axis] - (size - 1) * apart - 1) // stride + 1
        places = np.arange(size)[:, None] * apart + np.arange(count)[None] * stride
        return jnp.moveaxis(jnp.take(padded, places, axis=axis, mode="clip"), axis, 0)

    return tuple(functools.partial(stack, axis=axis) for axis in used)


def choice_of(op: Op) -> Choice:
    """The step of one of `ORDERINGS`, or of a `clamp` whose bounds depend on the images.

    Of equal elements a sort, a top-k and a running maximum take the first one. At a bound a `clamp` takes the
    bound.
    """
    if op.name == "clamp":
        return Choice("", op, _beyond, _clamped)
    axis, keys, reverse = ordering_of(op.params)

    def taken(order: Array, *operands: Array) -> tuple[Array, ...]:
        return tuple(
            jnp.take_along_axis(operand, order, axis, mode="promise_in_bounds") for operand in operands
        )

    if op.name == "sort":

        def sorting(*operands: Array) -> Array:
            places = jax.lax.broadcasted_iota(jnp.int32, operands[0].shape, axis)
            return jax.lax.sort((*operands[:keys], places), dimension=axis, num_keys=keys)[-1]

        return Choice("", op, sorting, taken)
    if op.name in ("top_k", "approx_top_k"):
        return Choice("", op, lambda x: op.run(x)[1], lambda at, x: (*taken(at, x), at))
    return Choice("", op, lambda x: _first_so_far(op, x, axis, reverse=reverse), taken)


def _first_so_far(op: Op, x: Array, axis: int, *, reverse: bool) -> Array:
    """The index of the first occurrence of the running maximum or minimum."""
    (best,) = op.run(x)
    before = jax.lax.slice_in_dim(best, 0, -1, axis=axis)
    after = jax.lax.slice_in_dim(best, 1, None, axis=axis)
    same = (before == after) | (jnp.isnan(before) & jnp.isnan(after))
    edge = [(0, 0)] * x.ndim
    edge[axis] = (0, 1) if reverse else (1, 0)
    is_new = jnp.pad(~same, edge, constant_values=True)
    places = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    if reverse:
        return jax.lax.cummin(jnp.where(is_new, places, x.shape[axis] - 1), axis, reverse=True)
    return jax.lax.cummax(jnp.where(is_new, places, 0), axis)


def _beyond(low: Array, x: Array, high: Array) -> Array:
    # The lower bound first, as `clamp` has it: where they cross, the upper one is taken.
    is_high = jnp.maximum(low, x) >= high
    return jnp.where(is_high, 2, jnp.where(x <= low, 0, 1))


def _clamped(choice: Array, low: Array, x: Array, high: Array) -> tuple[Array]:
    return (jnp.where(choice == 2, high, jnp.where(choice == 0, low, x)),)
