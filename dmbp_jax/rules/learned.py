"""The rule of LPR: plain values, and a learnable gate on every cotangent that leaves a ReLU.

Source: Yang et al., "Learning Propagation Rules for Attribution Map Generation", ECCV 2020; see
`dmbp_jax.attribution.lpr` for what is reconstructed.

This rule is for the pass whose *gradient* is the explanation. The values of a network under it do not depend
on theta, its gradients do; so a loss on those values has the wrong gradient wherever their inputs depend on
theta. A second pass over an image that was masked with the first one's gradient must take the plain rule.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from dmbp_jax.rules.plain import Plain


@jax.custom_vjp
def learned_gate(z: Inexact[Array, "*shape"], theta: Float[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`max(z, 0)`; backward `dz = sigmoid(theta) * 1[z > 0] * da`, and `dtheta = 0`.

    The gradient may be differentiated again, in reverse, with respect to theta.
    """
    return jax.nn.relu(z)


def _forward(z: Array, theta: Array) -> tuple[Array, tuple[Array, Array]]:
    return jax.nn.relu(z), (z > 0, theta)


def _backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    gate, theta = residuals
    scale = jax.nn.sigmoid(theta).astype(cotangent.dtype)
    return jnp.where(gate, scale * cotangent, 0), jnp.zeros_like(theta)


learned_gate.defvjp(_forward, _backward)


@jax.custom_vjp
def learned_scale(a: Inexact[Array, "*shape"], theta: Float[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`a`; backward `sigmoid(theta) * da`, and `dtheta = 0`."""
    return a


def _scale_backward(theta: Array, cotangent: Array) -> tuple[Array, Array]:
    return jax.nn.sigmoid(theta).astype(cotangent.dtype) * cotangent, jnp.zeros_like(theta)


learned_scale.defvjp(lambda a, theta: (a, theta), _scale_backward)


@dataclasses.dataclass(frozen=True)
class Learned(Plain):
    """Plain but for the backward pass of the activations in `thetas`, one image at a time.

    Thetas have the shape of their site's output, without batch axis. One without theta is plain; at
    infinite theta every one is.
    """

    thetas: dict[str, Float[Array, "..."]]

    def relu(self, site: str, z: Inexact[Array, "1 *shape"]) -> Inexact[Array, "1 *shape"]:
        """`max(z, 0)` with the learned backward pass."""
        if site not in self.thetas:
            return super().relu(site, z)
        return learned_gate(z, self.thetas[site][None])

    def piecewise(
        self,
        site: str,
        z: Inexact[Array, "1 *shape"],
        function: Callable[[Array], Array],
        *,
        smooth: bool = False,
    ) -> Inexact[Array, "1 *shape"]:
        """`function(z)` with the learned backward pass."""
        value = super().piecewise(site, z, function, smooth=smooth)
        return learned_scale(value, self.thetas[site][None]) if site in self.thetas else value
