"""Gradient-based methods against Captum and PAIR's `saliency`, live, on seeded weights in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmbp_jax
from dmbp_jax import models
from dmbp_jax._methods import METHODS
from dmbp_jax.attribution import layer_activation, layer_gradient_x_activation, noise_tunnel

pytestmark = pytest.mark.parity

CLASSES = 12
TARGET = 5
SIZE = (67, 71)
LAST_RELU = {"alexnet": "features.11", "squeezenet1_1": "classifier.2"}


@pytest.fixture(scope="module", params=LAST_RELU)
def network(request, tmp_path_factory):
    import torch
    import torchvision
    from references.torch_dmbp import prepare

    torch.manual_seed(0)
    model = torchvision.models.get_model(request.param, weights=None, num_classes=CLASSES)
    # torchvision starts SqueezeNet with biases of zero, which would leave FullGrad little to show.
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            tensor.data.normal_(0, 0.2)
    folder = tmp_path_factory.mktemp(request.param)
    torch.save(model.state_dict(), folder / "checkpoint.pth")
    models.port_checkpoint(folder / "checkpoint.pth", request.param, folder / "ported.safetensors")
    return prepare(model), dmbp_jax.load_model(request.param, folder / "ported.safetensors")


IMAGE = np.random.default_rng(0).normal(size=(*SIZE, 3))


def to_torch(image):
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None])).double()


def from_torch(tensor):
    return tensor.detach().numpy()[0].transpose(1, 2, 0)


def ours(model, method, **options):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), model.params)
        a = dmbp_jax.explain(model.apply, params, jnp.asarray(IMAGE)[None], [TARGET], method, **options)
        return np.asarray(a.values[0])


def close(actual, expected, rtol=1e-6):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(
    ("method", "captum_name", "call"),
    [
        ("gradient", "Saliency", {"abs": False}),
        ("gradient_x_input", "InputXGradient", {}),
        ("guided_backprop", "GuidedBackprop", {}),
        ("deconvnet", "Deconvolution", {}),
        ("integrated_gradients", "IntegratedGradients", {"n_steps": 50}),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
def test_captum_gives_the_same(network, method, captum_name, call):
    import captum.attr

    reference, model = network
    expected = getattr(captum.attr, captum_name)(reference).attribute(
        to_torch(IMAGE).requires_grad_(True), target=TARGET, **call
    )
    close(ours(model, method), from_torch(expected))


def test_captum_gives_the_same_grad_cam(network):
    import captum.attr

    reference, model = network
    site = LAST_RELU[model.spec.architecture]
    layer = dict(reference.named_modules())[site]
    cam = captum.attr.LayerGradCam(reference, layer).attribute(
        to_torch(IMAGE).requires_grad_(True), target=TARGET, relu_attributions=True
    )
    expected = captum.attr.LayerAttribution.interpolate(cam, SIZE, interpolate_mode="bilinear")
    close(ours(model, "grad_cam"), from_torch(expected))
    close(ours(model, "grad_cam", site=site), from_torch(expected))


def gradients_for_pair(reference):
    """PAIR's `call_model_function`: gradients of a batch of NHWC images."""
    import torch
    from saliency.core import INPUT_OUTPUT_GRADIENTS

    def call(images, call_model_args=None, expected_keys=None):
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).double()
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(reference(x)[:, TARGET].sum(), x)
        return {INPUT_OUTPUT_GRADIENTS: gradient.numpy().transpose(0, 2, 3, 1)}

    return call


def test_pair_gives_the_same_blur_integrated_gradients(network):
    import saliency.core

    reference, model = network
    expected = saliency.core.BlurIG().GetMask(
        IMAGE, gradients_for_pair(reference), max_sigma=10, steps=12, grad_step=0.01
    )
    actual = ours(
        model,
        "blur_integrated_gradients",
        max_sigma=10.0,
        n_steps=12,
        power=1.0,
        grad_step=0.01,
        padding="zero",
    )
    close(actual, expected)


def test_pair_gives_the_same_smoothgrad_for_the_same_noise(network, monkeypatch):
    import saliency.core

    reference, model = network
    key = jax.random.key(3)
    with jax.enable_x64(True):
        # The key of the first image, and of each of its samples.
        (own,) = jax.random.split(key, 1)
        keys = [jax.random.fold_in(own, i) for i in range(6)]
        noise = iter([np.asarray(jax.random.normal(k, IMAGE.shape, jnp.float32), np.float64) for k in keys])
    monkeypatch.setattr(np.random, "normal", lambda mean, deviation, shape: deviation * next(noise))
    expected = saliency.core.GradientSaliency().GetSmoothedMask(
        IMAGE, gradients_for_pair(reference), stdev_spread=0.15, nsamples=6, magnitude=False
    )
    close(ours(model, "smoothgrad", key=key, n_samples=6), expected)


@pytest.mark.parametrize("statistic", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize(
    ("method", "captum_name"), [("gradient_x_input", "InputXGradient"), ("guided_backprop", "GuidedBackprop")]
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
def test_captum_gives_the_same_noise_tunnel_for_the_same_noise(
    network, monkeypatch, method, captum_name, statistic
):
    import captum.attr
    import torch

    reference, model = network
    key, samples, level = jax.random.key(3), 4, 0.1
    with jax.enable_x64(True):
        (own,) = jax.random.split(key, 1)
        keys = [jax.random.fold_in(own, i) for i in range(samples)]
        noise = torch.cat(
            [to_torch(np.asarray(jax.random.normal(k, IMAGE.shape, jnp.float32), np.float64)) for k in keys]
        )
    drawn = []
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: drawn.append(1) or deviation * noise)
    expected = captum.attr.NoiseTunnel(getattr(captum.attr, captum_name)(reference)).attribute(
        to_torch(IMAGE).requires_grad_(True),
        nt_type=statistic,
        nt_samples=samples,
        stdevs=level * float(IMAGE.max() - IMAGE.min()),
        target=TARGET,
    )
    assert drawn == [1]
    noisy = noise_tunnel(METHODS[method], n_samples=samples, noise_level=level, statistic=statistic)
    close(ours(model, noisy, key=key), from_torch(expected))


def test_captum_gives_the_same_activation_and_gradient_of_a_layer(network):
    import captum.attr

    reference, model = network
    site = LAST_RELU[model.spec.architecture]
    layer = dict(reference.named_modules())[site]
    expected = captum.attr.LayerActivation(reference, layer).attribute(to_torch(IMAGE))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), model.params)
        actual = layer_activation(model.apply, params, jnp.asarray(IMAGE)[None], site)
    close(np.asarray(actual[0]), from_torch(expected))
    product = captum.attr.LayerGradientXActivation(reference, layer).attribute(to_torch(IMAGE), target=TARGET)
    close(ours(model, layer_gradient_x_activation, site=site), from_torch(product))


def test_fullgrad_equals_the_definition_in_pytorch(network):
    """Gradients at the output of every convolution, times its bias; the authors' scaling."""
    import torch

    reference, model = network
    seen = []

    def keep(module, inputs, output):
        output.retain_grad()
        seen.append((module, output))

    convolutions = [m for m in reference.modules() if isinstance(m, torch.nn.Conv2d)]
    handles = [m.register_forward_hook(keep) for m in convolutions]
    x = to_torch(IMAGE).requires_grad_(True)
    reference(x)[0, TARGET].backward()
    for handle in handles:
        handle.remove()

    def scaled(tensor):
        magnitude = tensor.detach().abs()
        return (magnitude - magnitude.min()) / (magnitude.max() - magnitude.min())

    total = scaled(x.grad * x).sum(dim=1, keepdim=True)
    for module, output in seen:
        maps = scaled(output.grad * module.bias.detach()[None, :, None, None])
        maps = torch.nn.functional.interpolate(maps, size=SIZE, mode="bilinear", align_corners=False)
        total = total + maps.sum(dim=1, keepdim=True)
    close(ours(model, "fullgrad"), from_torch(total))
