"""The preset `paper`: the objective (Eq. 10), its optimisation, and the parts of the map."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dmbp_jax.dmbp._config import DMBPConfig, Objective
from dmbp_jax.ops import Loop
from dmbp_jax.ops._derivatives import square_root
from dmbp_jax.ops._resample import full_along
from dmbp_jax.result import Scores

# The objective of the masks, and its gradient.

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

    This is the definition; the optimisation uses its gradient, `mask_gradient`.

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
    needs the backward pass of one branch only: with `y~ = y - y+ - y-` substituted, it is `y - 2 y+` where
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


# The optimisation loop: RMSProp as PyTorch writes it.


class _Carry(NamedTuple):
    thetas: Any
    state: Any
    history: Scores | None


def optimizer(config: DMBPConfig) -> optax.GradientTransformation:
    """RMSProp: `v = decay v + (1 - decay) g^2`, `step = -learning_rate g / (sqrt(v) + eps)`, `v` from 0."""

    def update(slopes: Any, state: optax.ScaleByRmsState, _: Any = None) -> tuple[Any, Any]:
        squares = jax.tree.map(lambda g, v: (1 - config.decay) * g**2 + config.decay * v, slopes, state.nu)
        # The derivative of optax's own root is infinite at every mask whose gradient is 0.
        steps = jax.tree.map(lambda g, v: g * (1 / (square_root(v) + config.eps)), slopes, squares)
        return jax.tree.map(lambda step: -config.learning_rate * step, steps), optax.ScaleByRmsState(squares)

    return optax.GradientTransformation(optax.scale_by_rms().init, update)


def optimize(
    gradient: Callable[[Any], tuple[Any, Scores]],
    start: dict[str, Float[Array, "..."]],
    config: DMBPConfig,
    *,
    keep_scores: bool = True,
) -> Loop:
    """Gradient descent from `start` by `gradient(thetas)`, which returns the scores too.

    The loop's result is the last thetas, and on request the scores before each step, `(steps,)`, else None;
    they are computed on request only.
    """
    rmsprop = optimizer(config)
    dtype = jnp.result_type(*jax.tree.leaves(start))
    none_yet = full_along(jax.tree.leaves(start)[0], (config.steps,), 0, dtype)
    history = Scores(*[none_yet] * 4) if keep_scores else None

    def step(carry: _Carry, number: Int[Array, ""]) -> _Carry:
        slope, scores = gradient(carry.thetas)
        updates, state = rmsprop.update(slope, carry.state)
        history = carry.history
        if history is not None:
            history = jax.tree.map(lambda row, score: row.at[number].set(score), history, scores)
        return _Carry(optax.apply_updates(carry.thetas, updates), state, history)

    return Loop(
        config.steps,
        _Carry(start, rmsprop.init(start), history),
        step,
        lambda carry: (carry.thetas, carry.history),
    )


# The two parts of the map kept apart, in the unit of the logit. Not in the paper.
#
# Masks are positive: they weight paths and change no sign. In the positive branch they amplify evidence for
# the target at every masked activation. But between the first masked activation and the pixels there is no
# mask, and a filter has weights of both signs there: `a+` has both signs where the evidence *for* the target
# lies, and `a-` has both signs where the evidence *against* it lies. In the sum of Eq. 7 the wrong sign of
#
# the stronger branch exceeds the right sign of the weaker one. The image therefore gets a mask too, without
# learning: the mask of `a+` that maximises `y+` is 1 where `a+ > 0` and 0 elsewhere; the mask of `a-` that
# minimises `y-` is 1 where `a- < 0`.

CELLS = 7
"""Cells along the shorter side of an image: the size of most networks' last map at their training size."""


def keep_apart(
    positive: Float[Array, "*shape"], negative: Float[Array, "*shape"], plain: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`max(a+, 0)` and `min(a-, 0)`, each in the unit of the logit.

    Masks above 1 amplify a branch by orders of magnitude, so only its shape is used. The scale comes from
    gradient times input, `plain`, summed over cells, in which neighbouring values of opposite sign cancel:
    the sum of the positive cells is the sum of `max(a+, 0)`, the sum of the negative cells is that of
    `min(a-, 0)`. Both together are the pixels' share of the logit, and the rest, `y~`, is the biases' share,
    unless a part is all zero. If the logits are scaled, so are the parts.

    Args:
        positive: `a+ = (dF+/dx) * x`, in any unit: `(h, w, c)`, or of any other shape with channels last.
        negative: `a-`.
        plain: gradient times input.

    >>> a = jnp.asarray([[6.0, -2.0]]).T, jnp.asarray([[1.0, -3.0]]).T, jnp.asarray([[3.0, -1.0]]).T
    >>> [part.ravel().tolist() for part in keep_apart(*a)]
    [[3.0, 0.0], [0.0, -1.0]]
    """
    dtype = np.promote_types(plain.dtype, np.float32)
    cells = cell_sums(plain.astype(dtype))
    red = _density(jnp.maximum(positive.astype(dtype), 0))
    blue = _density(jnp.minimum(negative.astype(dtype), 0))
    return red * jnp.maximum(cells, 0).sum(), blue * jnp.minimum(cells, 0).sum()


def cell_sums(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sums over channels and over square cells, `CELLS` along the shorter side; the last may be narrower.

    Without channels each value is a cell.

    >>> cell_sums(jnp.ones((14, 21, 3))).shape, cell_sums(jnp.ones((5, 6, 3))).shape
    ((7, 11), (5, 6))
    """
    if values.ndim < 2:
        return values
    heatmap = values.sum(axis=-1)
    side = max(1, min(heatmap.shape) // CELLS)
    counts = [math.ceil(length / side) for length in heatmap.shape]
    padding = [(0, count * side - length) for count, length in zip(counts, heatmap.shape, strict=True)]
    split = jnp.pad(heatmap, padding).reshape([one for count in counts for one in (count, side)])
    return split.sum(axis=tuple(range(1, split.ndim, 2)))


def _density(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Values of one sign, divided by their sum; zeros stay zeros."""
    # Divided by the maximum first, so that the sum does not overflow; the quotient does not depend on it.
    largest = jax.lax.stop_gradient(jnp.abs(values).max())
    values = values / jnp.where(largest > 0, largest, 1)
    return values / jnp.where(largest > 0, values.sum(), 1)
