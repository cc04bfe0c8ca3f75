"""The methods that DMBP is compared with, a file for each family, with the signature
`dmbp_jax.result.Method`."""

from dmbp_jax.attribution._fullgrad import FullGradients, full_gradients, fullgrad
from dmbp_jax.attribution._grad_cam import grad_cam, guided_grad_cam
from dmbp_jax.attribution._gradients import deconvnet, deeplift, gradient, gradient_x_input, guided_backprop
from dmbp_jax.attribution._layer import layer_activation, layer_gradient, layer_gradient_x_activation
from dmbp_jax.attribution._lpr import lpr
from dmbp_jax.attribution._norm_grad import norm_grad, selective_norm_grad, virtual_identity
from dmbp_jax.attribution._paths import blur_integrated_gradients, integrated_gradients
from dmbp_jax.attribution._rise import random_map, rise
from dmbp_jax.attribution._wrappers import meta_saliency, noise_tunnel, smoothgrad

__all__ = [
    "FullGradients",
    "blur_integrated_gradients",
    "deconvnet",
    "deeplift",
    "full_gradients",
    "fullgrad",
    "grad_cam",
    "gradient",
    "gradient_x_input",
    "guided_backprop",
    "guided_grad_cam",
    "integrated_gradients",
    "layer_activation",
    "layer_gradient",
    "layer_gradient_x_activation",
    "lpr",
    "meta_saliency",
    "noise_tunnel",
    "norm_grad",
    "random_map",
    "rise",
    "selective_norm_grad",
    "smoothgrad",
    "virtual_identity",
]
