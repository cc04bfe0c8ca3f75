"""LPR: Yang, Qiu, Song, Tao, Wang, "Learning Propagation Rules for Attribution Map Generation", ECCV 2020.

**A reconstruction**, since the authors' program is not public. From the paper: a learnable module at every
nonlinearity gives each element its own propagation rule in the backward pass; the modified input gradient
makes a mask; the network's output for the masked image trains the modules, through second derivatives. Chosen
here: the module (one gate per element), the map from gradient to mask, the loss and every number; all numbers
are options.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dmbp_jax._checks import InputError, check_choice, check_is_image
from dmbp_jax._ranges import Finite, Percentile, Positive, check_range, check_whole
from dmbp_jax.attribution._gradients import Baseline, make_baseline, target_gradient
from dmbp_jax.ops import Loop, iterative, log_probabilities, target_score
from dmbp_jax.ops._derivatives import check_output, first_max, stop_first_gradient
from dmbp_jax.ops._resample import full_along
from dmbp_jax.result import Attribution
from dmbp_jax.rules import ACTIVATIONS, PLAIN, find_sites
from dmbp_jax.rules._masked import Learned
from dmbp_jax.typing import Apply, Image, Key, OutputActivation, Params, Target

Thetas = dict[str, Float[Array, "..."]]
Reduction = Literal["max", "mean"]


@iterative
def lpr(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    n_steps: int = 50,
    learning_rate: Positive = 0.1,
    eps: Positive = 1e-8,
    start: Finite = 3.0,
    percentile: Percentile = 99.0,
    reduction: Reduction = "max",
    baseline: Baseline = "zero",
    area_weight: Finite = 1.0,
    total_variation_weight: Finite = 1.0,
    output: OutputActivation | None = None,
) -> Loop:
    """A mask of the image, made by a learned backward pass, under which the target is still recognised.

    With `g(theta)` the target's input gradient under `dz = sigmoid(theta) 1[z > 0] da` at every ReLU, one
    theta per element:

    - mask: `m = min(max_c |g| / s, 1)`, where `s` is a high percentile of `max_c |g|`, held constant in
      derivatives;
    - masked image: `x' = m x + (1 - m) baseline`;
    - loss: `-log p(x') + area_weight mean(m) + total_variation_weight TV(m)`, `p` under the plain rule.

    Adam minimises the loss over theta. Since `s` scales with the gradient, a common factor of the gradient
    cancels: only the proportions of the mask are learned. Memory: theta and Adam's two moments at every ReLU.

    Args:
        apply: the network.
        params: its parameters.
        image: `(h, w, c)`, as the network takes it.
        target: a class index, or one weight per class: `(k,)`. Weights make `-<weights, log p>` of
            `-log p`: a weighted probability has no meaning for a contrast, whose weights have both signs. For
            weights that add up to zero this is minus the contrast of the logits, which has no lower bound.
        key: not used; nothing is drawn.
        n_steps: of Adam; 0 leaves the mask that `start` gives.
        learning_rate: of Adam.
        eps: of Adam, added to its root mean square; where gradients fall below it, it decides what moves.
        start: the initial theta of every element. The plain rule is `sigmoid(theta) = 1`; 3 is 0.95.
        percentile: of the channel-reduced gradient, in (0, 100]; pixels above it have mask 1. If it is 0,
            the maximum takes its place.
        reduction: of channels, `"max"` or `"mean"`.
        baseline: what a masked pixel shows: `"zero"` of the normalised image, `"blur"`, `"mean"` (the
            image's own mean colour), a number, or an array of the image's shape.
        area_weight: of the mean of the mask.
        total_variation_weight: of the mask's total variation, per pixel.
        output: what makes probabilities of logits: `"softmax"`, or `"sigmoid"` for networks whose classes do
            not exclude each other, such as those trained for VOC. None: a sigmoid of a single logit, a
            softmax of several.

    Returns:
        `values` of shape `(h, w, 1)`: the last mask, in [0, 1]. It has no sign, no channels, and not the unit
        of the logit.

    Raises:
        InputError: no ReLU in the network, unknown `reduction`, `output` or `baseline`, option out of range.

    >>> from dmbp_jax.rules import ACTIVATIONS, PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", x).mean(axis=(1, 2))
    >>> a = lpr(apply, {}, jnp.ones((4, 5, 3)), jnp.asarray(1), n_steps=2)
    >>> a.values.shape, bool(a.finite)
    ((4, 5, 1), True)
    """
    check_is_image(image.shape, "lpr")
    check_whole("n_steps", n_steps, least=0)
    check_range("learning_rate", learning_rate, Positive)
    check_range("eps", eps, Positive)
    check_range("start", start, Finite)
    check_range("percentile", percentile, Percentile)
    check_range("area_weight", area_weight, Finite)
    check_range("total_variation_weight", total_variation_weight, Finite)
    check_choice("reduction", reduction, get_args(Reduction))
    check_output(output)
    loop = learn_rules(
        apply,
        params,
        image,
        target,
        n_steps=n_steps,
        learning_rate=learning_rate,
        eps=eps,
        start=start,
        percentile=percentile,
        reduction=reduction,
        baseline=baseline,
        area_weight=area_weight,
        total_variation_weight=total_variation_weight,
        output=output,
    )

    def finish(learned: tuple[Thetas, Float[Array, "steps"]]) -> Attribution:
        thetas, losses = learned
        saliency = learned_saliency(apply, params, image, target, thetas, reduction=reduction)
        mask = make_mask(saliency, mask_scale(saliency, percentile))
        values = mask.astype(image.dtype)[..., None]
        # A target out of range has no gradient and a mask of zeros; its losses are NaN.
        return Attribution(values=values, finite=jnp.isfinite(values).all() & jnp.isfinite(losses).all())

    return loop.then(finish)


def learn_rules(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    n_steps: int,
    learning_rate: Positive,
    eps: Positive,
    start: Finite,
    **options: Any,
) -> Loop:
    """Minimise `lpr_loss` with Adam from `start`.

    The loop's result is the last thetas, and the loss before each step, `(n_steps,)`.
    """
    sites = [site for site in find_sites(apply, params, image) if site.kind in ACTIVATIONS]
    if not sites:
        raise InputError("this network has no ReLU or other activation, so that LPR has no rule to learn")
    dtype = np.promote_types(image.dtype, np.float32)
    thetas = {site.name: full_along(image, site.shape, start, dtype) for site in sites}
    # Below every square that the dtype holds: it makes the root's derivative finite at 0.
    adam = optax.adam(learning_rate, eps=eps, eps_root=float(np.finfo(dtype).tiny))

    def step(
        carry: tuple[Thetas, Any, Float[Array, "steps"]], number: Int[Array, ""]
    ) -> tuple[Thetas, Any, Float[Array, "steps"]]:
        thetas, state, losses = carry
        loss, gradient = jax.value_and_grad(
            lambda thetas: lpr_loss(apply, params, image, target, thetas, **options)
        )(thetas)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a whole power
            updates, state = adam.update(gradient, state)
        return optax.apply_updates(thetas, updates), state, losses.at[number].set(loss)

    start_of_all = thetas, adam.init(thetas), full_along(image, (n_steps,), 0, dtype)
    return Loop(n_steps, start_of_all, step, lambda carry: (carry[0], carry[2]))


def lpr_loss(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    thetas: Thetas,
    *,
    percentile: Percentile = 99.0,
    reduction: Reduction = "max",
    baseline: Baseline = "zero",
    area_weight: Finite = 1.0,
    total_variation_weight: Finite = 1.0,
    output: OutputActivation | None = None,
    scale: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """The loss of `lpr` as a function of `thetas`, to be differentiated by them.

    `scale` divides the gradient instead of its percentile. The percentile is constant in derivatives, so that
    finite differences agree with them only at a fixed scale.
    """
    saliency = learned_saliency(apply, params, image, target, thetas, reduction=reduction)
    mask = make_mask(
        saliency, stop_first_gradient(mask_scale(saliency, percentile)) if scale is None else scale
    )
    seen = mask.astype(image.dtype)[..., None]
    masked = seen * image + (1 - seen) * make_baseline(image, baseline)
    # The plain rule: thetas must be trained on the gradient of the loss itself, not on a modified one.
    logits = apply(params, masked[None], rule=PLAIN)[0].astype(mask.dtype)
    recognition = -target_score(log_probabilities(logits, output), target)
    return recognition + area_weight * mask.mean() + total_variation_weight * total_variation(mask)


def learned_saliency(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    thetas: Thetas,
    *,
    reduction: Reduction = "max",
) -> Float[Array, "h w"]:
    """The absolute gradient of the target's logit under the learned rule, its maximum or mean over
    channels."""
    to_image = jnp.abs(target_gradient(apply, params, image, target, Learned(thetas)))
    reduced = first_max(to_image, -1) if reduction == "max" else to_image.mean(axis=-1)
    return reduced.astype(np.promote_types(image.dtype, np.float32))


def mask_scale(saliency: Float[Array, "h w"], percentile: Percentile) -> Float[Array, ""]:
    """The percentile of the saliency; where that is 0 the maximum, and 1 where that is 0 too.

    >>> mask_scale(jnp.asarray([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), 100.0).round(3).item()
    5.0
    """
    high, highest = jnp.percentile(saliency, percentile), first_max(saliency)
    return jnp.where(high > 0, high, jnp.where(highest > 0, highest, 1))


def make_mask(saliency: Float[Array, "h w"], scale: Float[Array, ""]) -> Float[Array, "h w"]:
    """`min(saliency / scale, 1)`.

    >>> make_mask(jnp.asarray([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), jnp.asarray(4.0)).round(2).tolist()
    [[0.0, 0.25, 0.5], [0.75, 1.0, 1.0]]
    """
    return jnp.minimum(saliency / scale, 1)


def total_variation(mask: Float[Array, "h w"]) -> Float[Array, ""]:
    """The absolute differences of neighbours along rows and columns, summed and divided by the pixels.

    >>> total_variation(jnp.asarray([[0.0, 1.0], [0.0, 1.0]])).item()
    0.5
    """
    down, right = jnp.diff(mask, axis=0), jnp.diff(mask, axis=1)
    return (jnp.abs(down).sum() + jnp.abs(right).sum()) / mask.size
