"""A map that knows nothing: the level that every method has to beat."""

import jax
import jax.numpy as jnp

from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import InputError, check_is_image
from dmbp_jax.result import Attribution
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def random_map(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """One standard normal number per pixel, `(h, w, 1)`; neither network nor image is looked at.

    Raises `InputError` without a `key`.

    >>> image, target = jnp.ones((2, 4, 3)), jnp.asarray(0)
    >>> random_map(lambda params, x, rule=None: x, {}, image, target, key=jax.random.key(0)).values.shape
    (2, 4, 1)
    """
    check_is_image(image.shape, "random")
    if key is None:
        raise InputError("random_map draws a map: give key=jax.random.key(0)")
    # In single precision, whatever the image's, so that a key means the same map.
    return attribution(jax.random.normal(key, (*image.shape[:2], 1), jnp.float32).astype(image.dtype))
