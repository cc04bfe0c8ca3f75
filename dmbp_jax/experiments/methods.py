"""The attribution methods by name."""

from dmbp_jax.dmbp import dmbp
from dmbp_jax.typing import Method

METHODS: dict[str, Method] = {"dmbp": dmbp}
