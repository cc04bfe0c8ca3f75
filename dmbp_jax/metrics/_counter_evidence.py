"""Counter-evidence: whether what a map calls evidence *against* a class is; ours.

Insertion and deletion look at the upper end of a map. Its lower end makes a claim too: without these pixels
the network would believe more in the target. So they are blurred, and the target must rise.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax._checks import InputError, Share, check_shares
from dmbp_jax.metrics._curves import Substrate, make_substrate, pixel_ranks
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
    """What blurring the most negative pixels does; NaN throughout for a map without any."""

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
    substrate: Substrate = "rise",
) -> CounterEvidence:
    """How much the target gains when the pixels that speak against it most are blurred.

    For each share the `ceil(share h w)` pixels with the lowest values of the map, as far as these are below
    zero, are exchanged for the blurred image's; what is measured is the target's log-probability, and its
    logit, minus the whole image's. Only the order of the negative values matters, equal ones having one fixed
    random order (`dmbp_jax.metrics.insertion`).

    Args:
        logits: `(n, k)` of normalised images `(n, h, w, c)`; called once.
        image: `(h, w, c)`, as the network takes it.
        heatmap: `(h, w)`.
        target: a class index, which may be traced, or one weight per class, `(k,)`: the weighted sum of the
            logits, and of the log-probabilities.
        shares: of the pixels, each above 0 and at most 1.
        log_probability: of logits, `(n, k)`: by default that of a softmax, and of a single logit that of a
            sigmoid; `jax.nn.log_sigmoid` for a network of independent classes.
        substrate: what is seen in place of a pixel; as for `dmbp_jax.metrics.insertion`.

    Raises:
        InputError: no shares or one out of range, heat map or substrate of the wrong shape, a
            `jax.nn.log_softmax` of one logit, which is always 0.

    >>> seen = lambda x: x.sum(axis=(1, 2))  # two classes, which see two colours
    >>> image = jnp.ones((1, 2, 2)).at[0, 0, 1].set(5.0)
    >>> against = jnp.asarray([[-1.0, 0.0]])
    >>> found = counter_evidence(seen, image, against, jnp.asarray(0), shares=[0.5, 1.0], substrate="zero")
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
    shown = jnp.where(blurred[..., None], make_substrate(image, substrate)[None], image[None])
    found = class_outputs(logits, jnp.concatenate([image[None], shown]))
    if log_probability is jax.nn.log_softmax and found.shape[1] == 1:
        raise InputError(
            "the softmax of one logit is 1 whatever the network says: leave log_probability out, or take "
            "jax.nn.log_sigmoid"
        )

    def change(values: Array) -> Array:
        scores = target_scores(values, target)
        # A map that is not a number somewhere orders nothing, and one without negative values claims nothing.
        return jnp.where((heatmap < 0).any() & ~jnp.isnan(heatmap).any(), scores[1:] - scores[0], jnp.nan)

    return CounterEvidence(
        change(log_probability(found)), change(found), blurred.mean(axis=(1, 2), dtype=found.dtype)
    )
