"""Disentangled Masked Backpropagation as a method: which nonlinearities have masks, and both presets."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax._checks import InputError
from dmbp_jax.dmbp._config import DMBPConfig, MaskSites, SweepConfig, configure
from dmbp_jax.dmbp._optimization import Branch, Sites, keep_apart, mask_gradient, optimize, split
from dmbp_jax.dmbp._sweep import sweep
from dmbp_jax.ops import Loop, iterative, target_score
from dmbp_jax.ops._convolution import cast_floats
from dmbp_jax.ops._resample import full_along
from dmbp_jax.result import Attribution, Scores
from dmbp_jax.rules import ACTIVATIONS, Linearization, Masked, Site, tap
from dmbp_jax.rules._record import linearize, record
from dmbp_jax.rules._tap import Tapped, read
from dmbp_jax.typing import Apply, Image, Key, Params, Target

# Where the masks sit: three readings of the paper, which differ on residual networks only.


def is_masked(site: Site, where: MaskSites) -> bool:
    """Whether a site gets a mask; see `masked_sites`."""
    if where == "relu":
        return site.kind in ACTIVATIONS
    roles = ("filter",) if where == "filter" else ("filter", "shortcut")
    return site.kind == "affine" and site.role in roles


def masked_sites(sites: Sequence[Site], where: MaskSites) -> tuple[Site, ...]:
    """The sites of a network that get a mask.

    A mask after an affine layer commutes with the gate of the ReLU that follows, so that `"filter"` means
    layer and ReLU together. The class layer is never masked. Raises `InputError` if no site is to be masked.
    """
    chosen = tuple(site for site in sites if is_masked(site, where))
    if not chosen:
        raise _nothing_to_mask(where)
    return chosen


def _nothing_to_mask(where: MaskSites) -> InputError:
    return InputError(f"the network has no site to mask with mask_sites={where!r}")


# DMBP for one image: Ruiz, Agudo, Moreno-Noguer, "Generating Attribution Maps with Disentangled Masked
# Backpropagation", ICCV 2021.


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
    **options: Annotated[Any, DMBPConfig, SweepConfig],
) -> Loop:
    """Split the linear map of a ReLU network at `image` into a positive, a negative and a nuisance part.

    One mask per activation, `m+ = sigmoid(theta)` and `m- = 1 - m+`, is learned by minimising
    `y- - y+ + |y~|` (Eq. 10), where `y+` and `y-` are the target's score under masked backpropagation
    (Eq. 14) and `y~ = y - y+ - y-`. The attribution is `(dF+/dx + dF-/dx) * x` (Eq. 7), or with `parts_apart`
    the positive values of the first and the negative values of the second (`dmbp/_optimization.py`).

    `preset="fast"`, which is not in the paper, chooses all masks in one backward pass, from the logit down
    (`dmbp/_sweep.py`), and keeps the parts apart.

    Args:
        apply: the network.
        params: its parameters.
        image: `(h, w, c)`, as the network takes it.
        target: a class index, or one weight per class: `(k,)`, explaining the weighted sum of the logits.
        key: not used; DMBP draws nothing.
        preset: `"paper"` or `"fast"`; see `PRESETS`.
        return_masks: whether the result holds the masks.
        return_history: whether the result holds the scores at every step; `"fast"` has no steps.
        **options: fields of `DMBPConfig`, or under `"fast"` of `SweepConfig`, that replace the preset's.

    Returns:
        `values`, `positive` and `negative` of shape `(h, w, c)` in the unit of the logit, and the `scores`.
        With the parts apart, as under `"fast"`, `positive >= 0 >= negative`.

    Raises:
        InputError: unknown preset or option, option out of range, no site to mask, a history of `"fast"`.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", rule.affine("scale", x * params, "filter")).mean(axis=(1, 2))
    >>> a = dmbp(apply, jnp.asarray(2.0), jnp.ones((8, 8, 3)), jnp.asarray(1), steps=2)
    >>> a.heatmap.shape, a.scores.total.item()
    ((8, 8), 2.0)
    """
    config = configure(preset, **options)
    dtype = image.dtype if config.compute_dtype is None else jnp.dtype(config.compute_dtype)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError(
            f"compute_dtype={config.compute_dtype!r} needs 64-bit JAX: with jax.enable_x64(True): ..."
        )
    params, x = cast_floats((params, image), dtype)
    if isinstance(config, DMBPConfig):
        loop = _optimized(apply, params, x, target, config, return_history=return_history)
    elif return_history:
        raise InputError(f"preset={preset!r} takes no steps and has no history: preset='paper' has one")
    else:
        loop = Loop(0, (), lambda carry, _: carry, lambda _: _swept(apply, params, x, target, config))

    def finish(found: _Found) -> Attribution:
        positive, negative = found.positive.astype(image.dtype), found.negative.astype(image.dtype)
        values = positive + negative
        return Attribution(
            values=values,
            finite=jnp.isfinite(values).all() & jnp.isfinite(jnp.stack(found.scores)).all(),
            scores=found.scores,
            positive=positive,
            negative=negative,
            completeness_gap=found.completeness_gap,
            masks=found.masks if return_masks else None,
            history=found.history,
        )

    return loop.then(finish)


class _Found(NamedTuple):
    """The result of either preset."""

    positive: Image
    negative: Image
    scores: Scores
    completeness_gap: Float[Array, ""] | None
    masks: Sites
    history: Scores | None = None


def _optimized(
    apply: Apply, params: Params, x: Image, target: Target, config: DMBPConfig, *, return_history: bool
) -> Loop:
    """The paper's optimisation."""
    mask_dtype = _mask_dtype(x)
    logits, linearization, sites = record(apply, params, x)
    masked = masked_sites(sites, config.mask_sites)
    total = target_score(logits.astype(mask_dtype), target)

    # Traced once for both branches.
    @jax.jit
    def pass_through(masks: Sites) -> Tapped:
        return tap(apply, params, x, target, masked, rule=Masked(linearization, masks))

    @jax.jit
    def forward(masks: Sites) -> tuple[Float[Array, ""], Sites]:
        score, outputs = read(apply, params, x, target, masked, rule=Masked(linearization, masks))
        return score.astype(mask_dtype), outputs

    branch = Branch(forward, lambda masks: pass_through(masks).gradients)
    start = {site.name: full_along(x, site.shape, config.start, mask_dtype) for site in masked}
    loop = optimize(
        lambda thetas: mask_gradient(branch, total, thetas, config.objective),
        start,
        config,
        keep_scores=return_history,
    )

    def finish(optimized: tuple[Sites, Scores | None]) -> _Found:
        thetas, history = optimized
        masks = split(thetas)
        halves = [pass_through(half) for half in masks]
        scores = last = _scores(total, *(half.score.astype(mask_dtype) for half in halves))
        positive, negative = (half.to_image * x for half in halves)
        if config.parts_apart:
            plain = pass_through({site.name: jnp.ones(site.shape, mask_dtype) for site in masked})
            positive, negative = keep_apart(positive, negative, plain.to_image * x)
            scores = _scores_of(total, positive, negative)
        gap = _gap(apply, params, x, target, at=linearization, total=total)
        if history is not None:
            history = jax.tree.map(jnp.append, history, last)
        return _Found(positive, negative, scores, gap, masks[0], history)

    return loop.then(finish)


def _swept(apply: Apply, params: Params, x: Image, target: Target, config: SweepConfig) -> _Found:
    """The preset `fast`: one backward pass."""
    swept = sweep(
        apply,
        params,
        x,
        target,
        lambda site: is_masked(site, config.mask_sites),
        strength=config.strength,
    )
    if not swept.masks:
        raise _nothing_to_mask(config.mask_sites)
    total = target_score(swept.logits.astype(_mask_dtype(x)), target)
    positive, negative = keep_apart(swept.positive * x, swept.negative * x, swept.plain * x)
    gap = None
    if swept.has_tangents:
        gap = _gap(apply, params, x, target, at=linearize(apply, params, x)[1], total=total)
    return _Found(positive, negative, _scores_of(total, positive, negative), gap, swept.masks)


def _mask_dtype(x: Image) -> np.dtype:
    return np.promote_types(x.dtype, np.float32)


def _scores(total: Float[Array, ""], positive: Float[Array, ""], negative: Float[Array, ""]) -> Scores:
    return Scores(total, positive, negative, total - positive - negative)


def _scores_of(total: Float[Array, ""], positive: Image, negative: Image) -> Scores:
    return _scores(total, positive.sum(dtype=total.dtype), negative.sum(dtype=total.dtype))


def _gap(
    apply: Apply, params: Params, x: Image, target: Target, *, at: Linearization, total: Float[Array, ""]
) -> Float[Array, ""] | None:
    """The part of the score from the constants of smooth operations' tangents; None if there are none."""
    if not (at.tangents or at.points):
        return None
    # Without the tangents' constants the score is the inputs' and biases' share.
    linear, _ = read(apply, params, x, target, (), rule=Masked(at, {}, tangent_constants=False))
    return total - linear.astype(total.dtype)
