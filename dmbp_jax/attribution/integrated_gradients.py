"""Integrated Gradients: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dmbp_jax.attribution.baseline import Baseline, make_baseline
from dmbp_jax.attribution.gradient import target_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import InputError
from dmbp_jax.ops import Loop, iterative, target_score
from dmbp_jax.result import Attribution
from dmbp_jax.typing import Apply, Image, Key, Params, Target


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

    `convergence_delta` of the result is the sum of the values minus `y(x) - y(x0)`: what the quadrature
    misses. `key` is not used.

    Raises `InputError` for `n_steps < 1` and an unknown or misshapen `baseline`.

    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3))
    >>> a = integrated_gradients(linear, params, image, jnp.asarray(0), n_steps=2)
    >>> a.values.sum().item()
    12.0
    """
    if n_steps < 1:
        raise InputError(f"n_steps must be at least 1, got {n_steps}")
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
