"""The methods that DMBP is compared with, one file each, with the signature of `dmbp_jax.result.Method`."""

from dmbp_jax.attribution.blur_integrated_gradients import (
    blur_integrated_gradients as blur_integrated_gradients,
)
from dmbp_jax.attribution.deconvnet import deconvnet as deconvnet
from dmbp_jax.attribution.deeplift import deeplift as deeplift
from dmbp_jax.attribution.fullgrad import FullGradients as FullGradients
from dmbp_jax.attribution.fullgrad import full_gradients as full_gradients
from dmbp_jax.attribution.fullgrad import fullgrad as fullgrad
from dmbp_jax.attribution.grad_cam import grad_cam as grad_cam
from dmbp_jax.attribution.grad_cam import guided_grad_cam as guided_grad_cam
from dmbp_jax.attribution.gradient import gradient as gradient
from dmbp_jax.attribution.gradient import gradient_x_input as gradient_x_input
from dmbp_jax.attribution.guided_backprop import guided_backprop as guided_backprop
from dmbp_jax.attribution.integrated_gradients import integrated_gradients as integrated_gradients
from dmbp_jax.attribution.layer import layer_activation as layer_activation
from dmbp_jax.attribution.layer import layer_gradient as layer_gradient
from dmbp_jax.attribution.layer import layer_gradient_x_activation as layer_gradient_x_activation
from dmbp_jax.attribution.lpr import lpr as lpr
from dmbp_jax.attribution.meta_saliency import meta_saliency as meta_saliency
from dmbp_jax.attribution.noise_tunnel import noise_tunnel as noise_tunnel
from dmbp_jax.attribution.norm_grad import norm_grad as norm_grad
from dmbp_jax.attribution.norm_grad import selective_norm_grad as selective_norm_grad
from dmbp_jax.attribution.norm_grad import virtual_identity as virtual_identity
from dmbp_jax.attribution.random_map import random_map as random_map
from dmbp_jax.attribution.rise import rise as rise
from dmbp_jax.attribution.smoothgrad import smoothgrad as smoothgrad
