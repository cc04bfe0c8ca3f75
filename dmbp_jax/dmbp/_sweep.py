"""The preset `fast`: both branches of DMBP from one backward pass, masks chosen from the logit down.

This rule is not in the paper, which changes all masks together in small steps. The gradient at a mask depends
on all masks between it and the logit, so that a step that is right for their old values can be wrong for
their new ones: of two competing objects in an image, one then dominates both branches. From the logit down,
the masks of a layer are chosen when all masks above are fixed, and one pass is enough.

A mask is chosen by its activation's contribution to the score, `a * dy/da`, in the plain network and in both
branches. At the last map all channels of a location have one mask, by their sum, as in Grad-CAM: there a
single channel may contribute with either sign, and only the sum is evidence.

The plain network's weight is 0 at the logit and grows with the number of masked sites above. This was
measured, not derived: with any weight near the logit, one object sometimes dominates both branches; without
weight near the image, negative values are no evidence against the target. The study is
`notebooks/study_parts.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from dmbp_jax._ranges import Positive
from dmbp_jax.dmbp._config import SweepConfig
from dmbp_jax.dmbp._optimization import Sites
from dmbp_jax.ops import target_score
from dmbp_jax.ops._resample import full_along
from dmbp_jax.rules import Site
from dmbp_jax.rules._masked import Choice, Swept
from dmbp_jax.typing import Apply, Image, Params, Target

PLAIN_WEIGHT = 16.0
"""The weight of the plain network's contributions relative to one branch's, at the masks next to the
image."""

ROOM = 0.7
"""The share of a dtype's exponents that the product of all masks may take."""


class SweptGradients(NamedTuple):
    """The results of the one backward pass."""

    logits: Inexact[Array, "k"]
    plain: Image
    """The gradient of the score at the image."""
    positive: Image
    """The positive branch's."""
    negative: Image
    """The negative branch's."""
    masks: Sites
    """The positive branch's masks; empty if the network has no masked site."""
    has_tangents: bool
    """Whether the network has smooth operations."""


def sweep(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    is_masked: Callable[[Site], bool],
    *,
    strength: Positive = SweepConfig.strength,
) -> SweptGradients:
    """Choose the masks of some sites from the logit down, `m+ = scale sigmoid(theta)` and `m- = scale - m+`.

    Equation and options of `theta`: `choose_theta` of `rules/_masked.py`. The scale is 2, so that the
    branches do not shrink with depth, or less in a network so deep that the product of all masks would
    overflow.

    The network is traced once.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", x).sum(axis=(1, 2)) @ jnp.asarray([[1.0], [-1.0]])
    >>> image = jnp.ones((1, 1, 2))
    >>> swept = sweep(apply, {}, image, jnp.asarray(0), lambda site: site.kind == "relu", strength=2.0)
    >>> swept.plain.ravel().tolist(), (swept.positive > 0.5).ravel().tolist()
    ([1.0, -1.0], [True, False])
    """
    mask_dtype = np.promote_types(image.dtype, np.float32)
    rule = Swept(is_masked, strength, mask_dtype)
    logits, backward = jax.vjp(lambda x: apply(params, x[None], rule=rule)[0], image)
    masked = tuple(rule.masked.values())
    rule.choices.update(_choices(masked, image.dtype))
    at_logits = jax.grad(lambda row: target_score(row.astype(mask_dtype), target))(logits)
    ((plain, positive, negative),) = jax.vmap(backward)(jnp.stack([at_logits] * 3))
    # A site that has no part in the score has the same masks in both branches.
    masks = {
        site.name: rule.masks[site.name]
        if site.name in rule.masks
        else full_along(image, site.shape, rule.choices[site.name].scale / 2, mask_dtype)
        for site in masked
    }
    return SweptGradients(logits, plain, positive, negative, masks, bool(rule.has_tangents))


def _choices(masked: Sequence[Site], dtype: np.dtype) -> dict[str, Choice]:
    """How the masks of each site are chosen; the sites are in the order of the forward pass."""
    most = ROOM * jnp.finfo(dtype).maxexp
    scale = min(2.0, 2.0 ** (most / max(len(masked), 1)))
    maps = [site.name for site in masked if len(site.shape) == 3]
    above = np.arange(len(masked))[::-1] / max(len(masked) - 1, 1)
    return {
        site.name: Choice(PLAIN_WEIGHT * float(share), scale, by_location=site.name in maps[-1:])
        for site, share in zip(masked, above, strict=True)
    }
