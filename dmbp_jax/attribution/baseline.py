"""The image that stands for "nothing there", from which a path or a difference starts."""

from typing import Annotated, Literal

import jax.numpy as jnp

from dmbp_jax.checks import FINITE, check_choice
from dmbp_jax.ops import gaussian_blur
from dmbp_jax.ops.along import filled
from dmbp_jax.typing import Image, Numbers

Baseline = Literal["zero", "blur", "mean"] | Annotated[Numbers, FINITE]
BLUR_SIGMA = 10.0


def make_baseline(image: Image, baseline: Baseline) -> Image:
    """`"zero"` of the normalised image (its mean colour over the training set, as a rule), `"blur"` (a
    Gaussian of 10 pixels), `"mean"` (the image's own mean colour), a number that every input then is, or an
    array of the image's shape.

    Raises `InputError` for another name or shape.
    """
    if not isinstance(baseline, str):
        return filled(image, baseline, "baseline")
    check_choice("baseline", baseline, ("zero", "blur", "mean"))
    if baseline == "blur":
        return gaussian_blur(image, BLUR_SIGMA, max_sigma=BLUR_SIGMA)
    if baseline == "mean":
        return jnp.broadcast_to(image.mean(axis=(0, 1), keepdims=True), image.shape)
    return jnp.zeros_like(image)
