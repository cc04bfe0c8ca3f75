"""DeepLIFT with the rescale rule: Shrikumar, Greenside, Kundaje, "Learning Important Features Through
Propagating Activation Differences", ICML 2017."""

import jax
import jax.numpy as jnp

from dmbp_jax.attribution.baseline import Baseline, make_baseline
from dmbp_jax.attribution.result import attribution
from dmbp_jax.ops import target_score
from dmbp_jax.result import Attribution
from dmbp_jax.rules.rescale import RESCALE
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def deeplift(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    baseline: Baseline = "zero",
) -> Attribution:
    """`(x - x0) * m`, where `m` multiplies the slopes of the nonlinearities between baseline and image.

    A max-pool is a chain of maxima of two, each `b + relu(a - b)`, so that the values add up to
    `y(x) - y(x0)` through pools as well; `convergence_delta` is what rounding leaves. Captum's DeepLift does
    not add up on a ReLU followed by a max-pool. `key` is not used. Raises `InputError` for an unknown or
    misshapen `baseline`.
    """
    start = make_baseline(image, baseline)

    def scores(x: Image) -> tuple[jax.Array, jax.Array]:
        logits = apply(params, jnp.stack([x, start]), rule=RESCALE)
        y, y_start = (target_score(row, target) for row in logits)
        # The baseline's score carries no gradient to the image.
        return y, y - y_start

    multipliers, difference = jax.grad(scores, has_aux=True)(image)
    values = (image - start) * multipliers
    return attribution(values, convergence_delta=values.sum() - difference)
