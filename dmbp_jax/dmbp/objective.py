"""What the masks are optimised for."""

from jaxtyping import Array, Float

from dmbp_jax.dmbp.config import Objective
from dmbp_jax.typing import Scores


def objective(scores: Scores, which: Objective = "all") -> Float[Array, ""]:
    """The loss of one image, to be minimised (Eq. 10): `y- - y+ + |y~|`, or one of its two ablations.

    >>> import jax.numpy as jnp
    >>> y = Scores(*map(jnp.asarray, (1.0, 3.0, -2.5, 0.5)))
    >>> [objective(y, which).item() for which in ("all", "posneg", "positive")]
    [-5.0, -5.5, -3.0]
    """
    if which == "positive":
        return -scores.positive
    if which == "posneg":
        return scores.negative - scores.positive
    return scores.negative - scores.positive + abs(scores.nuisance)
