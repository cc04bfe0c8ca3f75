"""The optimisation loop: RMSProp as PyTorch writes it, inside `lax.scan`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dmbp_jax.dmbp.config import DMBPConfig
from dmbp_jax.ops import hoisted_scan
from dmbp_jax.typing import Scores


def optimizer(config: DMBPConfig) -> optax.GradientTransformation:
    """RMSProp: `v = decay v + (1 - decay) g^2`, `step = -learning_rate g / (sqrt(v) + eps)`, `v` from 0.

    Or Powerball: `step = -learning_rate s / rms(s)`, `s = sign(g) sqrt(|g|)`, the root mean square taken over
    the entries of a site that are not zero.
    """
    if config.optimizer == "powerball":
        return optax.chain(
            optax.stateless(lambda gradient, _: jax.tree.map(_powerball, gradient)),
            optax.scale(-config.learning_rate),
        )
    return optax.rmsprop(
        config.learning_rate,
        decay=config.decay,
        eps=config.eps,
        eps_in_sqrt=False,
        initial_scale=0.0,
    )


def optimize(
    gradient: Callable[[Any], tuple[Any, Scores]],
    start: dict[str, Float[Array, "..."]],
    config: DMBPConfig,
    *,
    keep_scores: bool = True,
) -> tuple[dict[str, Float[Array, "..."]], Scores | None]:
    """Follow `gradient(thetas)`, which gives the scores too, downhill from `start`.

    Returns the last thetas, and if asked for the scores before each step, `(steps,)`: what only they need is
    otherwise not computed.
    """
    rmsprop = optimizer(config)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Scores | None]:
        thetas, state = carry
        slope, scores = gradient(thetas)
        updates, state = rmsprop.update(slope, state)
        return (optax.apply_updates(thetas, updates), state), scores if keep_scores else None

    (thetas, _), history = hoisted_scan(step, (start, rmsprop.init(start)), length=config.steps)
    return thetas, history


def _powerball(gradient: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    size = jnp.abs(gradient)
    biggest = size.max()
    # Relative to the largest, nothing underflows; a site that is dead altogether stays where it is.
    root = jnp.sqrt(size / jnp.where(biggest > 0, biggest, 1))
    square = (root**2).sum() / jnp.maximum((size > 0).astype(size.dtype).sum(), 1)
    return jnp.sign(gradient) * root / jnp.sqrt(jnp.where(square > 0, square, 1))
