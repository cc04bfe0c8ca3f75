"""Networks as pure functions `apply(params, images, *, rule=PLAIN) -> logits`, NHWC."""

from dmbp_jax.models.layers import LayerShape as LayerShape
from dmbp_jax.models.layers import nest as nest
from dmbp_jax.models.registry import ARCHITECTURES as ARCHITECTURES
from dmbp_jax.models.registry import Architecture as Architecture
from dmbp_jax.models.registry import get_architecture as get_architecture
from dmbp_jax.models.registry import init as init
from dmbp_jax.models.registry import init_layout as init_layout
