"""Any JAX network under a rule: traced, taken apart, and evaluated anew."""

from dmbp_jax._gated.network import Gated as Gated
from dmbp_jax._gated.network import GatedApply as GatedApply
from dmbp_jax._gated.network import gated as gated
from dmbp_jax._gated.network import layer_parameters as layer_parameters
