"""The program of a network: traced, and flattened to one list of operations."""

import operator
import re
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from dmbp_jax._checks import InputError
from dmbp_jax.ops._equations import (
    Inner,
    Scan,
    called,
    called_name,
    custom_derivative_of,
    scan_of,
    varying_alike,
)

# Objects of libraries, recognised without importing the libraries.


def is_a(thing: Any, module: str, name: str) -> bool:
    """Whether `thing` is an instance of that class of a library; False if the library is not imported.

    >>> from fractions import Fraction
    >>> is_a(Fraction(1, 2), "fractions", "Fraction"), is_a(1, "nowhere", "Fraction")
    (True, False)
    """
    library = sys.modules.get(module)
    return library is not None and isinstance(thing, getattr(library, name))


def refuse_changes(before: Any, after: Any, remedy: str) -> None:
    """Raise `InputError` unless both trees hold identical array objects, not only equal ones."""
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    if len(old) != len(new) or any(map(operator.is_not, old, new)):
        raise InputError(
            "the network has a side effect: it changes its own state when it is called, as dropout "
            f"and batch-norm in training mode do; switch it to evaluation, {remedy}"
        )


# The place of an operation: its named scopes, and the line of the user's source.

_TRANSFORM = re.compile(r"\w+\((.*)\)$")
_NAME = re.compile(r"[\w.]+")
_OURS = str(Path(__file__).parents[1])
_JAX = str(Path(jax.__file__).parent)
_PYTHON = sysconfig.get_path("stdlib")


def scope_of(eqn: JaxprEqn) -> tuple[str, ...]:
    """The named scopes of an equation, without the transformations among them."""
    names = []
    for part in str(eqn.source_info.name_stack).split("/"):
        name = part
        while (inner := _TRANSFORM.match(name)) is not None:
            name = inner[1]
        # Some functions name their scope by their operation: "ni,oi->no".
        if _NAME.fullmatch(name):
            names.append(name)
    return tuple(names)


def place(eqn: JaxprEqn) -> str | None:
    """`file:line (function)` of an equation; if it is a library's, with the line that called it.

    None if it is not known.
    """
    if not getattr(eqn.source_info.traceback, "frames", ()):
        return None
    deepest = str(source_info_util.summarize(eqn.source_info))
    own = _own_frame(eqn.source_info.traceback)
    if not deepest:
        return own
    return deepest if own is None or own.split(" ")[0] in deepest else f"{deepest}, called at {own}"


def is_own(file: str) -> bool:
    """Whether a source file is neither of an installed library, nor Python's, nor of this package."""
    installed = "site-packages" in file or "dist-packages" in file
    return not (installed or file.startswith((_OURS, _JAX, _PYTHON, "<frozen")))


def _own_frame(traceback: Any) -> str | None:
    for frame in getattr(traceback, "frames", ()):
        if is_own(frame.file_name):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return None


# A function as a flat list of operations: calls inlined, loops of known length unrolled.
#
# `jit`, `remat`, `custom_jvp` and `custom_vjp` are calls; `vmap` does not appear in a traced program.

LONGEST_LOOP = 256
"""The most steps of a loop over data that are unrolled."""

Value = int
"""The number of an array in a program."""


class Op(NamedTuple):
    """One operation of a flat program."""

    name: str
    """The primitive's parameters."""
    params: Mapping[str, Any]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    run: Callable[..., Sequence[Any]]
    """Arrays in, arrays out."""
    calls: tuple[str, ...]
    """The named functions around it, outermost first: `"gelu"`."""
    scope: tuple[str, ...]
    """The named scopes around it: `("ResNet", "Block_0", "Conv_0")`."""
    place: str
    """Its place in the source."""
    own: int | None = None
    """The index of the function with a custom derivative around it, among the program's."""


class Own(NamedTuple):
    """A function whose derivative is not that of its operations, which are in the program as well."""

    name: str
    """With its place: `clip_gradient at network.py:12`."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    run: Callable[..., Sequence[Any]]
    """The original function, arrays in, arrays out."""


class Flat(NamedTuple):
    """A flat program from parameters and images to its outputs."""

    ops: tuple[Op, ...]
    params: tuple[Value, ...]
    images: Value
    outputs: tuple[Value, ...]
    constants: dict[Value, Any]
    """Arrays captured by the function."""
    kinds: dict[Value, jax.ShapeDtypeStruct]
    """Shape and dtype of every array."""
    own: Mapping[int, Own]
    """The functions with custom derivatives."""

    def with_ops(self, ops: Sequence[Op]) -> "Flat":
        """The program with other operations, without unneeded ones."""
        return self._replace(ops=_needed(ops, self.outputs, self.own))


def flatten(
    function: Callable[[Any, Any], Any], params: Any, images: Any, *, linearize_smooth: bool = False
) -> Flat:
    """The program of `function(params, images)` for arguments with those shapes, arrays or shapes.

    A `stop_gradient` is the identity with a custom derivative; with `linearize_smooth` it is an operation
    whose tangent is constant.

    Raises `InputError` for side effects, and for loops or branches that depend on the images.
    """
    # Networks may mix precisions, whatever promotion the caller has set.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        closed = jax.make_jaxpr(function)(params, images)
    builder = _Builder(linearize_smooth)
    inputs = tuple(builder.new(v.aval) for v in closed.jaxpr.invars)
    builder.moving.add(inputs[-1])
    constants = [builder.hold(value) for value in closed.consts]
    outputs = builder.inline(closed.jaxpr, [*constants, *inputs], Within())
    return Flat(
        _needed(builder.ops, outputs, builder.own),
        inputs[:-1],
        inputs[-1],
        tuple(outputs),
        builder.constants,
        builder.kinds,
        builder.own,
    )


class Within(NamedTuple):
    """The context of an operation: scopes, functions, place."""

    calls: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    place: str = "an unknown place"
    own: int | None = None

    def enter(self, eqn: JaxprEqn) -> "Within":
        """The context inside a call."""
        name = called_name(eqn)
        return Within(
            (*self.calls, name) if name else self.calls,
            (*self.scope, *scope_of(eqn)),
            # A cached trace of JAX has no line numbers.
            place(eqn) or self.place,
            self.own,
        )


class _Builder:
    """The program built so far."""

    def __init__(self, linearize_smooth: bool) -> None:
        self.linearize_smooth = linearize_smooth
        self.own: dict[int, Own] = {}
        self.ops: list[Op] = []
        self.constants: dict[Value, Any] = {}
        self.kinds: dict[Value, jax.ShapeDtypeStruct] = {}
        self.moving: set[Value] = set()
        """The values that depend on the images."""

    def new(self, aval: Any) -> Value:
        self.kinds[len(self.kinds)] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return len(self.kinds) - 1

    def hold(self, value: Any) -> Value:
        number = self.new(jax.typeof(value))
        self.constants[number] = value
        return number

    def inline(self, jaxpr: Jaxpr, args: Sequence[Value], within: Within) -> list[Value]:
        """Append the operations of a program on `args` (its constants first); returns its results."""
        known: dict[Var, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], args, strict=True))

        def of(atom: Var | Literal) -> Value:
            return known[atom] if isinstance(atom, Var) else self.hold(atom.val)

        for eqn in jaxpr.eqns:
            results = self.add(eqn, [of(atom) for atom in eqn.invars], within.enter(eqn))
            known.update(zip(eqn.outvars, results, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    def add(self, eqn: JaxprEqn, inputs: list[Value], within: Within) -> Sequence[Value]:
        name = eqn.primitive.name
        inner = called(eqn)
        moves = not self.moving.isdisjoint(inputs)
        if inner is not None:
            described = custom_derivative_of(eqn)
            if described is None or not moves or within.own is not None:
                return self._inline_held(inner, inputs, within)
            named = described if " at " in described else f"{described} at {within.place}"
            return self._inline_own(named, eqn, inner, inputs, within)
        if name == "stop_gradient" and moves and not self.linearize_smooth:
            named = f"stop_gradient at {within.place}"
            is_inside = within.own is not None
            return inputs if is_inside else self._inline_own(named, eqn, None, inputs, within)
        results: list[Any] = [v.aval for v in eqn.outvars]
        if moves and results and all(0 in kind.shape for kind in results):
            # `jnp.pad` makes empty arrays for every unpadded axis. They depend on nothing.
            return [self.hold(np.zeros(kind.shape, kind.dtype)) for kind in results]
        if eqn.effects:
            raise InputError(
                f"the network has a side effect: {name} at {within.place}; remove it, since an explanation "
                "runs the network more than once"
            )
        scan = scan_of(eqn)
        if scan is not None and moves:
            return self._loop(scan, inputs, within)
        if name in ("while", "cond") and moves:
            what = "a loop whose length" if name == "while" else "a branch whose choice"
            raise InputError(
                f"data-dependent control flow: {what} is known at run time only, {name} at "
                f"{within.place}; write it with jnp.where, or as a loop of fixed length"
            )
        outputs = tuple(self.new(v.aval) for v in eqn.outvars)
        if moves:
            self.moving.update(outputs)
        self.ops.append(Op(name, eqn.params, tuple(inputs), outputs, _runner(eqn), *within))
        return outputs

    def _inline_held(self, inner: Inner, inputs: list[Value], within: Within) -> list[Value]:
        held = [self.hold(value) for value in inner.consts]
        return self.inline(inner.jaxpr, [*held, *inputs], within)

    def _inline_own(
        self, name: str, eqn: JaxprEqn, inner: Inner | None, inputs: list[Value], within: Within
    ) -> list[Value]:
        """A function with a custom derivative; None for the identity."""
        number = len(self.own)
        within = within._replace(own=number)
        results = inputs if inner is None else self._inline_held(inner, inputs, within)
        # New values, also for inputs that it returns unchanged.
        outputs = [self.new(self.kinds[v]) for v in results]
        self.moving.update(outputs)
        for result, output in zip(results, outputs, strict=True):
            self.ops.append(Op("copy", {}, (result,), (output,), _same, *within))
        self.own[number] = Own(name, tuple(inputs), tuple(outputs), _runner(eqn))
        return outputs

    def _loop(self, scan: Scan, inputs: list[Value], within: Within) -> list[Value]:
        walked = inputs[scan.consts + scan.carries :]
        if scan.is_map and not self.moving.isdisjoint(walked):
            return self._map(scan, inputs, within)
        return self._unroll(scan, inputs, within)

    def _map(self, scan: Scan, inputs: list[Value], within: Within) -> list[Value]:
        """A loop of independent steps, such as `jax.lax.map` over the images, run as one batch."""
        first = scan.consts + scan.carries

        def mapped(*arrays: Any) -> Sequence[Any]:
            fixed, walked = arrays[:first], arrays[first:]
            return jax.vmap(lambda *one: scan.step(*fixed, *one)[scan.carries :])(*walked)

        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            closed = jax.make_jaxpr(mapped)(*(self.kinds[v] for v in inputs))
        held = [self.hold(value) for value in closed.consts]
        carried = inputs[scan.consts : first]
        return [*carried, *self.inline(closed.jaxpr, [*held, *inputs], within)]

    def _unroll(self, scan: Scan, inputs: list[Value], within: Within) -> list[Value]:
        length, first = scan.length, scan.consts + scan.carries
        if length > LONGEST_LOOP:
            raise InputError(
                f"the scan at {within.place} has {length} steps over the data; up to {LONGEST_LOOP} are "
                "unrolled"
            )
        consts, carry, stacked = inputs[: scan.consts], inputs[scan.consts : first], inputs[first:]
        collected: dict[int, list[Value]] = {}

        def own(name: str, function: Callable[..., Any], inputs: list[Value]) -> Value:
            output = self.new(jax.eval_shape(function, *(self.kinds[v] for v in inputs)))
            if not self.moving.isdisjoint(inputs):
                self.moving.add(output)

            def run(*arrays: Any) -> Sequence[Any]:
                return (function(*arrays),)

            self.ops.append(Op(name, {"axis": 0}, tuple(inputs), (output,), run, *within))
            return output

        for step in reversed(range(length)) if scan.reverse else range(length):
            here = [own("unstack", lambda x, at=step: x[at], [x]) for x in stacked]
            results = self._inline_held(scan.body, [*consts, *carry, *here], within)
            carry = results[: scan.carries]
            collected[step] = results[scan.carries :]
        columns = zip(*(collected[step] for step in range(length)), strict=True)
        return [*carry, *(own("stack", _stack, list(column)) for column in columns)]


def _needed(ops: Sequence[Op], outputs: Sequence[Value], own: Mapping[int, Own]) -> tuple[Op, ...]:
    """The operations that the outputs depend on, in order."""
    needed, kept = set(outputs), []
    for op in reversed(ops):
        if not needed.isdisjoint(op.outputs):
            needed.update(op.inputs)
            needed.update(own[op.own].inputs if op.own is not None else ())
            kept.append(op)
    return tuple(reversed(kept))


def _same(x: Any) -> Sequence[Any]:
    return (x,)


def _stack(*rows: Any) -> Any:
    return jax.numpy.stack(rows)


def _runner(eqn: JaxprEqn) -> Callable[..., Sequence[Any]]:
    primitive, params = eqn.primitive, eqn.params

    def run(*arrays: Any) -> Sequence[Any]:
        results = primitive.bind(*varying_alike(arrays), **primitive.get_bind_params(params))
        return results if primitive.multiple_results else (results,)

    return run
