"""A batch in chunks of one size, on one device or many."""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dmbp_jax._checks import InputError, is_concrete, is_here
from dmbp_jax._progress import bar
from dmbp_jax.result import Attribution
from dmbp_jax.typing import OnStep

# Arrays on meshes of explicit axes, as from `jax.make_mesh`: JAX requires the sharding of every intermediate
# # array there, which only networks written for it give.

T = TypeVar("T")


def automatic_mesh(mesh: Mesh) -> Mesh:
    """The same devices with automatic axes: the compiler chooses the sharding of intermediate arrays."""
    return Mesh(mesh.devices, mesh.axis_names)


def automatic(tree: T) -> T:
    """`tree` on the same devices, with automatic instead of explicit axes; tracers unchanged."""

    def put(leaf: Any) -> Any:
        if _explicit_mesh(leaf) is None or not is_concrete(leaf):
            return leaf
        return jax.device_put(leaf, NamedSharding(automatic_mesh(leaf.sharding.mesh), leaf.sharding.spec))

    return jax.tree.map(put, tree)


def on_automatic_axes(function: Callable[..., T], images: Any, *others: Any) -> T:
    """`function(images, *others)` with automatic axes.

    When traced on explicit axes, results are sharded as the images are; under `jax.set_mesh` with explicit
    axes they are on those axes again.
    """
    meshes = (_explicit_mesh(leaf) for leaf in jax.tree.leaves((images, others)) if not is_concrete(leaf))
    traced_on = next((mesh for mesh in meshes if mesh is not None), None)
    if traced_on is None:
        there = _context_mesh()
        if there is None:
            return function(images, *others)
        with jax.set_mesh(automatic_mesh(there)):
            found = function(images, *others)
        return jax.tree.map(lambda leaf: _back(leaf, there), found)
    spec = getattr(getattr(jax.typeof(images), "sharding", None), "spec", None)
    result: T = jax.sharding.auto_axes(
        function,
        axes=tuple(traced_on.explicit_axes),
        out_sharding=NamedSharding(traced_on, PartitionSpec(spec[0] if spec else None)),
    )(images, *jax.tree.map(jax.numpy.asarray, others))
    return result


def _context_mesh() -> Mesh | None:
    """The mesh of explicit axes that `jax.set_mesh` has set, outside `jit`."""
    # During tracing only the abstract mesh is known, and none can be set.
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        with contextlib.suppress(ValueError):
            return jax.sharding.get_mesh()
    return None


def _back(leaf: Any, mesh: Mesh) -> Any:
    """An array on the axes of `mesh`, so that it can be combined with other arrays."""
    sharding = leaf.sharding if isinstance(leaf, jax.Array) and is_concrete(leaf) else None
    if isinstance(sharding, NamedSharding) and sharding.mesh == automatic_mesh(mesh):
        return jax.device_put(leaf, NamedSharding(mesh, sharding.spec))
    return leaf


def _explicit_mesh(leaf: Any) -> Any:
    sharding = getattr(jax.typeof(leaf), "sharding", None) if isinstance(leaf, jax.Array) else None
    mesh = getattr(sharding, "mesh", None)
    return mesh if mesh is not None and AxisType.Explicit in mesh.axis_types else None


# The number of images at once: as many as fit into a device's free memory, up to a limit beyond which the
# speed does not increase. Peak memory grows linearly with the chunk and does not depend on the number of
# images. The program is compiled for the largest useful chunk, and XLA reports its buffers; if it fits, that
# program runs, at no extra cost. Otherwise a second one is compiled, for the largest power of two that fits
# by linear extrapolation.

MOST_ON_CPU = 8
"""Images per device on CPUs. Each image has its own masks, so that a chunk shares only the weights: on two
cores a step of SqueezeNet took 22, 20, 20, 22, 23 and 25 ms per image for 1, 2, 4, 8, 16 and 32 images, while
memory and the padding of the last chunk grow."""
MOST_ON_ACCELERATOR = 32
"""Images per device on accelerators; not measured."""
SHARE_ON_CPU = 0.5
"""The share of a host's free memory that is used; other processes need memory too."""
SHARE_ON_ACCELERATOR = 0.8
"""The share of an accelerator's free memory that is used, since it is fragmented."""


class ProgramBytes(NamedTuple):
    """The memory of a compiled program on each of its devices."""

    per_chunk: int
    """Bytes that grow with the chunk: activations, masks, optimiser state, results."""
    fixed: int
    """Bytes that do not: the network's parameters."""


def program_bytes(compiled: jax.stages.Compiled, fixed: int = 0) -> ProgramBytes:
    """XLA's count: temporaries, arguments and results; shared buffers count once.

    `fixed` is the part of the arguments that does not grow with the chunk.
    """
    counted: Any = compiled.memory_analysis()
    total = (
        counted.temp_size_in_bytes
        + counted.argument_size_in_bytes
        + counted.output_size_in_bytes
        - counted.alias_size_in_bytes
    )
    return ProgramBytes(total - fixed, fixed)


def free_bytes(device: Any) -> int:
    """The bytes that a program may use on `device`: of the backend's free memory, otherwise of the host's.

    The devices of one host share its memory, of which half of the free part is left to others; a fifth of an
    accelerator's is left, since it is fragmented.
    """
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        free = statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
        return int(SHARE_ON_ACCELERATOR * free)
    return int(SHARE_ON_CPU * host_free_bytes() / jax.local_device_count())


def host_free_bytes(root: Path = Path("/")) -> int:
    """The free bytes of the host, or of this process's control group, whichever is less."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        known = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        known = []
    if not known and hasattr(os, "sysconf"):
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    groups = root / "sys/fs/cgroup"
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            known.append(int((groups / limit).read_text()) - int((groups / used).read_text()))
        except (OSError, ValueError):
            # Another version of control groups, or "max": no limit.
            continue
    return max(0, min(known, default=2**31))


def even_chunk(count: int, most: int, devices: int = 1) -> int:
    """The chunk for `count` images: a power of two, times `devices`, of at most `most`.

    Each chunk size is a separate program; powers of two limit their number, to four up to 8. The largest one
    is chosen that pads the last chunk by at most a third of the images: a padded image takes as long as a
    real one.

    >>> [even_chunk(count, 8) for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 100)]
    [1, 2, 4, 4, 2, 8, 8, 8, 4, 8]
    >>> even_chunk(100, 20, devices=3)
    12
    """
    chunk = devices
    while 2 * chunk <= most:
        chunk *= 2
    while chunk > devices and 3 * (-count % chunk) > count:
        chunk //= 2
    return chunk


def fitting_chunk(
    bytes_of: Callable[[int], ProgramBytes], *, count: int, free: int, most: int, devices: int = 1
) -> int:
    """The largest chunk that `even_chunk` would choose and that fits into `free` bytes on each device.

    Args:
        bytes_of: the memory of the program for a chunk on each device; compiles it. count: images to explain.
        free: bytes, on each device.
        most: the largest useful chunk.
        devices: over which the chunk is divided.

    Raises:
        InputError: not even one image fits.

    >>> fitting_chunk(lambda chunk: ProgramBytes(100 * chunk, 50), count=64, free=1000, most=32)
    8
    """
    chunk = even_chunk(count, max(most, devices), devices)
    while True:
        needed = bytes_of(chunk)
        if sum(needed) <= free:
            return chunk
        if chunk == devices:
            raise InputError(
                f"one image needs {_readable(sum(needed))}, and {_readable(free)} are free: take a smaller "
                "network or image, or the method's option that takes less at once; batch_size=1 tries all "
                "the same"
            )
        # At least halved, in case memory is not exactly linear.
        each = needed.per_chunk / chunk
        most = min(chunk // 2, int(max(0, free - needed.fixed) / each))
        chunk = even_chunk(count, max(most, devices), devices)


def most_at_once(device: jax.Device) -> int:
    """The largest useful chunk per device."""
    return MOST_ON_CPU if device.platform == "cpu" else MOST_ON_ACCELERATOR


def _readable(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# A long batch in chunks of one shape, on one device or divided over the devices of a mesh.

Inputs: TypeAlias = tuple[Any, Any, Any]
"""Images, targets and keys (or None), with a common first axis."""


def local_mesh() -> Mesh | None:
    """A mesh of all devices of this process, or None if there is only one."""
    devices = jax.local_devices()
    return Mesh(np.asarray(devices), ("images",)) if len(devices) > 1 else None


def along_images(mesh: Mesh) -> NamedSharding:
    """The first axis divided over all devices of `mesh`, whatever its axes."""
    return NamedSharding(automatic_mesh(mesh), PartitionSpec(mesh.axis_names))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """`tree` replicated on every device of `mesh`; unchanged without a mesh."""
    return (
        tree if mesh is None else jax.device_put(tree, NamedSharding(automatic_mesh(mesh), PartitionSpec()))
    )


def take_chunk(inputs: Inputs, at: int, chunk: int, mesh: Mesh | None) -> Inputs:
    """`chunk` images from `at` on, in buffers of their own; beyond the end the last image again."""
    sharding = None if mesh is None else along_images(mesh)
    if chunk == len(inputs[0]) and isinstance(inputs[0], np.ndarray):
        # All of them, and copied to the device anyway.
        return jax.device_put(inputs, sharding)
    index = np.minimum(np.arange(at, at + chunk), len(inputs[0]) - 1)
    return jax.tree.map(lambda leaf: jax.device_put(leaf[index], sharding), inputs)


def chunk_shapes(inputs: Inputs, chunk: int, mesh: Mesh | None) -> Inputs:
    """What `take_chunk` gives, without the numbers."""
    sharding = None if mesh is None else along_images(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((chunk, *leaf.shape[1:]), leaf.dtype, sharding=sharding), inputs
    )


def walk(
    run: Callable[..., Attribution],
    inputs: Inputs,
    chunk: int,
    mesh: Mesh | None,
    *,
    progress: bool,
    on_step: OnStep | None = None,
) -> Attribution:
    """`run` on chunk after chunk, the last one filled up; the results are collected in host memory."""
    count = len(inputs[0])
    collected: Attribution | None = None
    with bar("explaining", count, remaining=True) if progress else contextlib.nullcontext() as shown:
        for at in range(0, count, chunk):
            behind, number = at // chunk, -(-count // chunk)
            step = None if on_step is None else _among_chunks(on_step, behind, number)
            result = jax.device_get(run(take_chunk(inputs, at, chunk, mesh), on_step=step))
            if collected is None:
                # Once, and not in parts that are joined at the end, which would take the memory twice.
                collected = jax.tree.map(lambda leaf: np.empty((count, *leaf.shape[1:]), leaf.dtype), result)
            kept = min(chunk, count - at)
            _write(collected, at, result, kept)
            if shown is not None:
                shown.advance(shown.task_ids[0], kept)
    assert collected is not None
    return collected


def _write(collected: Attribution, at: int, result: Attribution, count: int) -> None:
    """The first `count` rows of `result` into `collected`, from row `at` on."""
    for into, leaf in zip(jax.tree.leaves(collected), jax.tree.leaves(result), strict=True):
        into[at : at + count] = leaf[:count]


def place_like(result: Attribution, images: Any) -> Attribution:
    """The result where the images are: in host memory, or on their devices and divided as they are along
    their first axis. What is traced, or divided over several processes, stays as it is.
    """
    if not all(is_here(leaf) for leaf in jax.tree.leaves((images, result))):
        return result
    if not isinstance(images, jax.Array):
        # Copied where JAX gives its own memory to be read only.
        in_memory: Attribution = jax.tree.map(
            lambda leaf: leaf if leaf.flags.writeable else leaf.copy(), jax.device_get(result)
        )
        return in_memory
    if not images.is_fully_addressable:
        return result
    # Images on no device in particular leave the result on none.
    sharding: Any = images.sharding if images.committed else None
    if isinstance(sharding, NamedSharding):
        # The other axes are those of an image, which scores and flags have not.
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
    on_them: Attribution = jax.device_put(result, sharding)
    return on_them


def _among_chunks(on_step: OnStep, behind: int, number: int) -> OnStep:
    """`on_step` for one of a `number` of chunks, `behind` others."""
    return lambda done, total: on_step(behind * total + done, number * total)


def by_shape(things: Iterable[T], shape: Callable[[T], tuple[int, ...] | None]) -> list[list[T]]:
    """The elements in groups of equal shape, in order of first appearance.

    >>> by_shape(["a", "bc", "d"], lambda text: (len(text),))
    [['a', 'd'], ['bc']]
    """
    groups: dict[tuple[int, ...] | None, list[T]] = {}
    for thing in things:
        groups.setdefault(shape(thing), []).append(thing)
    return list(groups.values())
