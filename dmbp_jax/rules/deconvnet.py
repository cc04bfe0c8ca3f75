"""The rule of DeconvNet: a ReLU on the cotangents in place of the forward gate; pools keep their switches."""

import dataclasses

import jax
from jaxtyping import Array, Inexact

from dmbp_jax.rules.plain import Plain


@jax.custom_vjp
def deconvnet_relu(z: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`max(z, 0)`; backward `dz = max(da, 0)`."""
    return jax.nn.relu(z)


def _forward(z: Array) -> tuple[Array, None]:
    return jax.nn.relu(z), None


def _backward(residual: None, cotangent: Array) -> tuple[Array]:
    return (jax.nn.relu(cotangent),)


deconvnet_relu.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class DeconvNet(Plain):
    """Plain but for the ReLU's backward pass."""

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """`max(z, 0)` with DeconvNet's backward pass."""
        return deconvnet_relu(z)


DECONVNET = DeconvNet()
