"""Sparseness: Chalasani, Chen, Chowdhury, Jha, Wu, "Concise Explanations of Neural Networks using Adversarial
Training", ICML 2020.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def sparseness(values: Float[Array | np.ndarray, "..."]) -> Float[Array, ""]:
    """The Gini index of the magnitudes: near 1 if few pixels hold most of the map.

    `G = sum_i (2 i - n - 1) v_i / (n sum_i v_i)` of the `n` magnitudes `v_1 <= ... <= v_n`, which is the
    paper's `1 - 2 sum_i (v_i / sum v) ((n - i + 0.5) / n)` (Section 5). 0 for a map of equal magnitudes,
    `1 - 1 / n` for a map of a single pixel; neither the order nor the unit matters. Higher is more concise,
    which is not the same as faithful: read it beside a measure of faithfulness. The index of a heat map,
    whose channels are added, differs from that of the values.

    Quantus' `Sparseness` adds 1e-7 to every magnitude of the map divided by its largest, which moves the
    index by about as little.

    Args:
        values: of any shape, such as `(h, w)`.

    Returns:
        The index, in [0, 1); NaN if the values are zero throughout, or not finite.

    >>> sparseness(jnp.asarray([[0.0, 0.0], [-3.0, 0.0]])).item(), sparseness(jnp.ones((4, 4))).item()
    (0.75, 0.0)
    """
    magnitudes = jnp.sort(jnp.abs(jnp.asarray(values)).ravel())
    # Relative to the largest, no sum overflows.
    magnitudes = magnitudes / magnitudes[-1]
    n = magnitudes.size
    # From -1 + 1 / n to 1 - 1 / n, exactly symmetric: equal magnitudes then cancel exactly.
    weights = jnp.asarray((2 * np.arange(1, n + 1) - n - 1) / n, magnitudes.dtype)
    return (weights * magnitudes).sum() / magnitudes.sum()
