"""Figures of one explanation, and of several side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.figure
import numpy as np

from dmbp_jax.plot._heatmap import (
    DEFAULT_STYLE,
    Heatmap,
    Photo,
    Style,
    blend,
    color_heatmap,
    from_minimum,
    smooth_heatmap,
    symmetric_limit,
)

# The figure of explanations, one row for each: photograph, map, its two parts, overlay.

PANEL = 2.6
"""Inches."""
LETTERS = 15
"""Of the caption, in an inch."""


class Row(NamedTuple):
    """What is drawn of one explanation."""

    photo: Photo | None
    """None: the overlay is left out as well."""
    heatmap: Heatmap
    parts: Mapping[str, Heatmap] = {}
    """By their titles."""
    title: str = ""
    subtitle: str = ""


def draw_explanation(
    photo: Photo | None,
    heatmap: Heatmap,
    parts: Mapping[str, Heatmap] | None = None,
    *,
    title: str = "",
    subtitle: str = "",
    style: Style = DEFAULT_STYLE,
) -> matplotlib.figure.Figure:
    """One row of panels: photograph, heat map, its `parts` by their titles, overlay.

    All maps share one symmetric blue-white-red scale, that of the heat map, clipped at a percentile, so that
    red and blue can be compared. A map without negative values is shown from its minimum.
    """
    return draw_explanations([Row(photo, heatmap, parts or {}, title, subtitle)], style=style)


def draw_explanations(rows: Sequence[Row], *, style: Style = DEFAULT_STYLE) -> matplotlib.figure.Figure:
    """Rows of `draw_explanation`, one below the other, each with a scale of its own."""
    widest = max(2, *(len(row.parts) + (1 if row.photo is None else 3) for row in rows))
    figure = matplotlib.figure.Figure(
        figsize=(PANEL * widest, 3.4 * len(rows)), dpi=150, layout="constrained"
    )
    if len(rows) == 1:
        _draw_row(figure, rows[0], style, width=PANEL * widest)
        return figure
    grid = figure.add_gridspec(len(rows), 1)
    for number, row in enumerate(rows):
        _draw_row(figure.add_subfigure(grid[number, 0]), row, style, width=PANEL * widest)
    return figure


def _draw_row(figure: matplotlib.figure.FigureBase, row: Row, style: Style, *, width: float) -> None:
    smoothed = smooth_heatmap(row.heatmap, style.smooth)
    heatmap = from_minimum(smoothed)
    limit = symmetric_limit(heatmap, style.percentile)

    def color(one: Heatmap) -> Photo:
        return color_heatmap(one, limit, cmap=style.cmap)

    panels = [] if row.photo is None else [("photograph", row.photo)]
    panels.append(("map", color(heatmap)))
    panels += [(name, color(smooth_heatmap(part, style.smooth))) for name, part in row.parts.items()]
    if row.photo is not None:
        panels.append(("overlay", blend(row.photo, heatmap, limit, cmap=style.cmap, alpha=style.alpha)))
    for axes, (name, picture) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("0.8")
    # matplotlib would read dollar signs in a file's name as a formula.
    figure.suptitle(row.title, fontsize=12, parse_math=False)
    scale = f"±{limit:.2g}" if heatmap is smoothed else f"{limit:.2g} above the map's minimum"
    caption = f"{row.subtitle} Colours saturate at {scale}. {style.caption()}".strip()
    lines = textwrap.fill(caption, int(width * LETTERS))
    figure.supxlabel(lines, fontsize=8.5, color="0.35")


# The figure of one photograph explained by several methods.

COLUMNS = 6


def draw_comparison(
    photo: Photo | None,
    heatmaps: Mapping[str, Heatmap],
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
    rows = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)
    figure = matplotlib.figure.Figure(
        figsize=(1.9 * columns, 2.15 * rows + 0.4), dpi=110, layout="constrained"
    )
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in grid:
        axes.axis("off")
    for axes, (name, picture) in zip(grid, panels, strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=8.5)
    # matplotlib would read dollar signs in a file's name as a formula.
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure
