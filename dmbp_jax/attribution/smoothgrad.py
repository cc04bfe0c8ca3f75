"""SmoothGrad: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dmbp_jax.attribution.gradient import target_gradient
from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import InputError
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
    noise_level: float = 0.15,
    multiply_by_inputs: bool = False,
) -> Loop:
    """The mean gradient at `n_samples` noisy copies of the image.

    The noise is normal, its standard deviation `noise_level` times the image's own range, `max - min`.
    `multiply_by_inputs` gives the product with the image, which the DMBP paper evaluates. PAIR's `saliency`
    squares the gradients before the mean unless told otherwise; here they keep their sign.

    Raises `InputError` without a `key`, and for `n_samples < 1`.

    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3))
    >>> a = smoothgrad(linear, params, image, jnp.asarray(0), key=jax.random.key(0))
    >>> a.values.shape
    (2, 2, 3)
    """
    if key is None:
        raise InputError("smoothgrad draws noise: give key=jax.random.key(0)")
    if n_samples < 1:
        raise InputError(f"n_samples must be at least 1, got {n_samples}")
    deviation = noise_level * (image.max() - image.min())

    def add(total: Image, number: Int[Array, ""]) -> Image:
        noise = jax.random.normal(jax.random.fold_in(key, number), image.shape, image.dtype)
        return total + target_gradient(apply, params, image + deviation * noise, target)

    def finish(total: Image) -> Attribution:
        mean = total / n_samples
        return attribution(mean * image if multiply_by_inputs else mean)

    return Loop(n_samples, jnp.zeros_like(image), add, finish)
