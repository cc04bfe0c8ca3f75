"""The figure of one photograph explained by several methods."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np
from jaxtyping import Float, UInt8

from dmbp_jax.viz.heatmap import color_heatmap, from_minimum

COLUMNS = 6


def draw_comparison(
    photo: UInt8[np.ndarray, "h w 3"] | None,
    heatmaps: Mapping[str, Float[np.ndarray, "h w"]],
    *,
    title: str = "",
) -> matplotlib.figure.Figure:
    """A grid of panels: the photograph if given, then each heat map under its name, such as its method's.

    Every map is blue, white and red on a symmetric scale of its own, clipped at a percentile, since methods
    differ in unit. A map without negative values is shown from its minimum.
    """
    panels = [] if photo is None else [("photograph", photo)]
    for name, heatmap in heatmaps.items():
        panels.append((name.replace("_", " "), color_heatmap(from_minimum(heatmap))))
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = matplotlib.figure.Figure(
        figsize=(1.9 * columns, 2.15 * rows + 0.4), dpi=110, layout="constrained"
    )
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in grid:
        axes.axis("off")
    for axes, (name, picture) in zip(grid, panels, strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=8.5)
    # A file's name is no formula, whatever dollar signs it has.
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure
