"""The masked rule of DMBP: frozen gates, and one mask per masked activation.

With the gates of one image frozen, a pass under this rule is linear in the activations, so that it gives

- masked backpropagation (paper, Eq. 7): its cotangents are multiplied by the masks,
  `dz_l = m_l * g_l * da_l`;
- by duality, the output `y^s` of Eq. 14 as its forward value, `a_l = m_l * g_l * z_l`, biases included;
- the mask gradients `dy^s/dm_l = g_l * z_l * da_l`, from one forward and one backward pass.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Shaped

from dmbp_jax import ops
from dmbp_jax.rules.plain import say_opened
from dmbp_jax.rules.record import Linearization
from dmbp_jax.typing import Role, Window


@jax.custom_vjp
def masked_gate(
    z: Inexact[Array, "*shape"], gate: Bool[Array, "*shape"] | None, mask: Float[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """`a = mask * gate * z`, where `gate = None` stands for all ones.

    Backward `dz = mask * gate * da` and `dmask = gate * z * da`: the mask's own gradient must not be left
    out, or a loss on the masked pass learns nothing and does not say so. The mask keeps its dtype and `z`
    its own.
    """
    return _masked_gate_forward(z, gate, mask)[0]


def _masked_gate_forward(z: Array, gate: Array | None, mask: Array) -> tuple[Array, tuple[Array, Array]]:
    mask_of_z = mask.astype(z.dtype)
    if gate is None:
        return mask_of_z * z, (mask, z)
    # Closed gates are zeros in both, so that the backward pass needs no gate.
    scale, opened = jnp.where(gate, mask, 0), jnp.where(gate, z, 0)
    return mask_of_z * opened, (scale, opened)


def _masked_gate_backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, None, Array]:
    scale, opened = residuals
    to_mask = opened.astype(scale.dtype) * cotangent.astype(scale.dtype)
    return scale.astype(cotangent.dtype) * cotangent, None, to_mask


masked_gate.defvjp(_masked_gate_forward, _masked_gate_backward)


@dataclasses.dataclass(frozen=True)
class Masked:
    """A pass through the linear map of a network at one image, with masks at some of its sites.

    A site without a mask is as if its mask were all ones. Masks have the shape of their site's output,
    without batch axis.
    """

    linearization: Linearization
    masks: dict[str, Float[Array, "..."]]
    tangent_constants: bool = True
    """Whether a smooth operation's tangent has its constant, or is the linear map alone."""

    def relu(self, site: str, z: Inexact[Array, "1 *shape"]) -> Inexact[Array, "1 *shape"]:
        """`mask * gate * z`."""
        gate = self.linearization.gates[site]
        if site in self.masks:
            return masked_gate(z, gate, self.masks[site][None])
        return jnp.where(gate, z, 0)

    def max_pool(
        self, site: str, h: Inexact[Array, "1 h w c"], window: Window
    ) -> Inexact[Array, "1 hh ww c"]:
        """The elements of `h` that were the maxima at the image."""
        return ops.pool_selected(h, self.linearization.selections[site], window)

    def affine(self, site: str, z: Inexact[Array, "1 *shape"], role: Role) -> Inexact[Array, "1 *shape"]:
        """`mask * z`."""
        if site in self.masks:
            return masked_gate(z, None, self.masks[site][None])
        return z

    def piecewise(
        self,
        site: str,
        z: Inexact[Array, "1 *shape"],
        function: Callable[[Array], Array],
        *,
        smooth: bool = False,
    ) -> Inexact[Array, "1 *shape"]:
        """`mask * (slope * z + offset)`: the offset is one more bias."""
        at = self.linearization
        slope, offset = (at.tangents if smooth else at.pieces)[site]
        piece = slope * z + offset if self.tangent_constants or not smooth else slope * z
        return masked_gate(piece, None, self.masks[site][None]) if site in self.masks else piece

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        """The elements that were the maxima at the image."""
        return ops.pick(elements, self.linearization.maxima[site])

    def decide(self, site: str, decision: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
        """The decision at the image."""
        return self.linearization.decisions[site]

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        """The tangent at the image, `f(x0) + f'(x0) (x - x0)`."""
        points = self.linearization.points[site]
        values, tangent = jax.linearize(function, *points)
        if not self.tangent_constants:
            return tangent(*operands)
        moved = tangent(*(operand - point for operand, point in zip(operands, points, strict=True)))
        return jax.tree.map(jnp.add, values, moved)

    def own_derivative(
        self,
        name: str,
        sites: frozenset[str],
        as_defined: Callable[[], Sequence[Array | None]],
        opened: Callable[[], Sequence[Array | None]],
    ) -> Sequence[Array | None]:
        """The function by its operations; an `ExplanationWarning` says so."""
        say_opened(name)
        return opened()
