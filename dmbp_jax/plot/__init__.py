"""Figures."""

from dmbp_jax.plot._figures import Row as Row
from dmbp_jax.plot._figures import draw_comparison as draw_comparison
from dmbp_jax.plot._figures import draw_explanation as draw_explanation
from dmbp_jax.plot._figures import draw_explanations as draw_explanations
from dmbp_jax.plot._heatmap import Style as Style
from dmbp_jax.plot._heatmap import blend as blend
from dmbp_jax.plot._heatmap import color_heatmap as color_heatmap
from dmbp_jax.plot._heatmap import smooth_heatmap as smooth_heatmap
from dmbp_jax.plot._heatmap import symmetric_limit as symmetric_limit
from dmbp_jax.plot._heatmap import thumbnail_map as thumbnail_map
from dmbp_jax.plot._heatmap import thumbnail_photo as thumbnail_photo
