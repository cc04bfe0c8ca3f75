"""Arrays on meshes of explicit axes, as `jax.make_mesh` makes them: there, JAX wants the sharding of every
intermediate array named, which a network that is not written for it does not do."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dmbp_jax.checks import is_concrete

T = TypeVar("T")


def automatic_mesh(mesh: Mesh) -> Mesh:
    """The same devices, with the compiler free to place what lies between."""
    return Mesh(mesh.devices, mesh.axis_names)


def automatic(tree: T) -> T:
    """`tree` where it is, its arrays on explicit axes now on automatic ones; traced ones as they are."""

    def put(leaf: Any) -> Any:
        if _explicit_mesh(leaf) is None or not is_concrete(leaf):
            return leaf
        return jax.device_put(leaf, NamedSharding(automatic_mesh(leaf.sharding.mesh), leaf.sharding.spec))

    return jax.tree.map(put, tree)


def in_automatic_context() -> contextlib.AbstractContextManager[Any]:
    """A block outside `jit` in which the axes that `jax.set_mesh` made explicit are automatic."""
    # While something is traced, only the abstract one is known, and none can be set.
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        with contextlib.suppress(ValueError):
            return jax.set_mesh(automatic_mesh(jax.sharding.get_mesh()))
    return contextlib.nullcontext()


def traced_explicitly(tree: Any) -> Any:
    """The mesh on whose explicit axes an array of `tree` is being traced; None if there is no such array."""
    meshes = (_explicit_mesh(leaf) for leaf in jax.tree.leaves(tree) if not is_concrete(leaf))
    return next((mesh for mesh in meshes if mesh is not None), None)


def along_automatic_axes(mesh: Any, function: Callable[..., T], images: Any, *others: Any) -> T:
    """`function(images, *others)`, with `mesh` left to the compiler; the result lies as `images`."""
    spec = jax.typeof(images).sharding.spec
    divided = NamedSharding(mesh, PartitionSpec(spec[0] if spec else None))
    axes = tuple(
        name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind is AxisType.Explicit
    )
    result: T = jax.sharding.auto_axes(function, axes=axes, out_sharding=divided)(images, *others)
    return result


def _explicit_mesh(leaf: Any) -> Any:
    sharding = getattr(jax.typeof(leaf), "sharding", None) if isinstance(leaf, jax.Array) else None
    mesh = getattr(sharding, "mesh", None)
    return mesh if mesh is not None and AxisType.Explicit in mesh.axis_types else None
