"""The methods that DMBP is compared with, one file each, with the signature of `dmbp_jax.result.Method`."""

from dmbp_jax.attribution._fullgrad import FullGradients as FullGradients
from dmbp_jax.attribution._fullgrad import full_gradients as full_gradients
from dmbp_jax.attribution._fullgrad import fullgrad as fullgrad
from dmbp_jax.attribution._grad_cam import grad_cam as grad_cam
from dmbp_jax.attribution._grad_cam import guided_grad_cam as guided_grad_cam
from dmbp_jax.attribution._gradients import deconvnet as deconvnet
from dmbp_jax.attribution._gradients import deeplift as deeplift
from dmbp_jax.attribution._gradients import gradient as gradient
from dmbp_jax.attribution._gradients import gradient_x_input as gradient_x_input
from dmbp_jax.attribution._gradients import guided_backprop as guided_backprop
from dmbp_jax.attribution._layer import layer_activation as layer_activation
from dmbp_jax.attribution._layer import layer_gradient as layer_gradient
from dmbp_jax.attribution._layer import layer_gradient_x_activation as layer_gradient_x_activation
from dmbp_jax.attribution._lpr import lpr as lpr
from dmbp_jax.attribution._norm_grad import norm_grad as norm_grad
from dmbp_jax.attribution._norm_grad import selective_norm_grad as selective_norm_grad
from dmbp_jax.attribution._norm_grad import virtual_identity as virtual_identity
from dmbp_jax.attribution._paths import blur_integrated_gradients as blur_integrated_gradients
from dmbp_jax.attribution._paths import integrated_gradients as integrated_gradients
from dmbp_jax.attribution._rise import random_map as random_map
from dmbp_jax.attribution._rise import rise as rise
from dmbp_jax.attribution._wrappers import meta_saliency as meta_saliency
from dmbp_jax.attribution._wrappers import noise_tunnel as noise_tunnel
from dmbp_jax.attribution._wrappers import smoothgrad as smoothgrad
