"""Figures."""

from dmbp_jax.plot._figures import Row, draw_comparison, draw_explanation, draw_explanations
from dmbp_jax.plot._heatmap import Style, blend, color_heatmap, smooth_heatmap, symmetric_limit

__all__ = [
    "Row",
    "Style",
    "blend",
    "color_heatmap",
    "draw_comparison",
    "draw_explanation",
    "draw_explanations",
    "smooth_heatmap",
    "symmetric_limit",
]
