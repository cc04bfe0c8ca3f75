"""The figure of one explanation: photograph, map, its two parts, overlay."""

import matplotlib.figure
import matplotlib.ticker
import numpy as np
from jaxtyping import Float, UInt8

from dmbp_jax.viz.heatmap import blend, color_heatmap, symmetric_limit


def draw_explanation(
    photo: UInt8[np.ndarray, "h w 3"],
    heatmap: Float[np.ndarray, "h w"],
    positive: Float[np.ndarray, "h w"] | None = None,
    negative: Float[np.ndarray, "h w"] | None = None,
    *,
    title: str = "",
    subtitle: str = "",
) -> matplotlib.figure.Figure:
    """One row of panels: photograph, heat map, positive and negative part where given, overlay.

    Every map is blue, white and red on its own symmetric scale, clipped at a percentile that its
    title gives in units of the logit.
    """
    maps = [
        (name, heat)
        for name, heat in (("map", heatmap), ("positive part", positive), ("negative part", negative))
        if heat is not None
    ]
    panels = [("photograph", photo)]
    panels += [
        (f"{name}  (±{symmetric_limit(heat):.2g})", color_heatmap(heat)) for name, heat in maps
    ]
    panels.append(("overlay", blend(photo, heatmap)))

    figure = matplotlib.figure.Figure(figsize=(2.6 * len(panels), 3.4), dpi=150, layout="constrained")
    for axes, (name, picture) in zip(
        np.ravel(figure.subplots(1, len(panels))), panels, strict=True
    ):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("0.8")
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(subtitle, fontsize=8.5, color="0.35")
    return figure
