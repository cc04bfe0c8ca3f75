"""The optimisation loop: RMSProp as PyTorch writes it, inside `lax.scan`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dmbp_jax.dmbp.config import DMBPConfig
from dmbp_jax.dmbp.objective import objective
from dmbp_jax.ops import report_step
from dmbp_jax.typing import OnStep, Scores


def optimizer(config: DMBPConfig) -> optax.GradientTransformation:
    """RMSProp: `v = decay v + (1 - decay) g^2`, `step = -learning_rate g / (sqrt(v) + eps)`, `v` from 0."""
    return optax.rmsprop(
        config.learning_rate,
        decay=config.decay,
        eps=config.eps,
        eps_in_sqrt=False,
        initial_scale=0.0,
    )


def optimize(
    forward: Callable[[Any], Scores],
    start: dict[str, Float[Array, "..."]],
    config: DMBPConfig,
    *,
    on_step: OnStep | None = None,
) -> tuple[dict[str, Float[Array, "..."]], Scores]:
    """Minimise the objective of `forward(thetas)` from `start`.

    Returns the last thetas, and the scores before each step, `(steps,)`.
    """
    rmsprop = optimizer(config)

    def loss(thetas: Any) -> tuple[Float[Array, ""], Scores]:
        scores = forward(thetas)
        return objective(scores, config.objective), scores

    def step(carry: tuple[Any, Any], index: Array) -> tuple[tuple[Any, Any], Scores]:
        thetas, state = carry
        gradient, scores = jax.grad(loss, has_aux=True)(thetas)
        updates, state = rmsprop.update(gradient, state)
        thetas = optax.apply_updates(thetas, updates)
        report_step(on_step, index)
        return (thetas, state), scores

    (thetas, _), history = jax.lax.scan(step, (start, rmsprop.init(start)), jnp.arange(config.steps))
    return thetas, history
