"""Guided backpropagation and DeconvNet: what a ReLU passes back."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.rules._plain import Opened

# The rule of guided backpropagation: the plain gate, and only positive cotangents.


@jax.custom_vjp
def guided_relu(z: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`max(z, 0)`; backward `dz = 1[z > 0] max(da, 0)`."""
    return jax.nn.relu(z)


def _guided_forward(z: Array) -> tuple[Array, Array]:
    return jax.nn.relu(z), z > 0


def _guided_backward(gate: Array, cotangent: Array) -> tuple[Array]:
    return (jnp.where(gate, jax.nn.relu(cotangent), 0),)


guided_relu.defvjp(_guided_forward, _guided_backward)


@jax.custom_vjp
def only_positive(a: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`a`; backward `max(da, 0)`."""
    return a


only_positive.defvjp(lambda a: (a, None), lambda _, cotangent: (jax.nn.relu(cotangent),))


@dataclasses.dataclass(frozen=True)
class Guided(Opened):
    """Plain but for the backward pass of the piecewise linear activations."""

    sites: list[str] = dataclasses.field(default_factory=list)
    """Those activations, noted on the way: without one, what comes out is the gradient."""

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """`max(z, 0)` with the guided backward pass."""
        self.sites.append(site)
        return guided_relu(z)

    def piecewise(
        self,
        site: str,
        z: Inexact[Array, "n *shape"],
        function: Callable[[Array], Array],
        *,
        smooth: bool = False,
    ) -> Inexact[Array, "n *shape"]:
        """`function(z)`; backward `dz = slope * max(da, 0)` with the slope at `z`, unless `smooth`."""
        if smooth:
            return function(z)
        self.sites.append(site)
        return only_positive(function(z))


# The rule of DeconvNet: a ReLU on the cotangents in place of the forward gate; pools keep their switches.


@jax.custom_vjp
def deconvnet_relu(z: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`max(z, 0)`; backward `dz = max(da, 0)`."""
    return jax.nn.relu(z)


def _deconvnet_forward(z: Array) -> tuple[Array, None]:
    return jax.nn.relu(z), None


def _deconvnet_backward(residual: None, cotangent: Array) -> tuple[Array]:
    return (jax.nn.relu(cotangent),)


deconvnet_relu.defvjp(_deconvnet_forward, _deconvnet_backward)


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
