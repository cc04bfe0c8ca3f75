"""Arrays of another precision."""

from typing import Any

import jax
import jax.numpy as jnp


def cast_floats(tree: Any, dtype: Any) -> Any:
    """Every floating array of a tree in that dtype; whole numbers and random keys as they are.

    >>> cast_floats({"w": jnp.ones(2), "steps": jnp.asarray(3)}, jnp.bfloat16)["w"].dtype.name
    'bfloat16'
    """

    def cast(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(jax.typeof(leaf).dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)
