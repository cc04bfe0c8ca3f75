"""The image that stands for "nothing there", from which a path or a difference starts."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.ops import gaussian_blur
from dmbp_jax.typing import Image

Baseline = Literal["zero", "blur", "mean"] | Float[Array, "..."]
BLUR_SIGMA = 10.0


def make_baseline(image: Image, baseline: Baseline) -> Image:
    """`"zero"` of the normalised image (its mean colour over the training set, as a rule), `"blur"` (a
    Gaussian of 10 pixels), `"mean"` (the image's own mean colour), or an array of the image's shape.

    Raises `InputError` for another name or shape.
    """
    if not isinstance(baseline, str):
        if baseline.shape != image.shape:
            raise InputError(f"the baseline must have the image's shape {image.shape}, got {baseline.shape}")
        return baseline
    check_choice("baseline", baseline, ("zero", "blur", "mean"))
    if baseline == "blur":
        return gaussian_blur(image, BLUR_SIGMA, max_sigma=BLUR_SIGMA)
    if baseline == "mean":
        return jnp.broadcast_to(image.mean(axis=(0, 1), keepdims=True), image.shape)
    return jnp.zeros_like(image)
