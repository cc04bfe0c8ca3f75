"""Deletion: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
BMVC 2018.
"""

import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.metrics.curve import N_STEPS, Curve, Predict, curve_along
from dmbp_jax.metrics.substrate import Substrate, make_substrate
from dmbp_jax.typing import Numbers, Target


def deletion(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    n_steps: int = N_STEPS,
    substrate: Substrate = "zero",
    chunk_size: int = 32,
) -> Curve:
    """How long the target is recognised while pixels leave the image, the warmest first. Lower is better.

    As `dmbp_jax.metrics.insertion`, from the image to the substrate instead of towards the image: the pixels
    with the largest values become 0 of the normalised image, unless `substrate` says otherwise. Arguments,
    result and errors are those of insertion.

    >>> import jax.numpy as jnp
    >>> seen = lambda x: x[:, 0, :1, 0]  # the "probability" is the first pixel
    >>> heatmap = jnp.asarray([[4.0, 3.0], [2.0, 1.0]])
    >>> deletion(seen, jnp.ones((2, 2, 3)), heatmap, jnp.asarray(0), n_steps=4).probabilities.tolist()
    [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    return curve_along(
        predict,
        image,
        make_substrate(image, substrate),
        heatmap,
        target,
        decreasing=True,
        n_steps=n_steps,
        chunk_size=chunk_size,
    )
