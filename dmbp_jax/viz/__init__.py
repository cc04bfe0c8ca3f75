"""Figures."""

from dmbp_jax.viz.comparison import draw_comparison as draw_comparison
from dmbp_jax.viz.explanation import Row as Row
from dmbp_jax.viz.explanation import draw_explanation as draw_explanation
from dmbp_jax.viz.explanation import draw_explanations as draw_explanations
from dmbp_jax.viz.heatmap import blend as blend
from dmbp_jax.viz.heatmap import color_heatmap as color_heatmap
from dmbp_jax.viz.heatmap import symmetric_limit as symmetric_limit
from dmbp_jax.viz.style import Style as Style
from dmbp_jax.viz.style import smooth_heatmap as smooth_heatmap
from dmbp_jax.viz.thumbnail import thumbnail_map as thumbnail_map
from dmbp_jax.viz.thumbnail import thumbnail_photo as thumbnail_photo
