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


def on_automatic_axes(function: Callable[..., T], images: Any, *others: Any) -> T:
    """`function(images, *others)`, with the compiler free on all axes.

    Traced on explicit axes, the results are divided as the images are; where `jax.set_mesh` made the axes
    explicit, they are on these again.
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
    # While something is traced, only the abstract one is known, and none can be set.
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        with contextlib.suppress(ValueError):
            return jax.sharding.get_mesh()
    return None


def _back(leaf: Any, mesh: Mesh) -> Any:
    """An array on the automatic axes of `mesh` on its own, where it can be computed with other arrays."""
    sharding = leaf.sharding if isinstance(leaf, jax.Array) and is_concrete(leaf) else None
    if isinstance(sharding, NamedSharding) and sharding.mesh == automatic_mesh(mesh):
        return jax.device_put(leaf, NamedSharding(mesh, sharding.spec))
    return leaf


def _explicit_mesh(leaf: Any) -> Any:
    sharding = getattr(jax.typeof(leaf), "sharding", None) if isinstance(leaf, jax.Array) else None
    mesh = getattr(sharding, "mesh", None)
    return mesh if mesh is not None and AxisType.Explicit in mesh.axis_types else None
