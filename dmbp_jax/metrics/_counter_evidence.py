"""Counter-evidence: whether the pixels that a map marks as evidence *against* a class are; a metric of this
package.

Insertion and deletion test the highest values of a map. The lowest values are tested here: if these pixels
speak against the target, blurring them must raise the target's probability.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax._checks import InputError
from dmbp_jax._ranges import Share, check_shares
from dmbp_jax.metrics._curves import Baseline, make_baseline, pixel_ranks
from dmbp_jax.metrics._variants import (
    as_map,
    as_order,
    as_target,
    check_heatmap,
    class_outputs,
    target_scores,
)
from dmbp_jax.ops import log_probabilities
from dmbp_jax.typing import Images, Numbers, Target

SHARES = (0.01, 0.02, 0.05, 0.1)
"""Of the pixels."""


class CounterEvidence(NamedTuple):
    """The effect of blurring the most negative pixels; NaN throughout for a map without negative values."""

    log_probability: Float[Array, "shares"]
    """Change of the target's log-probability; above zero is right."""
    logit: Float[Array, "shares"]
    """Change of the target's logit."""
    blurred: Float[Array, "shares"]
    """The share of the pixels that was blurred: less than asked for where fewer are negative."""


def counter_evidence(
    logits: Callable[[Images], Float[Array, "n k"]],
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    shares: Sequence[float] = SHARES,
    log_probability: Callable[[Array], Array] = log_probabilities,
    baseline: Baseline = "rise",
) -> CounterEvidence:
    """The rise of the target's score when the pixels with the most negative values are blurred.

    For each share the `ceil(share h w)` pixels with the lowest values of the map, as far as these are below
    zero, are replaced by those of the blurred image. The result is the change of the target's log-probability
    and of its logit. Only the order of the negative values matters; equal values have one fixed random order
    (`dmbp_jax.metrics.insertion`).

    Args:
        logits: `(n, k)` of normalised images `(n, h, w, c)`; called once.
        image: `(h, w, c)`, as the network takes it.
        heatmap: `(h, w)`.
        target: a class index, which may be traced, or one weight per class, `(k,)`: the weighted sum of the
            logits, and of the log-probabilities.
        shares: of the pixels, each above 0 and at most 1.
        log_probability: of logits, `(n, k)`: by default that of a softmax, and of a single logit that of a
            sigmoid; `jax.nn.log_sigmoid` for a network of independent classes.
        baseline: what is seen in place of a pixel; as for `dmbp_jax.metrics.insertion`.

    Raises:
        InputError: no shares or one out of range, heat map or baseline of the wrong shape, a
            `jax.nn.log_softmax` of one logit, which is always 0.

    >>> seen = lambda x: x.sum(axis=(1, 2))  # two classes, which see two colours
    >>> image = jnp.ones((1, 2, 2)).at[0, 0, 1].set(5.0)
    >>> against = jnp.asarray([[-1.0, 0.0]])
    >>> found = counter_evidence(seen, image, against, jnp.asarray(0), shares=[0.5, 1.0], baseline="zero")
    >>> found.logit.tolist(), found.blurred.tolist(), (found.log_probability > 0).tolist()
    ([-1.0, -1.0], [0.5, 0.5], [True, True])
    """
    check_shares(shares, Share)
    image, order = jnp.asarray(image), as_order(heatmap)
    heatmap, target = as_map(heatmap), as_target(target)
    check_heatmap(image, heatmap)
    ranks = pixel_ranks(order, decreasing=False)
    wanted = np.ceil(np.asarray(shares) * ranks.size).astype(np.int32)
    blurred = (ranks[None] < wanted[:, None, None]) & (heatmap[None] < 0)
    shown = jnp.where(blurred[..., None], make_baseline(image, baseline)[None], image[None])
    found = class_outputs(logits, jnp.concatenate([image[None], shown]))
    if log_probability is jax.nn.log_softmax and found.shape[1] == 1:
        raise InputError(
            "the softmax of one logit is always 1: leave log_probability out, or use jax.nn.log_sigmoid"
        )

    def change(values: Array) -> Array:
        scores = target_scores(values, target)
        # Undefined for a map that holds a NaN, and for one without negative values.
        return jnp.where((heatmap < 0).any() & ~jnp.isnan(heatmap).any(), scores[1:] - scores[0], jnp.nan)

    return CounterEvidence(
        change(log_probability(found)), change(found), blurred.mean(axis=(1, 2), dtype=found.dtype)
    )
