"""Masks multiplied into the backward pass: given ones (`Masked`), those of the preset `fast` (`Swept`),
learned ones (LPR, `Learned`)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Inexact, Shaped

from dmbp_jax._ranges import Number
from dmbp_jax.ops._derivatives import square_root
from dmbp_jax.ops._pool import pick, pool_selected
from dmbp_jax.rules._plain import IgnoreCustomDerivatives, OutputRule, warn_custom_derivative_ignored
from dmbp_jax.rules._record import Linearization, Site, linearize, note_site
from dmbp_jax.typing import Apply, Deferred, Elementwise, Image, Results, Role, ValuesOfOne, Window

# The masked rule of DMBP: frozen gates, and one mask per masked activation.
#
# With the gates of one image frozen, a pass under this rule is linear in the activations, so that it gives
#
# - masked backpropagation (paper, Eq. 7): its cotangents are multiplied by the masks,
#   `dz_l = m_l * g_l * da_l`;
# - by duality, the output `y^s` of Eq. 14 as its forward value, `a_l = m_l * g_l * z_l`, biases included;
# - the mask gradients `dy^s/dm_l = g_l * z_l * da_l`, from one forward and one backward pass.


@jax.custom_jvp
def masked_gate(
    z: Inexact[Array, "*shape"], gate: Bool[Array, "*shape"] | None, mask: Float[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """`a = mask * gate * z`, where `gate = None` stands for all ones.

    Backward `dz = mask * gate * da` and `dmask = gate * z * da`: without the mask's gradient a loss on the
    masked pass would train nothing, silently. The mask and `z` each keep their dtype.
    """
    return mask.astype(z.dtype) * (z if gate is None else jnp.where(gate, z, 0))


@functools.partial(masked_gate.defjvp, symbolic_zeros=True)
def _masked_gate_jvp(
    primals: tuple[Array, Array | None, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Array]:
    (z, gate, mask), (dz, _, dmask) = primals, tangents
    # Closed gates are zeros in both, so that the backward pass needs no gate.
    scale, opened = (mask, z) if gate is None else (jnp.where(gate, mask, 0), jnp.where(gate, z, 0))
    tangent = jnp.zeros_like(z)
    if not isinstance(dz, SymbolicZero):
        tangent = scale.astype(z.dtype) * dz
    if not isinstance(dmask, SymbolicZero):
        to_mask = (opened.astype(mask.dtype) * dmask).astype(z.dtype)
        tangent = to_mask if isinstance(dz, SymbolicZero) else tangent + to_mask
    return mask.astype(z.dtype) * opened, tangent


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
# A forward pass of one image, and a backward pass of three rows (`jax.vmap` of it), whose cotangents are
# those of the plain network, of the positive and of the negative branch. At each masked site the cotangents
# of the three rows determine the masks, which then multiply the branches' cotangents. The masks of a layer
# are therefore chosen when those of all layers above are known.


SMALLER = 2.0**-16
"""A factor of magnitudes before they are added up; theta does not depend on it."""


class Choice(NamedTuple):
    """Parameters of the choice of one site's masks."""

    plain_weight: Number
    """The plain network's weight relative to that of one branch."""
    scale: Number
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
    axes = tuple(range(1, contributions.ndim))
    # Multiplied by a small factor, so that the sum of large numbers is finite; a row of zeros has no effect.
    sums = (SMALLER * jnp.abs(contributions)).sum(axis=axes, keepdims=True)
    plain, positive, negative = contributions / jnp.where(sums > 0, sums, 1)
    c = choice.plain_weight * plain + positive + negative
    if choice.by_location:
        c = jnp.broadcast_to(c.sum(axis=-1, keepdims=True), c.shape)
    # The mean of the squares of `sqrt(|c|)`.
    size = jnp.abs(c)
    square = size.sum() / jnp.maximum((size > 0).astype(size.dtype).sum(), 1)
    return strength * jnp.sign(c) * square_root(size) / jnp.sqrt(jnp.where(square > 0, square, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def backward_by(
    function: Callable[[Array, Array, Array], Array],
    a: Inexact[Array, "1 *shape"],
    strength: Float[Array, ""],
) -> Inexact[Array, "1 *shape"]:
    """`a`; backward, under a `jax.vmap` of several rows, `function(cotangents, a, strength)`."""
    return a


def _backward_by_backward(
    function: Callable[..., Array], residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    a, strength = residuals

    # Where all rows are the same, the site has no part in the score, and they are zeros.
    @jax.custom_batching.custom_vmap
    def of_rows(cotangent: Array, a: Array, strength: Array) -> Array:
        return cotangent

    @of_rows.def_vmap
    def _(_count: int, _of_row: list[bool], rows: Array, a: Array, strength: Array) -> tuple[Array, bool]:
        return function(rows, a, strength), True

    return of_rows(cotangent, a, strength), jnp.zeros_like(strength)


backward_by.defvjp(lambda function, a, strength: (a, (a, strength)), _backward_by_backward)


@dataclasses.dataclass(frozen=True)
class Swept(IgnoreCustomDerivatives):
    """Plain values; in a backward pass of three rows, masks at some of the activations and layers.

    The forward pass records the masked sites, the backward pass their masks. Between the two, `choices` must
    be filled.
    """

    is_masked: Callable[[Site], bool]
    strength: Number
    """How far the masks of every site open and close; see `choose_theta`."""
    dtype: np.dtype
    """Of the masks."""
    masked: dict[str, Site] = dataclasses.field(default_factory=dict)
    """The masked sites, in the order of the forward pass."""
    has_tangents: dict[str, bool] = dataclasses.field(default_factory=dict)
    """The smooth operations, which are no linear maps at the image without a constant."""
    choices: dict[str, Choice] = dataclasses.field(default_factory=dict)
    """How the masks are chosen, for each masked site."""
    masks: dict[str, Float[Array, "..."]] = dataclasses.field(default_factory=dict)
    """The positive branch's, of sites that have a part in the score; without batch axis."""

    def relu(self, site: str, z: ValuesOfOne) -> ValuesOfOne:
        """`max(z, 0)`, and its masks on the way back."""
        return self._masked(Site(site, "relu", z.shape[1:]), super().relu(site, z))

    def affine(self, site: str, z: ValuesOfOne, role: Role) -> ValuesOfOne:
        """`z`, and its masks on the way back."""
        return self._masked(Site(site, "affine", z.shape[1:], role), z)

    def piecewise(
        self, site: str, z: ValuesOfOne, function: Elementwise, *, smooth: bool = False
    ) -> ValuesOfOne:
        """`function(z)`, and its masks on the way back."""
        if smooth:
            self.has_tangents[site] = True
        value = super().piecewise(site, z, function, smooth=smooth)
        return self._masked(Site(site, "piecewise", z.shape[1:]), value)

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        """`function(*operands)`."""
        self.has_tangents[site] = True
        return super().smooth(site, function, *operands)

    def _masked(self, site: Site, a: Array) -> Array:
        if not self.is_masked(site):
            return a
        note_site(self.masked, site)
        return backward_by(functools.partial(self._mask, site.name), a, jnp.asarray(self.strength))

    def _mask(self, site: str, rows: Array, a: Array, strength: Array) -> Array:
        """The row of the plain network, the positive branch's times `m+ = scale sigmoid(theta)`, and the
        negative one's times `m- = scale sigmoid(-theta)`; see `choose_theta`."""
        choice = self.choices[site]
        masked, self.masks[site] = _mask_rows(rows, a, strength, dtype=self.dtype, **choice._asdict())
        return masked


# Traced once for all sites of a shape.
@functools.partial(jax.jit, static_argnames=("by_location", "dtype"))
def _mask_rows(
    rows: Array,
    a: Array,
    strength: Array,
    *,
    plain_weight: Number,
    scale: Number,
    by_location: bool,
    dtype: np.dtype,
) -> tuple[Array, Array]:
    contributions = a.astype(dtype) * rows.astype(dtype)[:, 0]
    theta = choose_theta(contributions, Choice(plain_weight, scale, by_location), strength)
    positive, negative = scale * jax.nn.sigmoid(theta), scale * jax.nn.sigmoid(-theta)
    masks = jnp.stack([jnp.ones_like(positive), positive, negative])
    return masks.astype(rows.dtype)[:, None] * rows, positive


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
