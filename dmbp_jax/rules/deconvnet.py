"""The rule of DeconvNet: a ReLU on the cotangents in place of the forward gate; pools keep their switches."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.rules.plain import Opened


@jax.custom_vjp
def deconvnet_relu(z: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`max(z, 0)`; backward `dz = max(da, 0)`."""
    return jax.nn.relu(z)


def _forward(z: Array) -> tuple[Array, None]:
    return jax.nn.relu(z), None


def _backward(residual: None, cotangent: Array) -> tuple[Array]:
    return (jax.nn.relu(cotangent),)


deconvnet_relu.defvjp(_forward, _backward)


@jax.custom_vjp
def _in_place_of(a: Array, z: Array) -> Array:
    """`a`; backward `dz = max(da, 0)`, and nothing for `a`."""
    return a


_in_place_of.defvjp(
    lambda a, z: (a, None), lambda _, cotangent: (jnp.zeros_like(cotangent), jax.nn.relu(cotangent))
)


@dataclasses.dataclass(frozen=True)
class DeconvNet(Opened):
    """Plain but for the backward pass of the piecewise linear activations."""

    sites: list[str] = dataclasses.field(default_factory=list)
    """Those activations, noted on the way: without one, what comes out is the gradient."""

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """`max(z, 0)` with DeconvNet's backward pass."""
        self.sites.append(site)
        return deconvnet_relu(z)

    def piecewise(
        self,
        site: str,
        z: Inexact[Array, "n *shape"],
        function: Callable[[Array], Array],
        *,
        smooth: bool = False,
    ) -> Inexact[Array, "n *shape"]:
        """`function(z)`; backward `dz = max(da, 0)` whatever its slope, unless `smooth`."""
        if smooth:
            return function(z)
        self.sites.append(site)
        return _in_place_of(function(z), z)
