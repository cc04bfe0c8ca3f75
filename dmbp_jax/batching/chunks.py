"""A long batch in chunks of one shape, on one device or divided over the devices of a mesh."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dmbp_jax.batching.explicit import automatic_mesh
from dmbp_jax.progress import bar
from dmbp_jax.result import Attribution
from dmbp_jax.typing import OnStep

T = TypeVar("T")

Inputs: TypeAlias = tuple[Any, Any, Any]
"""Images, targets and keys (or None), in step along their first axis."""


def local_mesh() -> Mesh | None:
    """All devices of this process, or None where there is only one."""
    devices = jax.local_devices()
    return Mesh(np.asarray(devices), ("images",)) if len(devices) > 1 else None


def along_images(mesh: Mesh) -> NamedSharding:
    """The first axis divided over all devices of `mesh`, whatever its axes."""
    return NamedSharding(automatic_mesh(mesh), PartitionSpec(mesh.axis_names))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """`tree` whole on every device of `mesh`; as it is without one."""
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
    chunks: list[Attribution] = []
    with bar("explaining", count, remaining=True) if progress else contextlib.nullcontext() as shown:
        for at in range(0, count, chunk):
            behind, number = at // chunk, -(-count // chunk)
            step = None if on_step is None else _among_chunks(on_step, behind, number)
            result = jax.device_get(run(take_chunk(inputs, at, chunk, mesh), on_step=step))
            kept = min(chunk, count - at)
            chunks.append(jax.tree.map(lambda leaf, n=kept: leaf[:n], result))
            if shown is not None:
                shown.advance(shown.task_ids[0], kept)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)


def _among_chunks(on_step: OnStep, behind: int, number: int) -> OnStep:
    """`on_step` for one of a `number` of chunks, `behind` others."""
    return lambda done, total: on_step(behind * total + done, number * total)


def by_shape(things: Iterable[T], shape: Callable[[T], tuple[int, ...]]) -> list[list[T]]:
    """The things in groups of one shape, in order of first appearance.

    >>> by_shape(["a", "bc", "d"], lambda text: (len(text),))
    [['a', 'd'], ['bc']]
    """
    groups: dict[tuple[int, ...], list[T]] = {}
    for thing in things:
        groups.setdefault(shape(thing), []).append(thing)
    return list(groups.values())
