"""The preset `fast`: both branches of DMBP from one backward pass, masks chosen from the logit down. Ours.

The paper changes all masks together, a little at a time. But a mask weighs paths by all masks between it
and the logit, so that a step that is right beside the others' old values can be wrong beside their new ones:
where two things in an image compete, one of them takes both branches. Going from the logit down, the masks of
a layer are chosen when everything above is settled, and once is enough.

What decides at an activation is what it contributes to the score, `a * dy/da`, in the plain network and in
both branches. At the last map a location decides as a whole, by its sum over channels, as in Grad-CAM: there
a single channel speaks for the target at one place and against it at another, for no reason but that it is
active, and only the sum says which.

The plain network's weight is 0 at the logit and grows with the number of masked sites above. What it is good
for was measured, not derived: near the logit any weight of it lets one thing in the image take both branches
now and then; near the image it keeps the masks to what the plain network says of each pixel, without which
the blue is no evidence against the target. The study is `notebooks/study_parts.py`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from dmbp_jax._checks import Positive
from dmbp_jax.dmbp._config import SweepConfig
from dmbp_jax.dmbp._optimization import Sites
from dmbp_jax.ops import target_score
from dmbp_jax.ops._resample import full_along
from dmbp_jax.rules import Site
from dmbp_jax.rules._masked import Choice, Swept
from dmbp_jax.typing import Apply, Image, Params, Target

PLAIN_WEIGHT = 16.0
"""The weight of the plain network's contributions beside one branch's, at the masks next to the image."""

ROOM = 0.7
"""The share of a dtype's exponents that the product of all masks may take."""


class SweptGradients(NamedTuple):
    """What one backward pass gives."""

    logits: Inexact[Array, "k"]
    plain: Image
    """The gradient of the score at the image."""
    positive: Image
    """The positive branch's."""
    negative: Image
    """The negative branch's."""
    masks: Sites
    """The positive branch's masks."""


def sweep(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    masked: Sequence[Site],
    *,
    strength: Positive = SweepConfig.strength,
) -> SweptGradients:
    """Choose the masks at `masked` from the logit down, `m+ = scale sigmoid(theta)` and `m- = scale - m+`.

    Equation and options of `theta`: `choose_theta` of `rules/_masked.py`. The scale is 2, by which depth does
    not shrink the branches, or less in a network so deep that the product of all masks would overflow.

    >>> from dmbp_jax.rules import PLAIN, find_sites
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", x).sum(axis=(1, 2)) @ jnp.asarray([[1.0], [-1.0]])
    >>> image = jnp.ones((1, 1, 2))
    >>> swept = sweep(apply, {}, image, jnp.asarray(0), find_sites(apply, {}, image)[:1], strength=2.0)
    >>> swept.plain.ravel().tolist(), (swept.positive > 0.5).ravel().tolist()
    ([1.0, -1.0], [True, False])
    """
    mask_dtype = np.promote_types(image.dtype, np.float32)
    rule = functools.partial(Swept, choices=_choices(masked, image.dtype), strength=strength)
    slots = {site.name: full_along(image, site.shape, 0, mask_dtype) for site in masked}
    logits, backward = jax.vjp(
        lambda x, slots: apply(params, x, rule=rule(slots)), jnp.stack([image] * 3), slots
    )
    at_logits = jax.grad(lambda row: target_score(row.astype(mask_dtype), target))(logits[0])
    (plain, positive, negative), masks = backward(jnp.stack([at_logits] * 3))
    return SweptGradients(logits[0], plain, positive, negative, masks)


def _choices(masked: Sequence[Site], dtype: np.dtype) -> dict[str, Choice]:
    """How the masks of each site are chosen; the sites are in the order of the forward pass."""
    most = ROOM * jnp.finfo(dtype).maxexp
    scale = min(2.0, 2.0 ** (most / len(masked)))
    maps = [site.name for site in masked if len(site.shape) == 3]
    above = np.arange(len(masked))[::-1] / max(len(masked) - 1, 1)
    return {
        site.name: Choice(PLAIN_WEIGHT * float(share), scale, by_location=site.name in maps[-1:])
        for site, share in zip(masked, above, strict=True)
    }
