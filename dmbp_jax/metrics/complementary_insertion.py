"""Complementary insertion (cIM): Ruiz, Agudo, Moreno-Noguer, "Generating Attribution Maps with Disentangled
Masked Backpropagation", ICCV 2021.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.curve import N_STEPS, Curve, Predict, curve_along
from dmbp_jax.metrics.substrate import Substrate, make_substrate
from dmbp_jax.typing import Numbers


def complementary_insertion(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    others: Float[Array, "k"] | Bool[Array, "k"] | Numbers,
    *,
    n_steps: int = N_STEPS,
    substrate: Substrate = "rise",
    chunk_size: int = 32,
) -> Curve:
    """How soon the *other* true classes are recognised while pixels enter a blurred image, the coldest first.

    As `dmbp_jax.metrics.insertion`, with the pixels in increasing order of the target's heat map (the
    exact reverse of insertion's, of equal values too) and the mean probability of the image's other true
    classes; the area is so the mean of their areas. Higher is better: what speaks against the target should
    speak for them.

    Args:
        others: `(k,)`: 1 for a true class of the image other than the target, 0 for the rest. An array and no
            list of classes, so that how many there are does not change what is compiled.

    The other arguments and the errors are those of insertion; the curve is NaN where there is no other class.

    >>> seen = lambda x: x[:, 0, :, 0]  # the "probabilities" are the two upper pixels
    >>> heatmap, others = jnp.asarray([[4.0, 1.0], [3.0, 2.0]]), jnp.asarray([0.0, 1.0])
    >>> options = {"n_steps": 4, "substrate": "zero"}
    >>> complementary_insertion(seen, jnp.ones((2, 2, 3)), heatmap, others, **options).probabilities.tolist()
    [0.0, 1.0, 1.0, 1.0, 1.0]
    """
    others = jnp.asarray(others)
    if others.ndim != 1:
        raise InputError(f"others must be a vector with one number per class, got shape {others.shape}")
    weights = others.astype(np.promote_types(jnp.asarray(image).dtype, np.float32))
    count = weights.sum()
    mean = jnp.where(count > 0, weights / jnp.where(count > 0, count, 1), jnp.nan)
    return curve_along(
        predict,
        make_substrate(image, substrate),
        image,
        heatmap,
        mean,
        decreasing=False,
        n_steps=n_steps,
        chunk_size=chunk_size,
    )
