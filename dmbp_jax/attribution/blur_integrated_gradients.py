"""Blur Integrated Gradients: Xu, Venugopalan, Sundararajan, "Attribution in Scale and Space", CVPR 2020."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from dmbp_jax.attribution.gradient import target_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import InputError, check_choice, check_is_image
from dmbp_jax.ops import Loop, gaussian_blur, iterative
from dmbp_jax.ops.blur import Padding
from dmbp_jax.result import Attribution
from dmbp_jax.typing import Apply, Image, Key, Params, Target


@iterative
def blur_integrated_gradients(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    n_steps: int = 100,
    max_sigma: float = 50.0,
    grad_step: float = 0.01,
    padding: Padding = "edge",
) -> Loop:
    """Gradients integrated along the path from a blurred image to the image.

    `-sum_i dsigma dy/dx(B(sigma_i)) * (B(sigma_i + grad_step) - B(sigma_i)) / grad_step`, where `B(sigma)` is
    the image under a Gaussian of sigma pixels and `sigma_i = i max_sigma / n_steps`. These are the
    constants and the linear spacing of PAIR's `saliency`. Its blur pads with zeros, which darkens the border
    and makes it part of the explanation; here the edge is repeated, and `padding="zero"` does as PAIR. `key`
    is not used.

    Raises `InputError` for options out of range.
    """
    check_is_image(image.shape, "blur_integrated_gradients")
    if n_steps < 1 or max_sigma <= 0 or grad_step <= 0:
        raise InputError("n_steps must be at least 1, max_sigma and grad_step above 0")
    check_choice("padding", padding, ("edge", "zero"))

    def blurred(sigma: Array) -> Image:
        return gaussian_blur(image, sigma, max_sigma=max_sigma + grad_step, padding=padding)

    def add(total: Image, number: Int[Array, ""]) -> Image:
        sigma = number.astype(image.dtype) * (max_sigma / n_steps)
        here = blurred(sigma)
        slope = (blurred(sigma + grad_step) - here) / grad_step
        return total + slope * target_gradient(apply, params, here, target)

    def finish(total: Image) -> Attribution:
        return attribution(-total * (max_sigma / n_steps))

    return Loop(n_steps, jnp.zeros_like(image), add, finish)
