"""Guided backpropagation and DeconvNet: what a ReLU passes back."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.rules._plain import IgnoreCustomDerivatives
from dmbp_jax.typing import Elementwise, Values

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
class Guided(IgnoreCustomDerivatives):
    """Plain but for the backward pass of the piecewise linear activations, unless these are `smooth`.

    Backward `dz = slope * max(da, 0)`, with the slope at `z`.
    """

    sites: list[str] = dataclasses.field(default_factory=list)
    """Those activations, noted on the way: without one, what comes out is the gradient."""

    @staticmethod
    def rectified_relu(z: Array) -> Array:
        """`max(z, 0)` with the rule's backward pass."""
        return guided_relu(z)

    @staticmethod
    def rectified(a: Array, z: Array) -> Array:
        """The activation `a` of `z` with the rule's backward pass."""
        return only_positive(a)

    def relu(self, site: str, z: Values) -> Values:
        """`max(z, 0)` with the rule's backward pass."""
        self.sites.append(site)
        return self.rectified_relu(z)

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        """`function(z)` with the rule's backward pass, unless `smooth`."""
        if smooth:
            return function(z)
        self.sites.append(site)
        return self.rectified(function(z), z)


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
class DeconvNet(Guided):
    """As `Guided`, but whatever the forward pass did: backward `dz = max(da, 0)`."""

    @staticmethod
    def rectified_relu(z: Array) -> Array:
        """`max(z, 0)` with the rule's backward pass."""
        return deconvnet_relu(z)

    @staticmethod
    def rectified(a: Array, z: Array) -> Array:
        """The activation `a` of `z` with the rule's backward pass."""
        return _in_place_of(a, z)
