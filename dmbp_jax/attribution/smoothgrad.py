"""SmoothGrad: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017."""

import functools

from dmbp_jax.attribution.gradient import gradient
from dmbp_jax.attribution.noise_tunnel import noisy_loop
from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import NonNegative
from dmbp_jax.ops import Loop, iterative
from dmbp_jax.result import Attribution
from dmbp_jax.typing import Apply, Image, Key, Params, Target


@iterative
def smoothgrad(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    n_samples: int = 50,
    noise_level: NonNegative = 0.15,
    multiply_by_inputs: bool = False,
) -> Loop:
    """The mean gradient at `n_samples` noisy copies of the image.

    `noise_tunnel(gradient)`. The noise is normal, its standard deviation `noise_level` times the image's own
    range, `max - min`.
    `multiply_by_inputs` gives the product with the image, which the DMBP paper evaluates. PAIR's `saliency`
    squares the gradients before the mean unless told otherwise; here they keep their sign.

    Raises `InputError` without a `key`, for `n_samples < 1`, and for a `noise_level` below 0.

    >>> import jax, jax.numpy as jnp
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3))
    >>> a = smoothgrad(linear, params, image, jnp.asarray(0), key=jax.random.key(0))
    >>> a.values.shape
    (2, 2, 3)
    """
    loop = noisy_loop(
        functools.partial(gradient, apply, params, target=target),
        image,
        key=key,
        n_samples=n_samples,
        noise_level=noise_level,
        statistic="smoothgrad",
        name="smoothgrad",
    )

    def times_image(mean: Attribution) -> Attribution:
        a = attribution(mean.values * image)
        return a._replace(finite=a.finite & mean.finite)

    return loop.then(times_image) if multiply_by_inputs else loop
