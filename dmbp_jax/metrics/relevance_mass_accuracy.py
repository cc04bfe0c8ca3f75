"""Relevance mass accuracy: Arras, Osman, Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth
Evaluation of Neural Network Explanations", Information Fusion 81, 2022.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax.metrics.region import check_region
from dmbp_jax.metrics.variants import as_map
from dmbp_jax.typing import Numbers


def relevance_mass_accuracy(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    region: Bool[Array | np.ndarray, "rows columns"],
    *,
    ignored: Bool[Array | np.ndarray, "rows2 columns2"] | None = None,
) -> Float[Array, ""]:
    """The share of the positive attribution that lies on the object.

    `sum_{p in region} max(M_p, 0) / sum_p max(M_p, 0)` (Section 3.3). In [0, 1]; higher is better, and a map
    that knows nothing gets the region's share of the area: compare methods on the same images. The paper
    tries many ways from the values of three channels to a map without negative values; this is its
    "sum, pos", channels added first.

    Quantus' `RelevanceMassAccuracy` adds negative values as they are, above and below the line: no share of
    anything where there are some, and the same as this where there are none.

    Args:
        heatmap: `(h, w)`.
        region: `(h, w)`, True on the object, at the network's size; see `dmbp_jax.data.read_segmentation`.
        ignored: `(h, w)`, True where nobody can say whether the object is there, such as the outlines that
            VOC leaves void. What lies there does not count at all; none unless given.

    Returns:
        The share; NaN for a region that is empty, a map without a positive value, or one that is not finite
        (where it counts).

    Raises:
        InputError: `region` or `ignored` of another shape than the heat map's.

    >>> left = jnp.asarray([[True, False, False]])
    >>> relevance_mass_accuracy(jnp.asarray([[3.0, 1.0, -5.0]]), left).item()
    0.75
    """
    values = as_map(heatmap)
    inside, counts = check_region(values, region, ignored)
    mass = jnp.where(counts, jnp.maximum(values, 0), 0)
    # Relative to the largest, no sum overflows.
    mass = mass / mass.max()
    return jnp.where(inside.any(), jnp.where(inside, mass, 0).sum() / mass.sum(), jnp.nan)
