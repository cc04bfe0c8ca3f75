"""Masks multiplied into the backward pass: given ones (`Masked`), those of the preset `fast` (`Swept`),
learned ones (LPR, `Learned`)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Shaped

from dmbp_jax._checks import Number
from dmbp_jax.ops._derivatives import square_root
from dmbp_jax.ops._pool import pick, pool_selected
from dmbp_jax.rules._plain import OutputRule, warn_custom_derivative_ignored
from dmbp_jax.rules._record import Linearization, linearize
from dmbp_jax.typing import Apply, Deferred, Elementwise, Image, Results, Role, ValuesOfOne, Window

# The masked rule of DMBP: frozen gates, and one mask per masked activation.
#
# With the gates of one image frozen, a pass under this rule is linear in the activations, so that it gives
#
# - masked backpropagation (paper, Eq. 7): its cotangents are multiplied by the masks,
#   `dz_l = m_l * g_l * da_l`;
# - by duality, the output `y^s` of Eq. 14 as its forward value, `a_l = m_l * g_l * z_l`, biases included;
# - the mask gradients `dy^s/dm_l = g_l * z_l * da_l`, from one forward and one backward pass.


@jax.custom_vjp
def masked_gate(
    z: Inexact[Array, "*shape"], gate: Bool[Array, "*shape"] | None, mask: Float[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """`a = mask * gate * z`, where `gate = None` stands for all ones.

    Backward `dz = mask * gate * da` and `dmask = gate * z * da`: without the mask's gradient a loss on the
    masked pass would train nothing, silently. The mask and `z` each keep their dtype.
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
    """Whether a smooth operation's tangent includes its constant, or is the linear map alone."""

    def relu(self, site: str, z: ValuesOfOne) -> ValuesOfOne:
        """`mask * gate * z`."""
        gate = self.linearization.gates[site]
        if site in self.masks:
            return masked_gate(z, gate, self.masks[site][None])
        return jnp.where(gate, z, 0)

    def max_pool(
        self, site: str, h: Inexact[Array, "1 h w c"], window: Window
    ) -> Inexact[Array, "1 hh ww c"]:
        """The elements of `h` that were the maxima at the image."""
        return pool_selected(h, self.linearization.selections[site], window)

    def affine(self, site: str, z: ValuesOfOne, role: Role) -> ValuesOfOne:
        """`mask * z`."""
        if site in self.masks:
            return masked_gate(z, None, self.masks[site][None])
        return z

    def piecewise(
        self, site: str, z: ValuesOfOne, function: Elementwise, *, smooth: bool = False
    ) -> ValuesOfOne:
        """`mask * (slope * z + offset)`: the offset is one more bias."""
        at = self.linearization
        slope, offset = (at.tangents if smooth else at.pieces)[site]
        piece = slope * z + offset if self.tangent_constants or not smooth else slope * z
        return masked_gate(piece, None, self.masks[site][None]) if site in self.masks else piece

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        """The elements that were the maxima at the image."""
        return pick(elements, self.linearization.maxima[site])

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

    def custom_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, from_operations: Deferred
    ) -> Results:
        """The function by its operations; an `ExplanationWarning` says so."""
        warn_custom_derivative_ignored(name)
        return from_operations()


# The rule of the preset `fast`: masks chosen during the backward pass, from the logit to the image.
#
# A pass of one image in three equal rows, whose cotangents are those of the plain network, of the positive
# and of the negative branch. The values are the plain network's. At each masked site the cotangents of the
# three rows determine the masks, which then multiply the branches' cotangents. The masks of a layer are
# therefore chosen when those of all layers above are known.


class Choice(NamedTuple):
    """Parameters of the choice of one site's masks."""

    plain_weight: float
    """The plain network's weight relative to that of one branch."""
    scale: float
    """The sum of the two masks of an activation."""
    by_location: bool = False
    """Whether all channels (the last axis) of a location share one mask, chosen by their sum."""


def choose_theta(
    contributions: Float[Array, "3 *shape"], choice: Choice, strength: Number
) -> Float[Array, "*shape"]:
    """`theta = strength * s / rms(s)`, `s = sign(c) sqrt(|c|)` (Powerball; Yuan et al., 2016), the root mean
    square taken over the entries that are not zero.

    `c = w c0 + c+ + c-` with `w` the plain network's weight. Each of the three, `a * dy/da` in a row of
    `contributions`, is divided by the sum of its magnitudes, so that none dominates.

    Args:
        contributions: of the plain network, the positive and the negative branch, in any unit.
        choice: `plain_weight` and `by_location`; `scale` is not used.
        strength: at least 0; at 0 all masks are equal, at infinity they are 0 or `scale`.

    >>> rows = jnp.asarray([[1.0, -1.0, 0.0]] * 3)
    >>> choose_theta(rows, Choice(plain_weight=1.0, scale=2.0), strength=2.0).tolist()
    [2.0, -2.0, 0.0]
    """
    sizes = jnp.abs(contributions)
    axes = tuple(range(1, contributions.ndim))
    # Divided by the maximum first, so that nothing overflows, and a row of zeros has no effect. No quotient
    # below depends on the maximum, so no derivative is taken of it.
    largest = jax.lax.stop_gradient(sizes.max(axis=axes, keepdims=True))
    rows = contributions / jnp.where(largest > 0, largest, 1)
    rows = rows / jnp.where(largest > 0, jnp.abs(rows).sum(axis=axes, keepdims=True), 1)
    plain, positive, negative = rows
    c = choice.plain_weight * plain + positive + negative
    if choice.by_location:
        c = jnp.broadcast_to(c.sum(axis=-1, keepdims=True), c.shape)
    size = jnp.abs(c)
    biggest = jax.lax.stop_gradient(size.max())
    root = square_root(size / jnp.where(biggest > 0, biggest, 1))
    square = (root**2).sum() / jnp.maximum((size > 0).astype(size.dtype).sum(), 1)
    return strength * jnp.sign(c) * root / jnp.sqrt(jnp.where(square > 0, square, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def sweep_masks(
    choice: Choice, a: Inexact[Array, "3 *shape"], slot: Float[Array, "*shape"], strength: Float[Array, ""]
) -> Inexact[Array, "3 *shape"]:
    """`a`; backward the second row is multiplied by `m+ = scale sigmoid(theta)`, the third by
    `m- = scale sigmoid(-theta)`, see `choose_theta`. `slot` is not used, and its gradient is `m+`."""
    return a


def _sweep_forward(choice: Choice, a: Array, slot: Array, strength: Array) -> tuple[Array, tuple[Array, ...]]:
    return a, (a, slot, strength)


def _sweep_backward(choice: Choice, residuals: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    a, slot, strength = residuals
    contributions = a.astype(slot.dtype) * cotangent.astype(slot.dtype)
    theta = choose_theta(contributions, choice, strength)
    positive, negative = choice.scale * jax.nn.sigmoid(theta), choice.scale * jax.nn.sigmoid(-theta)
    masks = jnp.stack([jnp.ones_like(positive), positive, negative])
    return masks.astype(cotangent.dtype) * cotangent, positive, jnp.zeros_like(strength)


sweep_masks.defvjp(_sweep_forward, _sweep_backward)


@dataclasses.dataclass(frozen=True)
class Swept(OutputRule):
    """Plain values of three equal rows; backward, masks at the sites that have a slot.

    Slots are zeros of the shape of their site's output, without batch axis, and receive the masks as their
    gradients.
    """

    slots: dict[str, Float[Array, "..."]]
    choices: Mapping[str, Choice]
    """The choice of masks for each site that has a slot."""
    strength: Number
    """As in `choose_theta`."""

    def output(self, site: str, a: Inexact[Array, "3 *shape"]) -> Inexact[Array, "3 *shape"]:
        """`a`; its masks multiply the cotangents."""
        if site not in self.slots:
            return a
        return sweep_masks(self.choices[site], a, self.slots[site], jnp.asarray(self.strength))


# The rule of LPR: plain values, and a learnable gate on every cotangent that leaves a ReLU.
#
# Source: Yang et al., "Learning Propagation Rules for Attribution Map Generation", ECCV 2020; see
# `dmbp_jax.attribution.lpr` for what is reconstructed.
#
# This rule is for the pass whose *gradient* is the explanation. The values of a network under it do not
# depend on theta, its gradients do; so a loss on those values has the wrong gradient wherever their inputs
# depend on theta. A second pass over an image that was masked with the first one's gradient must take the
# plain rule.


@jax.custom_vjp
def learned_gate(a: Inexact[Array, "*shape"], theta: Float[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """`a`; backward `sigmoid(theta) * da`, and `dtheta = 0`.

    The gradient may be differentiated again, in reverse, with respect to theta.
    """
    return a


def _learned_backward(theta: Array, cotangent: Array) -> tuple[Array, Array]:
    return jax.nn.sigmoid(theta).astype(cotangent.dtype) * cotangent, jnp.zeros_like(theta)


learned_gate.defvjp(lambda a, theta: (a, theta), _learned_backward)


@dataclasses.dataclass(frozen=True)
class Learned(OutputRule):
    """Plain but for the backward pass of the activations in `thetas`, one image at a time.

    Thetas have the shape of their site's output, without batch axis. A site without theta follows the plain
    rule, as does an infinite theta.
    """

    thetas: dict[str, Float[Array, "..."]]

    def output(self, site: str, a: ValuesOfOne) -> ValuesOfOne:
        """`a` with the learned gate on its cotangent."""
        return learned_gate(a, self.thetas[site][None]) if site in self.thetas else a


# The biases of a network: every layer's output for zeros.


def biases_at(apply: Apply, params: Any, image: Image) -> dict[str, Inexact[Array, "..."]]:
    """Each affine site's output for zeros, and the constant part of each other activation at the image.

    Together with the image they account for the logits (Eq. 14), except for the constants of tangents, which
    are not biases: a smooth activation has 0 here. Shapes are those of the sites.
    """
    _, at = linearize(apply, params, image)
    rule = _Zeros(at, {}, tangent_constants=False, found={})
    apply(params, jnp.zeros_like(image)[None], rule=rule)
    pieces = {site: piece.offset[0] for site, piece in at.pieces.items()}
    tangents = {site: jnp.zeros_like(piece.offset[0]) for site, piece in at.tangents.items()}
    return {**rule.found, **pieces, **tangents}


@dataclasses.dataclass(frozen=True)
class _Zeros(Masked):
    """Every layer and activation returns zeros; a layer's output for zeros is recorded in `found`."""

    found: dict[str, Array] = dataclasses.field(kw_only=True)

    def relu(self, site: str, z: ValuesOfOne) -> ValuesOfOne:
        return jnp.zeros_like(z)

    def max_pool(
        self, site: str, h: Inexact[Array, "1 h w c"], window: Window
    ) -> Inexact[Array, "1 hh ww c"]:
        return jnp.zeros_like(super().max_pool(site, h, window))

    def affine(self, site: str, z: ValuesOfOne, role: Role) -> ValuesOfOne:
        self.found[site] = z[0]
        return jnp.zeros_like(z)

    def piecewise(
        self, site: str, z: ValuesOfOne, function: Elementwise, *, smooth: bool = False
    ) -> ValuesOfOne:
        return jnp.zeros_like(z)
