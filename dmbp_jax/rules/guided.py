"""The rule of guided backpropagation: the plain gate, and only positive cotangents."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.rules.plain import Plain


@jax.custom_vjp
def guided_relu(z: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`max(z, 0)`; backward `dz = 1[z > 0] max(da, 0)`."""
    return jax.nn.relu(z)


def _forward(z: Array) -> tuple[Array, Array]:
    return jax.nn.relu(z), z > 0


def _backward(gate: Array, cotangent: Array) -> tuple[Array]:
    return (jnp.where(gate, jax.nn.relu(cotangent), 0),)


guided_relu.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class Guided(Plain):
    """Plain but for the ReLU's backward pass."""

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """`max(z, 0)` with the guided backward pass."""
        return guided_relu(z)


GUIDED = Guided()
