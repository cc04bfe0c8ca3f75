"""Insertion (IM): Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
Models", BMVC 2018.
"""

import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.metrics.curve import N_STEPS, Curve, Predict, curve_along
from dmbp_jax.metrics.substrate import Substrate, make_substrate
from dmbp_jax.typing import Numbers, Target


def insertion(
    predict: Predict,
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    n_steps: int = N_STEPS,
    substrate: Substrate = "rise",
    chunk_size: int = 32,
) -> Curve:
    """How soon the target is recognised while pixels enter a blurred image, the warmest first.

    Before step `i` the image shows the `i * step` pixels with the largest values of the heat map and the
    blurred image elsewhere; the metric is the area under the target's probability,
    `(sum_i p_i - (p_0 + p_n) / 2) / n` (the authors' `evaluation.py`). Higher is better. Only the order of
    the values matters. Equal values have one fixed random order, the same for all maps of one size, so that
    a constant map is as good as random pixels; where the coldest go first, the order is the reverse.

    Args:
        predict: probabilities `(n, k)` of normalised images `(n, h, w, c)`; called with one chunk at a time.
            Of a network of one logit take its sigmoid: a softmax makes 1 of it, and so of every area.
        image: `(h, w, c)`, as the network takes it, of NumPy or JAX.
        heatmap: `(h, w)`.
        target: a class index, which may be traced, or one weight per class, `(k,)`: a weighted sum of the
            probabilities.
        n_steps: steps of `ceil(h w / n_steps)` pixels. RISE's 224 * 8 pixels of 224 x 224 are 28 steps, that
            is 29 evaluations. Images of few pixels may be whole after fewer steps.
        substrate: what is seen before a pixel enters: `"rise"` or `"gaussian"` blur, `"zero"`, or an array of
            the image's shape; see `dmbp_jax.metrics.make_substrate`.
        chunk_size: images that go through the network at once, at most. Memory grows with it and not with
            `n_steps`; the result does not depend on it, but for rounding.

    Returns:
        A `Curve`; all NaN if the heat map holds a NaN or the target is no class of the network.

    Raises:
        InputError: heat map, substrate or weights of the wrong shape, unknown substrate, option below 1,
            `predict` that returns something else.

    Nothing is compiled here. To compile once for all images, wrap it:

    >>> import jax, jax.numpy as jnp
    >>> apply = lambda params, x: x.mean(axis=(1, 2)) @ params
    >>> @jax.jit
    ... def im(params, image, heatmap, target):
    ...     return insertion(lambda x: jax.nn.softmax(apply(params, x)), image, heatmap, target)
    >>> curve = im(jnp.ones((3, 2)), jnp.ones((16, 14, 3)), jnp.ones((16, 14)), 1)
    >>> curve.auc.item(), curve.probabilities.shape
    (0.5, (29,))
    """
    return curve_along(
        predict,
        make_substrate(image, substrate),
        image,
        heatmap,
        target,
        decreasing=True,
        n_steps=n_steps,
        chunk_size=chunk_size,
    )
