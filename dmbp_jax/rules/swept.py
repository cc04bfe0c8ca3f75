"""The rule of the preset `fast`: masks that a backward pass chooses on its way from the logit to the image.

A pass of one image in three equal rows, whose cotangents are those of the plain network, of the positive and
of the negative branch. The values are the plain network's; at each masked site, what arrives there in the
three rows decides the masks, and the branches go on through them. So the masks of a layer are chosen when
those of all layers above are known.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from dmbp_jax.checks import Number
from dmbp_jax.ops import square_root
from dmbp_jax.rules.plain import Behind


class Choice(NamedTuple):
    """How the masks of one site are chosen."""

    plain_weight: float
    """The plain network's beside the weight of one branch."""
    scale: float
    """What the two masks of an activation sum up to."""
    by_location: bool = False
    """Whether a location decides as a whole, by the sum over channels, the last axis."""


def choose_theta(
    contributions: Float[Array, "3 *shape"], choice: Choice, strength: Number
) -> Float[Array, "*shape"]:
    """`theta = strength * s / rms(s)`, `s = sign(c) sqrt(|c|)` (Powerball; Yuan et al., 2016), the root mean
    square taken over the entries that are not zero.

    `c = w c0 + c+ + c-` with `w` the plain network's weight, where each of the three, `a * dy/da` in a row of
    `contributions`, is divided by the sum of its magnitudes, so that none outweighs the others.

    Args:
        contributions: of the plain network, the positive and the negative branch, in any unit.
        choice: `plain_weight` and `by_location`; `scale` plays no part.
        strength: at least 0; at 0 every mask is the same, and at infinity it opens or closes.

    >>> rows = jnp.asarray([[1.0, -1.0, 0.0]] * 3)
    >>> choose_theta(rows, Choice(plain_weight=1.0, scale=2.0), strength=2.0).tolist()
    [2.0, -2.0, 0.0]
    """
    sizes = jnp.abs(contributions)
    axes = tuple(range(1, contributions.ndim))
    # Relative to the largest first: nothing overflows, and a row that is dead decides nothing. No quotient
    # below depends on the largest, so that no derivative goes through it.
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


def _forward(choice: Choice, a: Array, slot: Array, strength: Array) -> tuple[Array, tuple[Array, ...]]:
    return a, (a, slot, strength)


def _backward(choice: Choice, residuals: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    a, slot, strength = residuals
    contributions = a.astype(slot.dtype) * cotangent.astype(slot.dtype)
    theta = choose_theta(contributions, choice, strength)
    positive, negative = choice.scale * jax.nn.sigmoid(theta), choice.scale * jax.nn.sigmoid(-theta)
    masks = jnp.stack([jnp.ones_like(positive), positive, negative])
    return masks.astype(cotangent.dtype) * cotangent, positive, jnp.zeros_like(strength)


sweep_masks.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class Swept(Behind):
    """Plain values of three equal rows; backward, masks at the sites that have a slot.

    Slots are zeros of the shape of their site's output, without batch axis, and receive the masks as their
    gradients.
    """

    slots: dict[str, Float[Array, "..."]]
    choices: Mapping[str, Choice]
    """How the masks are chosen, for each site that has a slot."""
    strength: Number
    """How far the masks of every site open and close; see `choose_theta`."""

    def behind(self, site: str, a: Inexact[Array, "3 *shape"]) -> Inexact[Array, "3 *shape"]:
        """`a`, and its masks on the way back."""
        if site not in self.slots:
            return a
        return sweep_masks(self.choices[site], a, self.slots[site], jnp.asarray(self.strength))
