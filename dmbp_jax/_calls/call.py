"""A call of `explain` as a program: whole, or in slices that report their progress."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Var
from jax.sharding import Mesh
from jaxtyping import Array, Int

from dmbp_jax._calls.chunks import (
    Inputs,
    ProgramBytes,
    chunk_shapes,
    fitting_chunk,
    free_bytes,
    most_at_once,
    program_bytes,
)
from dmbp_jax.ops import Loop
from dmbp_jax.ops._programs import as_function, depending, hoist, keep_programs, loop_of, trace
from dmbp_jax.result import Attribution, Method
from dmbp_jax.result._attribution import Kept, keep_only
from dmbp_jax.typing import Apply, OnStep, Params

# A loop run from the host in slices of steps, which can report progress. A callback from inside the loop
# would report it too, but would keep the program out of JAX's compilation cache.

SLICES = 20
"""The approximate number of reports of a loop."""


class Slices(NamedTuple):
    """The loops of a batch of images as three programs; see `slice_loops`."""

    length: int
    """Steps of the loop."""
    each: int
    """Steps of a slice; the last one may have fewer steps."""
    before: Any
    """The loop's invariants, and the first carry."""
    within: Any
    """The carry after a slice."""
    after: Any
    """The result."""

    def run(self, fixed: Any, images: Any, *, on_step: OnStep | None = None) -> Any:
        """The results for `images`; `on_step(done, length)` after each slice."""
        constants, carry = self.before(fixed, images)
        for first in range(0, self.length, self.each):
            last = min(first + self.each, self.length)
            carry = self.within(constants, carry, first, last)
            if on_step is not None:
                jax.block_until_ready(carry)
                on_step(last, self.length)
        return self.after(constants, carry)

    def lower(self, fixed: Any, images: Any) -> jax.stages.Lowered:
        """The program of a slice, which needs the most memory."""
        constants, carry = jax.eval_shape(self.before, fixed, images)
        return self.within.lower(constants, carry, 0, self.each)


def slice_loops(make: Callable[..., Loop], fixed: tuple[Any, ...], images: tuple[Any, ...]) -> Slices | None:
    """The loops `make(*fixed, *image)` of a batch, for arguments of these kinds, arrays or shapes.

    None for loops of no steps, which have no slices; their result is not traced.

    `images` are trees of arrays whose first axis is the batch; `fixed` is the same for all. Each part of a
    loop is traced once, for one image.

    >>> halve = lambda factor, x: Loop(40, x, lambda carry, _: carry * factor, lambda carry: carry * 2.0**40)
    >>> seen, arguments = [], ((0.5,), (jnp.ones(3),))
    >>> slices = slice_loops(halve, *arguments)
    >>> slices.run(*arguments, on_step=lambda *step: seen.append(step)).tolist(), seen[0], seen[-1]
    ([1.0, 1.0, 1.0], (2, 40), (40, 40))
    """
    parts: dict[str, Any] = {}

    def begin(fixed: Any, image: Any) -> Any:
        loop = make(*fixed, *image)
        parts.update(length=loop.length)
        if not loop.length:
            return [], loop.start
        of_step, step = hoist(loop.step, loop.start, jax.ShapeDtypeStruct((), jnp.int32))
        of_finish, finish = hoist(loop.finish, loop.start)
        # Both usually need the same arrays.
        constants = list({id(array): array for array in (*of_step, *of_finish)}.values())
        places = {id(array): place for place, array in enumerate(constants)}
        parts.update(step=step, finish=finish)
        parts.update(of_step=[places[id(one)] for one in of_step])
        parts.update(of_finish=[places[id(one)] for one in of_finish])
        return constants, loop.start

    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), images)
    program = trace(begin, fixed, one)
    if not parts["length"]:
        return None
    # Computations of parameters alone must not be repeated for each image.
    own = program.jaxpr.invars[len(jax.tree.leaves(fixed)) :]
    moving = depending(program.eqns, own)
    constants, start = program.structure
    each_image = [
        0 if isinstance(v, Var) and v in moving else None for v in program.outvars[: len(constants)]
    ]
    axes = (each_image, jax.tree.map(lambda _: 0, start))
    inputs = [*program.jaxpr.constvars, *program.jaxpr.invars]
    compute = as_function(program, inputs, program.outvars, program.eqns)
    structure = jax.tree.structure(program.structure)

    def first(fixed: Any, image: Any) -> Any:
        leaves = compute(*program.consts, *jax.tree.leaves((fixed, image)))
        return jax.tree.unflatten(structure, leaves)

    def step(constants: list[Any], carry: Any, number: Int[Array, ""]) -> Any:
        return parts["step"]([constants[i] for i in parts["of_step"]], carry, number)

    def finish(constants: list[Any], carry: Any) -> Any:
        return parts["finish"]([constants[i] for i in parts["of_finish"]], carry)

    @jax.jit
    def before(fixed: Any, images: Any) -> Any:
        constants, carry = jax.vmap(first, in_axes=(None, 0), out_axes=axes)(fixed, images)
        # The carry is donated to each slice, so its buffers must not be shared, in particular not with the
        # caller.
        return constants, jax.tree.map(jnp.copy, carry)

    def within(constants: list[Any], carry: Any, first: Any, last: Any) -> Any:
        def steps(number: Any, carry: Any) -> Any:
            return jax.vmap(step, in_axes=(each_image, 0, None))(constants, carry, number)

        return jax.lax.fori_loop(first, last, steps, carry)

    @jax.jit
    def after(constants: list[Any], carry: Any) -> Any:
        return jax.vmap(finish, in_axes=(each_image, 0))(constants, carry)

    length = parts["length"]
    return Slices(length, max(1, -(-length // SLICES)), before, jax.jit(within, donate_argnums=1), after)


# A call of `explain` as a program for a chunk of images: the whole method, or its loop in slices.

Options: TypeAlias = tuple[tuple[str, type, Hashable], ...]
"""Name, type and value: 7, 7.0 and True are equal keys to a cache, but not equal options."""


class Settings(NamedTuple):
    """The static arguments of a program besides shapes; hashable."""

    apply: Apply
    method: Method
    classes: int
    options: Options
    keep: tuple[Kept, ...] | None = None
    """What of an explanation is kept; None: everything."""

    def keywords(self) -> dict[str, Any]:
        """The options as the method takes them."""
        return {name: value for name, _, value in self.options}


class Call(NamedTuple):
    """The checked arguments of `explain`."""

    inputs: Inputs
    params: Params
    arrays: dict[str, jax.Array]
    """Dynamic options: arrays, and numbers whose values share a program."""
    settings: Settings


class ChunkProgram(NamedTuple):
    """The compiled program for a chunk of images."""

    run: Callable[..., Attribution]
    """`run(inputs, on_step=None)`."""
    lower: Callable[[], jax.stages.Lowered]
    """Its part with the largest peak memory."""


def make_program(call: Call, chunk: int, mesh: Mesh | None, *, stepwise: bool = False) -> ChunkProgram:
    """The program for `chunk` images; `stepwise`: one that can report the steps of a loop, if there is one.

    It is compiled when it first runs or is lowered; programs are cached.
    """
    fixed = (call.params, call.arrays)
    shapes = chunk_shapes(call.inputs, chunk, mesh)
    make = loop_of(call.settings.method) if stepwise else None
    if make is not None:
        leaves, structure = jax.tree.flatten((fixed, shapes))
        kinds = tuple(
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))
            for leaf in leaves
        )
        slices = _slices(make, structure, kinds, call.settings)
        # A loop without steps has no slices.
        if slices is not None:
            return ChunkProgram(functools.partial(slices.run, fixed), lambda: slices.lower(fixed, shapes))

    whole = _whole(call.settings)

    def run(inputs: Inputs, *, on_step: OnStep | None = None) -> Attribution:
        result: Attribution = whole(*fixed, *inputs)
        if on_step is not None:
            jax.block_until_ready(result)
            on_step(1, 1)
        return result

    return ChunkProgram(run, lambda: whole.lower(*fixed, *shapes))


def automatic_chunk(call: Call, mesh: Mesh | None, stepwise: bool) -> int:
    """The number of images at once that fits into the free memory; compiles the program for it.

    For a single image, or one for each device, memory is not checked.
    """
    devices = 1 if mesh is None else mesh.size
    if len(call.inputs[0]) <= devices:
        return devices
    local = list(mesh.local_devices) if mesh is not None else jax.local_devices()[:1]
    fixed = sum(leaf.nbytes for leaf in jax.tree.leaves((call.params, call.arrays)))

    def bytes_of(chunk: int) -> ProgramBytes:
        return program_bytes(make_program(call, chunk, mesh, stepwise=stepwise).lower().compile(), fixed)

    return fitting_chunk(
        bytes_of,
        count=len(call.inputs[0]),
        free=min(free_bytes(device) for device in local),
        most=devices * most_at_once(local[0]),
        devices=devices,
    )


@keep_programs
def _whole(settings: Settings) -> Any:
    """The whole method, compiled for each shape."""

    @jax.jit
    def explain_batch(
        params: Params,
        arrays: dict[str, jax.Array],
        images: jax.Array,
        targets: jax.Array,
        keys: jax.Array | None,
    ) -> Attribution:
        def one(image: jax.Array, target: jax.Array, key: jax.Array | None) -> Attribution:
            options = {**arrays, **settings.keywords()}
            result = settings.method(settings.apply, params, image, target, key=key, **options)
            return _finish(result, target, settings)

        return jax.vmap(one)(images, targets, keys)

    return explain_batch


@keep_programs
def _slices(
    make: Callable[..., Loop], structure: Any, kinds: tuple[jax.ShapeDtypeStruct, ...], settings: Settings
) -> Slices | None:
    """Cached: as with `jit`, a second call with the same shapes traces nothing."""

    def loop(params: Params, arrays: Any, image: jax.Array, target: jax.Array, key: jax.Array | None) -> Loop:
        made = make(settings.apply, params, image, target, key=key, **arrays, **settings.keywords())
        return made.then(lambda result: _finish(result, target, settings))

    return slice_loops(loop, *jax.tree.unflatten(structure, kinds))


def _finish(result: Attribution, target: jax.Array, settings: Settings) -> Attribution:
    """What is kept of an explanation, flagged where its class does not exist."""
    kept = keep_only(result, settings.keep)
    if not jax.numpy.issubdtype(target.dtype, jax.numpy.integer):
        return kept
    # A class out of range has the gradient zero, which is finite but no explanation.
    return dataclasses.replace(kept, finite=kept.finite & (target >= 0) & (target < settings.classes))
