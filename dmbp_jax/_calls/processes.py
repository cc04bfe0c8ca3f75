"""A call of `explain` in a program of several processes, each with the values of its own images.

Images are independent, so that no process needs those of another: one program over all devices gives maps
that are divided as the images are, and each process explains its chunks by itself.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dmbp_jax._calls.call import Call
from dmbp_jax._calls.chunks import along_images, replicate
from dmbp_jax._checks import InputError, is_here


def is_shared(call: Call, mesh: Mesh | None) -> bool:
    """Whether the images of a call, or their devices, belong to several processes."""
    return not is_here(call.inputs[0]) or spans_processes(mesh)


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether a mesh has devices of other processes."""
    return mesh is not None and mesh.is_multi_process


def divide(call: Call, mesh: Mesh | None) -> Call:
    """The call with its inputs divided over the devices of all processes: as the images are, or over `mesh`.

    Every process must make the same call. Raises `InputError` if the devices do not divide the number of
    images.
    """
    images = call.inputs[0]
    if mesh is None:
        sharding = None
    elif len(images) % mesh.size:
        raise InputError(
            f"{len(images)} images cannot be divided over {mesh.size} devices of several processes without a "
            "remainder: give batch_size=, with which each process gets the maps of its own images"
        )
    else:
        sharding = along_images(mesh)

    def put(leaf: Any) -> Any:
        # An array that is whole in every process is the same in all of them.
        return leaf if sharding is None else jax.jit(lambda x: x, out_shardings=sharding)(_free(leaf))

    inputs = jax.tree.map(put, call.inputs)
    return Call(inputs, jax.tree.map(_free, call.params), jax.tree.map(_free, call.arrays), call.settings)


def take_own(call: Call, mesh: Mesh | None) -> tuple[Call, Mesh | None]:
    """This process's part of a call, and its devices: the images that it holds, or its share by `mesh` of
    images that every process has.

    Raises `InputError` for images that are divided along another axis than the first, parameters that no
    process has as a whole, and fewer images than processes.
    """
    images = call.inputs[0]
    if is_here(images):
        assert mesh is not None
        parts = np.array_split(np.arange(len(images)), mesh.size)
        owners = [device.process_index for device in mesh.devices.flat]
        counts = dict.fromkeys(owners, 0)
        for part, owner in zip(parts, owners, strict=True):
            counts[owner] += len(part)
        if not all(counts.values()):
            raise InputError(f"{len(images)} images are too few for {len(counts)} processes: leave mesh= out")
        mine = jax.process_index()
        rows = np.concatenate([part for part, owner in zip(parts, owners, strict=True) if owner == mine])
        devices = list(mesh.local_devices)
    else:
        rows = _rows_here(images)
        devices = sorted(images.sharding.addressable_devices, key=lambda device: device.id)
    local = Mesh(np.asarray(devices), ("images",)) if len(devices) > 1 else None
    inputs = jax.tree.map(lambda leaf: _take_rows(leaf, rows), call.inputs)
    fixed = [replicate(jax.tree.map(_whole, tree), local) for tree in (call.params, call.arrays)]
    return Call(inputs, fixed[0], fixed[1], call.settings), local


def _rows_here(leaf: jax.Array) -> np.ndarray:
    """The rows of an array of several processes that are in this one."""
    rows = set()
    for shard in leaf.addressable_shards:
        if shard.data.shape[1:] != leaf.shape[1:]:
            raise InputError(
                "images are divided over processes along another axis than their first one: with batch_size= "
                "each process explains its own, whole images; leave batch_size out"
            )
        rows.update(range(len(leaf))[shard.index[0]])
    return np.asarray(sorted(rows))


def _take_rows(leaf: Any, rows: np.ndarray) -> Any:
    """Some rows of an array, in host memory or on the devices where it is whole."""
    if is_here(leaf):
        return _whole(leaf)[rows]
    if not np.array_equal(_rows_here(leaf), rows):
        raise InputError("targets are divided over processes otherwise than the images: divide them alike")
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        numbers = _take_rows(jax.random.key_data(leaf), rows)
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
    shards = {shard.index[0].start or 0: shard for shard in leaf.addressable_shards}
    return np.concatenate([np.asarray(shards[start].data) for start in sorted(shards)])


def _whole(leaf: Any) -> Any:
    """An array that is whole in this process, on this process's devices only."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if not leaf.is_fully_replicated:
        raise InputError(
            "params are divided over processes: with batch_size= each process explains its own images, and "
            "needs them whole; leave batch_size out"
        )
    return leaf.addressable_data(0)


def _free(leaf: Any) -> Any:
    """An array as input of a program over all devices: of several processes, or not committed to a device."""
    if not isinstance(leaf, jax.Array) or not leaf.is_fully_addressable or not leaf.committed:
        return leaf
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        numbers: Any = np.asarray(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
    return np.asarray(leaf)
