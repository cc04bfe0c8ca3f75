"""Methods that integrate the gradient along a path: Integrated Gradients, Blur Integrated Gradients."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dmbp_jax._checks import check_choice, check_is_image
from dmbp_jax._ranges import Positive, check_range, check_whole
from dmbp_jax.attribution._gradients import Baseline, make_baseline, target_gradient
from dmbp_jax.ops import Loop, gaussian_blur, iterative, target_score
from dmbp_jax.ops._resample import Padding
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.typing import Apply, Image, Key, Params, Target

# Integrated Gradients: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.


@iterative
def integrated_gradients(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    n_steps: int = 50,
    baseline: Baseline = "zero",
) -> Loop:
    """`(x - x0) * integral of dy/dx(x0 + t (x - x0)) dt` over t in [0, 1], by Gauss-Legendre (Captum's
    default).

    `convergence_delta` of the result is the sum of the values minus `y(x) - y(x0)`: the quadrature error.
    `key` is not used.

    Raises `InputError` for `n_steps < 1` and an unknown or misshapen `baseline`.

    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3))
    >>> a = integrated_gradients(linear, params, image, jnp.asarray(0), n_steps=2)
    >>> a.values.sum().item()
    12.0
    """
    check_whole("n_steps", n_steps, least=1)
    start = make_baseline(image, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)

    # From [-1, 1] to [0, 1].
    path, shares = jnp.asarray((nodes + 1) / 2, image.dtype), jnp.asarray(weights / 2, image.dtype)

    def add(total: Image, number: Int[Array, ""]) -> Image:
        x = start + path[number] * (image - start)
        return total + shares[number] * target_gradient(apply, params, x, target)

    def finish(mean_gradient: Image) -> Attribution:
        values = (image - start) * mean_gradient
        y, y_start = (target_score(apply(params, x[None])[0], target) for x in (image, start))
        return attribution(values, convergence_delta=values.sum() - (y - y_start))

    return Loop(n_steps, jnp.zeros_like(image), add, finish)


# Blur Integrated Gradients: Xu, Venugopalan, Sundararajan, "Attribution in Scale and Space", CVPR 2020.


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
    power: Positive = 3.0,
    grad_step: float | None = None,
    padding: Padding = "edge",
) -> Loop:
    """Gradients integrated along the path from a blurred image to the image.

    `sum_i dy/dx(B(s_(i + 1/2))) * (B(s_i) - B(s_(i + 1)))`, where `B(s)` is the image under a Gaussian of `s`
    pixels and `s_i = max_sigma (i / n_steps)^power`: a path integral by the midpoint rule, from the image at
    `s_0 = 0` to `s_n = max_sigma`. An image changes most at small sigma, where steps of equal width,
    `power=1`, are too few. For a linear network the values add up to `y(x) - y(B(max_sigma))` exactly;
    `convergence_delta` of the result is the difference. `key` is not used.

    PAIR's `saliency` takes steps of equal width, and a derivative at the beginning of each,
    `sum_i dy/dx(B(s_i)) * (B(s_i) - B(s_i + grad_step)) / grad_step * (s_(i + 1) - s_i)`: on the edges of a
    photograph the result is 0.2 of the exact sum with 10 steps and 1.2 of it with 100. It also pads with
    zeros, which darkens the border, so that the border is attributed; here the edge is repeated. `power=1,
    grad_step=0.01, padding="zero"` is PAIR's program.

    Raises `InputError` for options out of range.

    >>> edges = lambda params, x, rule=None: jnp.abs(jnp.diff(x, axis=2)).sum(axis=(1, 2))
    >>> image = jnp.zeros((1, 8, 1)).at[:, 4:].set(1.0)
    >>> options = {"n_steps": 10, "max_sigma": 2.0}
    >>> a = blur_integrated_gradients(edges, {}, image, jnp.asarray(0), **options)
    >>> a.values.shape, bool(jnp.abs(a.convergence_delta) < 1e-5)
    ((1, 8, 1), True)
    """
    check_is_image(image.shape, "blur_integrated_gradients")
    check_whole("n_steps", n_steps, least=1)
    for name, value in (("max_sigma", max_sigma), ("power", power), ("grad_step", grad_step)):
        if value is not None:
            check_range(name, value, Positive)
    check_choice("padding", padding, ("edge", "zero"))

    def sigma(number: Array) -> Array:
        return max_sigma * (number / n_steps) ** power

    def blurred(at: Array) -> Image:
        return gaussian_blur(image, at, max_sigma=max_sigma + (grad_step or 0), padding=padding)

    def add(state: tuple[Image, Image], number: Int[Array, ""]) -> tuple[Image, Image]:
        total, before = state
        first = number.astype(image.dtype)
        after = blurred(sigma(first + 1))
        if grad_step is None:
            here, change = blurred(sigma(first + 0.5)), after - before
        else:
            width = (sigma(first + 1) - sigma(first)) / grad_step
            here, change = before, (blurred(sigma(first) + grad_step) - before) * width
        return total - change * target_gradient(apply, params, here, target), after

    def finish(state: tuple[Image, Image]) -> Attribution:
        values, start = state
        y, y_start = (target_score(apply(params, x[None])[0], target) for x in (image, start))
        return attribution(values, convergence_delta=values.sum() - (y - y_start))

    return Loop(n_steps, (jnp.zeros_like(image), image), add, finish)
