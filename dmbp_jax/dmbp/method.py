"""DMBP for one image: Ruiz, Agudo, Moreno-Noguer, "Generating Attribution Maps with Disentangled Masked
Backpropagation", ICCV 2021."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.dmbp.config import configure
from dmbp_jax.dmbp.mask_sites import masked_sites
from dmbp_jax.dmbp.optimize import optimize
from dmbp_jax.ops import target_score
from dmbp_jax.rules import Masked, find_sites, linearize
from dmbp_jax.typing import Apply, Attribution, Image, Key, OnStep, Params, Scores, Target

Thetas = dict[str, Float[Array, "..."]]


def dmbp(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    preset: str = "paper",
    return_masks: bool = False,
    return_history: bool = False,
    on_step: OnStep | None = None,
    **options: Any,
) -> Attribution:
    """Split the linear map of a ReLU network at `image` into a positive, a negative and a nuisance part.

    One mask per activation, `m+ = sigmoid(theta)` and `m- = 1 - m+`, is learned by minimising
    `y- - y+ + |y~|` (Eq. 10), where `y+` and `y-` are the target's score under masked backpropagation
    (Eq. 14) and `y~ = y - y+ - y-`. The attribution is `(dF+/dx + dF-/dx) * x` (Eq. 7).

    Args:
        apply: the network.
        params: its parameters.
        image: `(h, w, c)`, as the network takes it.
        target: a class index, or one weight per class: `(k,)`, explaining the weighted sum of the logits.
        key: not used; DMBP draws nothing.
        preset: `"paper"` or `"fast"`; see `PRESETS`.
        return_masks: whether the result holds the masks.
        return_history: whether the result holds the scores at every step.
        on_step: called on the host with the number of each finished step, from inside the compiled loop.
        **options: fields of `DMBPConfig` that replace the preset's.

    Returns:
        `values`, `positive` and `negative` of shape `(h, w, c)` in the unit of the logit, and the `scores`.

    Raises:
        InputError: unknown preset or option, option out of range, nothing to mask.

    >>> from dmbp_jax.models import get_architecture, init
    >>> apply, params = get_architecture("squeezenet1_1").apply, init(jax.random.key(0), "squeezenet1_1")
    >>> a = dmbp(apply, params, jnp.ones((32, 32, 3)), jnp.asarray(7), steps=2)
    >>> a.heatmap.shape, bool(a.finite)
    ((32, 32), True)
    """
    del key
    config = configure(preset, **options)
    masked = masked_sites(find_sites(apply, params, image), config.mask_sites)
    dtype = image.dtype if config.compute_dtype is None else jnp.dtype(config.compute_dtype)
    mask_dtype = image.dtype if jnp.finfo(image.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError(
            f"compute_dtype={config.compute_dtype!r} needs 64-bit JAX: with jax.enable_x64(True): ..."
        )
    params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, image))

    logits, linearization = linearize(apply, params, x)
    total = target_score(logits.astype(mask_dtype), target)

    def branch(masks: Thetas, x: Image) -> Float[Array, ""]:
        """`y^s` as the output of the masked pass; its gradient at `x` is masked backpropagation's."""
        logits = apply(params, x[None], rule=Masked(linearization, masks))[0]
        return target_score(logits.astype(mask_dtype), target)

    def scores(positive: Float[Array, ""], negative: Float[Array, ""]) -> Scores:
        return Scores(total, positive, negative, total - positive - negative)

    def forward(thetas: Thetas) -> Scores:
        return scores(*(branch(masks, x) for masks in split(thetas)))

    start = {site.name: jnp.full(site.shape, config.start, mask_dtype) for site in masked}
    thetas, history = optimize(forward, start, config, on_step=on_step)

    masks = split(thetas)
    (y_positive, dx_positive), (y_negative, dx_negative) = (
        jax.value_and_grad(functools.partial(branch, half))(x) for half in masks
    )
    final = scores(y_positive, y_negative)
    positive, negative = (
        (dx * x).astype(mask_dtype).astype(image.dtype) for dx in (dx_positive, dx_negative)
    )
    values = positive + negative
    return Attribution(
        values=values,
        finite=jnp.isfinite(values).all() & jnp.isfinite(jnp.stack(final)).all(),
        scores=final,
        positive=positive,
        negative=negative,
        masks=masks[0] if return_masks else None,
        history=_append(history, final) if return_history else None,
    )


def split(thetas: Thetas) -> tuple[Thetas, Thetas]:
    """The masks of the two branches, `m+ = sigmoid(theta)` and `m- = 1 - m+`."""
    return jax.tree.map(jax.nn.sigmoid, thetas), jax.tree.map(lambda t: jax.nn.sigmoid(-t), thetas)


def _append(history: Scores, last: Scores) -> Scores:
    return jax.tree.map(jnp.append, history, last)
