"""Relevance rank accuracy: Arras, Osman, Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth
Evaluation of Neural Network Explanations", Information Fusion 81, 2022.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmbp_jax.metrics.curve import pixel_order
from dmbp_jax.metrics.region import check_region
from dmbp_jax.metrics.variants import as_order
from dmbp_jax.typing import Numbers


def relevance_rank_accuracy(
    heatmap: Float[Array | np.ndarray, "h w"] | Numbers,
    region: Bool[Array | np.ndarray, "rows columns"],
    *,
    ignored: Bool[Array | np.ndarray, "rows2 columns2"] | None = None,
) -> Float[Array, ""]:
    """The share of the warmest pixels that lies on the object, of as many as the object has.

    `|top-K and region| / K` with `K` the region's number of pixels (Section 3.3). In [0, 1]; higher is
    better, and a map that knows nothing gets the region's share of the area. Only the order of the values
    matters, equal values having one fixed random order (`dmbp_jax.metrics.insertion`). Of a map with fewer
    values above zero than the object has pixels, zeros so count as random pixels.

    Quantus' `RelevanceRankAccuracy` is the same, but that it orders equal values in no stated way.

    Args:
        heatmap: `(h, w)`.
        region: `(h, w)`, True on the object, at the network's size; see `dmbp_jax.data.read_segmentation`.
        ignored: `(h, w)`, True where nobody can say whether the object is there, such as the outlines that
            VOC leaves void. These pixels are neither ranked nor counted; none unless given.

    Returns:
        The share; NaN for a region that is empty, or a map that holds a NaN (where it counts).

    Raises:
        InputError: `region` or `ignored` of another shape than the heat map's.

    >>> left = jnp.asarray([[True, True, False]])
    >>> relevance_rank_accuracy(jnp.asarray([[3.0, -5.0, 1.0]]), left).item()
    0.5
    """
    values = as_order(heatmap)
    inside, counts = check_region(values, region, ignored)
    size = inside.sum()
    order = pixel_order(values, decreasing=True)
    counted = counts.ravel()[order]
    warmest = counted & (counted.cumsum() <= size)
    hits = (inside.ravel()[order] & warmest).sum()
    defined = (size > 0) & ~(jnp.isnan(values) & counts).any()
    return jnp.where(defined, hits.astype(values.dtype) / size.astype(values.dtype), jnp.nan)
