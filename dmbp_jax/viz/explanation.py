"""The figure of one explanation: photograph, map, its two parts, overlay."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np
from jaxtyping import Float, UInt8

from dmbp_jax.viz.heatmap import blend, color_heatmap, from_minimum, symmetric_limit


def draw_explanation(
    photo: UInt8[np.ndarray, "h w 3"],
    heatmap: Float[np.ndarray, "h w"],
    parts: Mapping[str, Float[np.ndarray, "h w"]] | None = None,
    *,
    title: str = "",
    subtitle: str = "",
) -> matplotlib.figure.Figure:
    """One row of panels: photograph, heat map, its `parts` by their titles, overlay.

    All maps share one symmetric blue-white-red scale, that of the heat map, clipped at a percentile, so that
    red and blue can be compared. A map without negative values is shown from its minimum.
    """
    given, heatmap = heatmap, from_minimum(heatmap)
    limit = symmetric_limit(heatmap)
    panels = [("photograph", photo), ("map", color_heatmap(heatmap, limit))]
    panels += [(name, color_heatmap(part, limit)) for name, part in (parts or {}).items()]
    panels.append(("overlay", blend(photo, heatmap, limit)))

    figure = matplotlib.figure.Figure(figsize=(2.6 * len(panels), 3.4), dpi=150, layout="constrained")
    for axes, (name, picture) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("0.8")
    # A file's name is no formula, whatever dollar signs it has.
    figure.suptitle(title, fontsize=12, parse_math=False)
    scale = f"±{limit:.2g}" if heatmap is given else f"{limit:.2g} above the map's minimum"
    figure.supxlabel(f"{subtitle} Colours saturate at {scale}.".strip(), fontsize=8.5, color="0.35")
    return figure
