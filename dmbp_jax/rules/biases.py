"""The biases of a network, found by giving every layer zeros."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.rules.masked import Masked
from dmbp_jax.rules.record import linearize
from dmbp_jax.typing import Apply, Image, Role, Window


def biases_at(apply: Apply, params: Any, image: Image) -> dict[str, Inexact[Array, "..."]]:
    """What each affine site makes of zeros, and the constant part of each other activation at the image.

    Together with the image they account for the logits (Eq. 14), but for what the constants of tangents do,
    which are no biases: a smooth activation has 0 here. Shapes are those of the sites.
    """
    _, at = linearize(apply, params, image)
    rule = _Zeros(at, {}, tangent_constants=False, found={})
    apply(params, jnp.zeros_like(image)[None], rule=rule)
    pieces = {site: piece.offset[0] for site, piece in at.pieces.items()}
    tangents = {site: jnp.zeros_like(piece.offset[0]) for site, piece in at.tangents.items()}
    return {**rule.found, **pieces, **tangents}


@dataclasses.dataclass(frozen=True)
class _Zeros(Masked):
    """Every layer and every activation hands on zeros; what a layer made of zeros is noted in `found`."""

    found: dict[str, Array] = dataclasses.field(kw_only=True)

    def relu(self, site: str, z: Inexact[Array, "1 *shape"]) -> Inexact[Array, "1 *shape"]:
        return jnp.zeros_like(z)

    def max_pool(
        self, site: str, h: Inexact[Array, "1 h w c"], window: Window
    ) -> Inexact[Array, "1 hh ww c"]:
        return jnp.zeros_like(super().max_pool(site, h, window))

    def affine(self, site: str, z: Inexact[Array, "1 *shape"], role: Role) -> Inexact[Array, "1 *shape"]:
        self.found[site] = z[0]
        return jnp.zeros_like(z)

    def piecewise(
        self,
        site: str,
        z: Inexact[Array, "1 *shape"],
        function: Callable[[Array], Array],
        *,
        smooth: bool = False,
    ) -> Inexact[Array, "1 *shape"]:
        return jnp.zeros_like(z)
