"""The plain rule: every nonlinearity is itself, forward and backward."""

import dataclasses

import jax
from jaxtyping import Array, Inexact

from dmbp_jax import ops
from dmbp_jax.typing import Role, Window


@dataclasses.dataclass(frozen=True)
class Plain:
    """ReLU with gradient 0 at 0, max-pool with its gradient to the first maximum, as PyTorch has them."""

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """`max(z, 0)`."""
        del site
        return jax.nn.relu(z)

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        """The maximum of each window."""
        del site
        return ops.max_pool(h, window)

    def affine(self, site: str, z: Inexact[Array, "n *shape"], role: Role) -> Inexact[Array, "n *shape"]:
        """`z`."""
        del site, role
        return z


PLAIN = Plain()
