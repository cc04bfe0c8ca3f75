"""DMBP for one image: Ruiz, Agudo, Moreno-Noguer, "Generating Attribution Maps with Disentangled Masked
Backpropagation", ICCV 2021."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.dmbp.config import configure
from dmbp_jax.dmbp.mask_sites import masked_sites
from dmbp_jax.dmbp.objective import Branch, Sites, mask_gradient, split
from dmbp_jax.dmbp.optimize import optimize
from dmbp_jax.dmbp.parts import keep_apart
from dmbp_jax.ops import Loop, cast_floats, iterative, target_score
from dmbp_jax.rules import Masked, Tapped, read, record, tap
from dmbp_jax.typing import Apply, Attribution, Image, Key, Params, Scores, Target

LARGEST_EXPONENT = 120
"""Of 2: a product of masks beyond it leaves float32 no room for activations."""


@iterative
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
    **options: Any,
) -> Loop:
    """Split the linear map of a ReLU network at `image` into a positive, a negative and a nuisance part.

    One mask per activation, `m+ = sigmoid(theta)` and `m- = 1 - m+`, is learned by minimising
    `y- - y+ + |y~|` (Eq. 10), where `y+` and `y-` are the target's score under masked backpropagation
    (Eq. 14) and `y~ = y - y+ - y-`. The attribution is `(dF+/dx + dF-/dx) * x` (Eq. 7), or with
    `parts_apart` what is above zero of the first and below zero of the second (`dmbp_jax.dmbp.parts`).

    Args:
        apply: the network.
        params: its parameters.
        image: `(h, w, c)`, as the network takes it.
        target: a class index, or one weight per class: `(k,)`, explaining the weighted sum of the logits.
        key: not used; DMBP draws nothing.
        preset: `"paper"` or `"fast"`; see `PRESETS`.
        return_masks: whether the result holds the masks.
        return_history: whether the result holds the scores at every step.
        **options: fields of `DMBPConfig` that replace the preset's.

    Returns:
        `values`, `positive` and `negative` of shape `(h, w, c)` in the unit of the logit, and the `scores`.
        With the parts apart, as under `"fast"`, `positive >= 0 >= negative`.

    Raises:
        InputError: unknown preset or option, option out of range, nothing to mask, masks above 1 in a network
            so deep that their product overflows.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", rule.affine("scale", x * params, "filter")).mean(axis=(1, 2))
    >>> a = dmbp(apply, jnp.asarray(2.0), jnp.ones((8, 8, 3)), jnp.asarray(1), steps=2)
    >>> a.heatmap.shape, a.scores.total.item()
    ((8, 8), 2.0)
    """
    del key
    config = configure(preset, **options)
    dtype = image.dtype if config.compute_dtype is None else jnp.dtype(config.compute_dtype)
    mask_dtype = image.dtype if jnp.finfo(image.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError(
            f"compute_dtype={config.compute_dtype!r} needs 64-bit JAX: with jax.enable_x64(True): ..."
        )
    params, x = cast_floats((params, image), dtype)
    logits, linearization, sites = record(apply, params, x)
    masked = masked_sites(sites, config.mask_sites)
    if len(masked) * math.log2(config.mask_scale) > LARGEST_EXPONENT:
        raise InputError(
            f"the product of {len(masked)} masks of up to {config.mask_scale} overflows float32 in a network "
            f"this deep: take preset='paper', or mask_scale up to {2 ** (LARGEST_EXPONENT / len(masked)):.2f}"
        )
    total = target_score(logits.astype(mask_dtype), target)

    # Traced once, though both branches need them.
    @jax.jit
    def pass_through(masks: Sites) -> Tapped:
        return tap(apply, params, x, target, masked, rule=Masked(linearization, masks))

    @jax.jit
    def forward(masks: Sites) -> tuple[Float[Array, ""], Sites]:
        score, outputs = read(apply, params, x, target, masked, rule=Masked(linearization, masks))
        return score.astype(mask_dtype), outputs

    branch = Branch(forward, lambda masks: pass_through(masks).gradients)
    start = {site.name: jnp.full(site.shape, config.start, mask_dtype) for site in masked}
    loop = optimize(
        lambda thetas: mask_gradient(branch, total, thetas, config.objective, scale=config.mask_scale),
        start,
        config,
        keep_scores=return_history,
    )

    def finish(optimized: tuple[Sites, Scores | None]) -> Attribution:
        thetas, history = optimized
        masks = split(thetas, config.mask_scale)
        halves = [pass_through(half) for half in masks]
        y_positive, y_negative = (half.score.astype(mask_dtype) for half in halves)

        def scores(positive: Float[Array, ""], negative: Float[Array, ""]) -> Scores:
            return Scores(total, positive, negative, total - positive - negative)

        last = final = scores(y_positive, y_negative)
        positive, negative = (half.to_image * x for half in halves)
        if config.parts_apart:
            plain = pass_through({site.name: jnp.ones(site.shape, mask_dtype) for site in masked})
            positive, negative = keep_apart(positive, negative, plain.to_image * x)
            final = scores(positive.sum(dtype=mask_dtype), negative.sum(dtype=mask_dtype))
        positive, negative = positive.astype(image.dtype), negative.astype(image.dtype)
        values = positive + negative
        gap = None
        if linearization.tangents or linearization.points:
            # Without the tangents' constants the score is the inputs' and biases' share.
            linear, _ = read(
                apply, params, x, target, (), rule=Masked(linearization, {}, tangent_constants=False)
            )
            gap = total - linear.astype(mask_dtype)
        return Attribution(
            values=values,
            finite=jnp.isfinite(values).all() & jnp.isfinite(jnp.stack(final)).all(),
            scores=final,
            positive=positive,
            negative=negative,
            completeness_gap=gap,
            masks=masks[0] if return_masks else None,
            history=None if history is None else _append(history, last),
        )

    return loop.then(finish)


def _append(history: Scores, last: Scores) -> Scores:
    return jax.tree.map(jnp.append, history, last)
