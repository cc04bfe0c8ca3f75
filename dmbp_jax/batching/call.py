"""A call of `explain` as a program for a chunk of images: the whole method, or its loop in slices."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.sharding import Mesh

from dmbp_jax.batching.chunk_size import ProgramBytes, fitting_chunk, free_bytes, most_at_once, program_bytes
from dmbp_jax.batching.chunks import Inputs, chunk_shapes
from dmbp_jax.batching.slices import Slices, slice_loops
from dmbp_jax.ops import KEPT, Loop, loop_of
from dmbp_jax.result import Attribution, Method
from dmbp_jax.typing import Apply, OnStep, Params

Options: TypeAlias = tuple[tuple[str, type, Hashable], ...]
"""Name, type and value: 7, 7.0 and True are equal keys to a cache, but not equal options."""


class Settings(NamedTuple):
    """What a program is compiled for, beside shapes; hashable."""

    apply: Apply
    method: Method
    classes: int
    options: Options

    def keywords(self) -> dict[str, Any]:
        """The options as the method takes them."""
        return {name: value for name, _, value in self.options}


class Call(NamedTuple):
    """The checked arguments of `explain`."""

    inputs: Inputs
    params: Params
    arrays: dict[str, jax.Array]
    """Options that are arrays, and numbers whose values share a program."""
    settings: Settings


class ChunkProgram(NamedTuple):
    """What explains a chunk of images."""

    run: Callable[..., Attribution]
    """`run(inputs, on_step=None)`."""
    lower: Callable[[], jax.stages.Lowered]
    """The part of it that needs the most memory."""


def make_program(call: Call, chunk: int, mesh: Mesh | None, *, stepwise: bool = False) -> ChunkProgram:
    """The program for `chunk` images; `stepwise`: one that can report the steps of a loop, if there is one.

    Nothing is compiled before it runs or is lowered, and a second program of the same kind is the first one.
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
        # A loop of no steps has no slice.
        if slices.length:
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
    """The images at once that the free memory holds; compiles the program for them.

    A single image, or one for each device, cannot be divided, so that nothing is asked.
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


@functools.lru_cache(maxsize=KEPT)
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
            return _flag(result, target, settings.classes)

        return jax.vmap(one)(images, targets, keys)

    return explain_batch


@functools.lru_cache(maxsize=KEPT)
def _slices(
    make: Callable[..., Loop], structure: Any, kinds: tuple[jax.ShapeDtypeStruct, ...], settings: Settings
) -> Slices:
    """As with `jit`, a second call of the same kind traces nothing."""

    def loop(params: Params, arrays: Any, image: jax.Array, target: jax.Array, key: jax.Array | None) -> Loop:
        made = make(settings.apply, params, image, target, key=key, **arrays, **settings.keywords())
        return made.then(lambda result: _flag(result, target, settings.classes))

    return slice_loops(loop, *jax.tree.unflatten(structure, kinds))


def forget_programs() -> None:
    """Let go of the compiled programs of all calls: a process that explains images of hundreds of sizes would
    keep as many."""
    _whole.cache_clear()
    _slices.cache_clear()


def _flag(result: Attribution, target: jax.Array, classes: int) -> Attribution:
    if not jax.numpy.issubdtype(target.dtype, jax.numpy.integer):
        return result
    # The gradient of a class that does not exist is zero, which is finite and no explanation.
    return result._replace(finite=result.finite & (target >= 0) & (target < classes))
