"""The methods that DMBP is compared with, one file each, with the signature of `dmbp_jax.typing.Method`."""

from dmbp_jax.attribution.fullgrad import FullGradients as FullGradients
from dmbp_jax.attribution.fullgrad import full_gradients as full_gradients
from dmbp_jax.attribution.meta_saliency import meta_saliency as meta_saliency
from dmbp_jax.attribution.norm_grad import virtual_identity as virtual_identity
