"""What the masks are optimised for, and which way it pulls them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.dmbp.config import Objective
from dmbp_jax.result import Scores

Thetas = dict[str, Float[Array, "..."]]
Sites = dict[str, Float[Array, "..."]]
"""One array for each masked site."""


class Branch(NamedTuple):
    """A masked pass, as functions of its masks."""

    forward: Callable[[Sites], tuple[Float[Array, ""], Sites]]
    """`y^s`, and the masked output `a_l = m_l g_l z_l` of every masked site."""
    backward: Callable[[Sites], Sites]
    """The gradient of `y^s` at every masked output."""


def objective(scores: Scores, which: Objective = "all") -> Float[Array, ""]:
    """The loss of one image, to be minimised (Eq. 10): `y- - y+ + |y~|`, or one of its two ablations.

    The definition; the optimisation takes its gradient, which `mask_gradient` writes out by hand.

    >>> y = Scores(*map(jnp.asarray, (1.0, 3.0, -2.5, 0.5)))
    >>> [objective(y, which).item() for which in ("all", "posneg", "positive")]
    [-5.0, -5.5, -3.0]
    """
    if which == "positive":
        return -scores.positive
    if which == "posneg":
        return scores.negative - scores.positive
    return scores.negative - scores.positive + abs(scores.nuisance)


def split(thetas: Thetas) -> tuple[Sites, Sites]:
    """The masks of the two branches, `m+ = sigmoid(theta)` and `m- = 1 - m+`."""
    positive = jax.tree.map(jax.nn.sigmoid, thetas)
    return positive, jax.tree.map(lambda mask: 1 - mask, positive)


def mask_gradient(
    branch: Branch, total: Float[Array, ""], thetas: Thetas, which: Objective
) -> tuple[Thetas, Scores]:
    """The gradient of the objective at every theta, and the scores there.

    `dy^s/dtheta_l = s (1 - m_l^s) a_l^s da_l^s`: a forward and a backward pass of a branch. Eq. 10
    needs the backward pass of one branch only: with `y~ = y - y+ - y-` put in, it is `y - 2 y+` where
    `y~ > 0` and `2 y- - y` where `y~ < 0`. At `y~ = 0` the first is taken, which is a subgradient.
    """
    masks = split(thetas)
    (y_positive, positive), (y_negative, negative) = (branch.forward(half) for half in masks)
    scores = Scores(total, y_positive, y_negative, total - y_positive - y_negative)
    pulled: Sequence[tuple[Sites, Sites]]
    if which == "all":
        short = scores.nuisance >= 0
        chosen: Any = jax.tree.map(
            lambda p, n: jnp.where(short, p, n), (masks[0], positive), (masks[1], negative)
        )
        pulled, weight = [chosen], 2
    elif which == "posneg":
        pulled, weight = [(masks[0], positive), (masks[1], negative)], 1
    else:
        pulled, weight = [(masks[0], positive)], 1
    parts = [
        jax.tree.map(
            lambda mask, a, da: -weight * (1 - mask) * a.astype(mask.dtype) * da.astype(mask.dtype),
            half,
            outputs,
            branch.backward(half),
        )
        for half, outputs in pulled
    ]
    return jax.tree.map(lambda *terms: sum(terms), *parts), scores
