"""Arrays of another precision."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def cast_floats(tree: Tree, dtype: Any) -> Tree:
    """Every floating array of a tree in that dtype; whole numbers and random keys as they are.

    >>> cast_floats({"w": jnp.ones(2), "steps": jnp.asarray(3)}, jnp.bfloat16)["w"].dtype.name
    'bfloat16'
    """

    def cast(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(jax.typeof(leaf).dtype, jnp.floating) else leaf

    cast_tree: Tree = jax.tree.map(cast, tree)
    return cast_tree
