"""The optimisation loop: RMSProp as PyTorch writes it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dmbp_jax.dmbp.config import DMBPConfig
from dmbp_jax.ops import Loop, full_along, square_root
from dmbp_jax.result import Scores


class _Carry(NamedTuple):
    thetas: Any
    state: Any
    history: Scores | None


def optimizer(config: DMBPConfig) -> optax.GradientTransformation:
    """RMSProp: `v = decay v + (1 - decay) g^2`, `step = -learning_rate g / (sqrt(v) + eps)`, `v` from 0."""

    def update(slopes: Any, state: optax.ScaleByRmsState, _: Any = None) -> tuple[Any, Any]:
        squares = jax.tree.map(lambda g, v: (1 - config.decay) * g**2 + config.decay * v, slopes, state.nu)
        # Of optax's own root the derivative is infinite at every mask behind a closed gate.
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
    """Follow `gradient(thetas)`, which gives the scores too, downhill from `start`.

    The loop's result is the last thetas, and if asked for the scores before each step, `(steps,)`, else None:
    what only they need is then not computed.
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
