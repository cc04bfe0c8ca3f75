"""What a gated network is made of: plain operations, and the places where it asks the rule."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jaxtyping import Array

from dmbp_jax.ops.convolve import convolve
from dmbp_jax.ops.equations import convolution_of
from dmbp_jax.tracing.axes import Axes, present, restore
from dmbp_jax.tracing.flatten import Op, Own, Value
from dmbp_jax.tracing.kinks import evaluate_with_slopes
from dmbp_jax.typing import Role, Rule, Window

Arrays: TypeAlias = dict[Value, Any]


class PlainStep(NamedTuple):
    """An operation that is what it is under every rule."""

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
        """Hand the layer's output to the rule."""
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
    """Which elements go where, as in a sort: `choose` says so in numbers, and `take` moves them."""

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
    """A comparison, or whatever else jumps, on which something further on depends."""

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
    """Theirs, and then the results'."""
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
    """A function that defines its derivative itself, and the steps of which it consists."""

    function: Own
    steps: tuple[Any, ...]

    def run(self, known: Arrays, rule: Rule, count: int) -> None:
        """Ask the rule whether its derivative or that of its steps is wanted."""
        function = self.function
        sites = frozenset(step.site for step in self.steps if hasattr(step, "site"))

        def as_defined() -> Sequence[Array | None]:
            return function.run(*(known[v] for v in function.inputs))

        def opened() -> Sequence[Array | None]:
            within = dict(known)
            for step in self.steps:
                step.run(within, rule, count)
            # None: an output that nothing takes.
            return [within.get(v) for v in function.outputs]

        results = rule.own_derivative(function.name, sites, as_defined, opened)
        known.update(zip(function.outputs, results, strict=True))


Step: TypeAlias = (
    PlainStep | Affine | Activation | Pool | Maximum | Choice | FrozenStep | Smooth | OwnDerivative
)
"""One thing that an evaluation does: `run` adds its results to the `known` arrays, of `count` images."""


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
