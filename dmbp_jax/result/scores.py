"""How an explained logit divides."""

from typing import NamedTuple

from jaxtyping import Array, Float

from dmbp_jax.result.describe import describe


class Scores(NamedTuple):
    """How the explained logit `y` divides (Eq. 14): `total = positive + negative + nuisance`.

    Scalars for one image, `(n,)` for a batch, one axis more in a history.
    """

    total: Float[Array, "..."]
    positive: Float[Array, "..."]
    negative: Float[Array, "..."]
    nuisance: Float[Array, "..."]

    def __repr__(self) -> str:
        return describe(self)
