"""The rule of LPR: plain values, and a learnable gate on every cotangent that leaves a ReLU.

Source: Yang et al., "Learning Propagation Rules for Attribution Map Generation", ECCV 2020; see
`dmbp_jax.attribution.lpr` for what is reconstructed.

This rule is for the pass whose *gradient* is the explanation. The values of a network under it do not depend
on theta, its gradients do; so a loss on those values has the wrong gradient wherever their inputs depend on
theta. A second pass over an image that was masked with the first one's gradient must take the plain rule.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from dmbp_jax.rules.plain import Behind


@jax.custom_vjp
def learned_gate(a: Inexact[Array, "*shape"], theta: Float[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`a`; backward `sigmoid(theta) * da`, and `dtheta = 0`.

    The gradient may be differentiated again, in reverse, with respect to theta.
    """
    return a


def _backward(theta: Array, cotangent: Array) -> tuple[Array, Array]:
    return jax.nn.sigmoid(theta).astype(cotangent.dtype) * cotangent, jnp.zeros_like(theta)


learned_gate.defvjp(lambda a, theta: (a, theta), _backward)


@dataclasses.dataclass(frozen=True)
class Learned(Behind):
    """Plain but for the backward pass of the activations in `thetas`, one image at a time.

    Thetas have the shape of their site's output, without batch axis. One without theta is plain; at
    infinite theta every one is.
    """

    thetas: dict[str, Float[Array, "..."]]

    def behind(self, site: str, a: Inexact[Array, "1 *shape"]) -> Inexact[Array, "1 *shape"]:
        """`a` with the learned gate on its cotangent."""
        return learned_gate(a, self.thetas[site][None]) if site in self.thetas else a
