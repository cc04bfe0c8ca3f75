"""The image that insertion starts from and deletion ends in: what is seen where a pixel is not shown."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import check_choice
from dmbp_jax.ops import folded_gaussian_blur, gaussian_blur
from dmbp_jax.ops.along import filled
from dmbp_jax.typing import Image, Numbers

Substrate = Literal["rise", "gaussian", "zero"] | Numbers
BLUR_SIZE = 11
BLUR_SIGMA = 5.0


def make_substrate(image: Float[Array | np.ndarray, "h w c"], substrate: Substrate) -> Image:
    """What replaces the pixels of the normalised `image`, `(h, w, c)`, that are not shown.

    - `"rise"`: the image convolved with RISE's 11 x 11 kernel, zero-padded (`evaluation.py` of
      github.com/eclique/RISE: a Gaussian of 5 pixels folded into the window, hence nearly a plain average);
    - `"gaussian"`: a whole Gaussian of the same 5 pixels, borders repeated;
    - `"zero"`: 0 of the normalised image;
    - a number, which every pixel has, or an array of the image's shape.

    Raises `InputError` for another name or shape.

    >>> make_substrate(jnp.ones((40, 40, 3)), "gaussian").mean().round(5).item()
    1.0
    """
    image = jnp.asarray(image)
    if not isinstance(substrate, str):
        return filled(image, substrate, "substrate")
    check_choice("substrate", substrate, ("rise", "gaussian", "zero"))
    if substrate == "rise":
        return folded_gaussian_blur(image, size=BLUR_SIZE, sigma=BLUR_SIGMA)
    if substrate == "gaussian":
        return gaussian_blur(image, BLUR_SIGMA, max_sigma=BLUR_SIGMA)
    return jnp.zeros_like(image)
