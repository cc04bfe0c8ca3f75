"""How a method's values become an `Attribution`."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.result import Attribution


def attribution(values: Float[Array, "..."], **fields: Any) -> Attribution:
    """An `Attribution` of one image with its `finite` flag set from `values`."""
    return Attribution(values=values, finite=jnp.isfinite(values).all(), **fields)
