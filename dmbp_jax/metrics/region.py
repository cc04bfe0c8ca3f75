"""Where the object is, for metrics that compare a map with a segmentation."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax.checks import InputError


def check_region(
    heatmap: Float[Array | np.ndarray, "h w"],
    region: Bool[Array | np.ndarray, "rows columns"],
    ignored: Bool[Array | np.ndarray, "rows2 columns2"] | None,
) -> tuple[Bool[Array, "h w"], Bool[Array, "h w"]]:
    """The object's pixels, and all that count; raises `InputError` for shapes that differ.

    >>> check_region(jnp.ones((1, 2)), jnp.asarray([[True, True]]), jnp.asarray([[False, True]]))[0].tolist()
    [[True, False]]
    """
    for name, mask in (("region", region), ("ignored", ignored)):
        if mask is not None and mask.shape != heatmap.shape:
            raise InputError(f"{name} must have the map's shape {heatmap.shape}, got {mask.shape}")
    counts = jnp.ones(heatmap.shape, bool) if ignored is None else ~jnp.asarray(ignored)
    return jnp.asarray(region) & counts, counts
