"""Live parity with torchvision on seeded random weights, ported by the command's own function."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmbp_jax
from dmbp_jax import models
from dmbp_jax.models import get_architecture
from dmbp_jax.models._checkpoints import check_state_dict, to_params
from dmbp_jax.models._port import read_safetensors

pytestmark = pytest.mark.parity

NETWORKS = ("resnet18", "resnet50", "vgg16", "vgg16_bn", "squeezenet1_0", "squeezenet1_1", "alexnet")
SIZES = ((224, 224), (123, 149))
CLASSES = 12
TARGET = 5


@pytest.fixture(autouse=True)
def forget_each_compilation():
    """Nothing is shared between these tests, and deep networks fill a process fast."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tmp_path_factory):
    """A torchvision network, and the package's own loaded from its ported checkpoint."""
    import torch
    import torchvision
    from references.torch_dmbp import prepare

    torch.manual_seed(0)
    model = torchvision.models.get_model(request.param, weights=None, num_classes=CLASSES)
    for module in model.modules():
        # Fresh batch-norms are the identity, and hide a wrong folding.
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    folder = tmp_path_factory.mktemp(request.param)
    torch.save(model.state_dict(), folder / "checkpoint.pth")
    models.port_checkpoint(folder / "checkpoint.pth", request.param, folder / "ported.safetensors")
    return prepare(model), dmbp_jax.load_model(request.param, folder / "ported.safetensors")


def unrounded(model):
    """The parameters of a ported file with batch-norm folded in float64.

    Rounding the folded kernels to float32 turns a gate here and there, where a pre-activation is almost zero
    (on VGG-16-bn at 224 pixels, the gradient then differs by 0.003 of its norm).
    """
    architecture = get_architecture(model.spec.architecture)
    state = read_safetensors(Path(model.spec.source)).state
    state = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    return to_params(state, check_state_dict(state, architecture, "ported"), "ported")


@pytest.mark.parametrize("size", SIZES, ids=["224", "odd"])
def test_logits_and_input_gradients(network, size):
    import torch

    reference, model = network
    image = random_image(size)
    x = torch.from_numpy(image.transpose(2, 0, 1)[None]).double().requires_grad_(True)
    logits = reference(x)
    (expected,) = torch.autograd.grad(logits[0, TARGET], x)

    @jax.jit
    def logits_and_gradient(params, image):
        def score(image):
            logits = model.apply(params, image[None])[0]
            return logits[TARGET], logits

        gradient, logits = jax.grad(score, has_aux=True)(image)
        return logits, gradient

    with jax.enable_x64(True):
        params, image = double((model.params, image))
        actual, _ = logits_and_gradient(params, image)
        _, gradient = logits_and_gradient(double(unrounded(model)), image)
    assert off(actual, logits.detach().numpy()[0]) < 1e-4
    assert off(gradient, expected[0].numpy().transpose(1, 2, 0)) < 1e-4


@pytest.mark.parametrize("mask_sites", ["filter", "relu", "filter_and_shortcut"])
def test_scores_over_ten_steps(network, mask_sites):
    import torch
    from references import torch_dmbp

    reference, model = network
    image = random_image((67, 71))
    x = torch.from_numpy(image.transpose(2, 0, 1)[None]).double()
    options = {"steps": 10, "mask_sites": mask_sites}
    history, map_pos, map_neg = torch_dmbp.dmbp(reference, x, TARGET, lr=0.1, **options)

    with jax.enable_x64(True):
        params, images = double((model.params, image[None]))
        a = dmbp_jax.explain(
            model.apply, params, images, [TARGET], learning_rate=0.1, return_history=True, **options
        )
    assert off(a.history.positive[0], history[:, 0].numpy()) < 1e-4
    assert off(a.history.negative[0], history[:, 1].numpy()) < 1e-4
    for values, expected in ((a.positive, map_pos), (a.negative, map_neg)):
        assert off(values[0], expected[0].numpy().transpose(1, 2, 0)) < 1e-4


def random_image(size):
    return np.random.default_rng(0).normal(size=(*size, 3)).astype(np.float32)


def double(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)


def off(actual, expected):
    """The relative error in the Euclidean norm."""
    return np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected)
