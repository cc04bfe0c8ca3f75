"""The names that timm and TorchRay give to tensors, mapped to torchvision's."""

import numpy as np
import pytest
import safetensors.numpy
from state_dicts import NORM, random_state, refuse, same

from dmbp_jax import models
from dmbp_jax.models import get_architecture
from dmbp_jax.models._checkpoints import check_state_dict, to_params
from dmbp_jax.models._layers import LayerShape
from dmbp_jax.models._manifest import from_timm, from_torchray


def numbered(*names: str, shape: tuple[int, ...] = (2,)) -> dict[str, np.ndarray]:
    """Tensors that are told apart by their values."""
    return {name: np.full(shape, number, np.float32) for number, name in enumerate(names)}


# timm.


def test_timms_classifier_becomes_torchvisions():
    random = np.random.default_rng(0)
    first = random.standard_normal((5, 2, 7, 7), np.float32)
    second = random.standard_normal((5, 5, 1, 1), np.float32)
    state = numbered("features.0.weight", "pre_logits.fc1.bias", "pre_logits.fc2.bias", "head.fc.bias")
    state |= {
        "pre_logits.fc1.weight": first,
        "pre_logits.fc2.weight": second,
        "head.fc.weight": second[:3, :, 0, 0],
    }
    renamed = {
        "features.0.weight": state["features.0.weight"],
        "classifier.0.weight": first.reshape(5, 98),
        "classifier.0.bias": state["pre_logits.fc1.bias"],
        "classifier.3.weight": second[:, :, 0, 0],
        "classifier.3.bias": state["pre_logits.fc2.bias"],
        "classifier.6.weight": second[:3, :, 0, 0],
        "classifier.6.bias": state["head.fc.bias"],
    }
    assert same(from_timm(state), renamed)


@pytest.mark.parametrize("architecture", ["squeezenet1_1", "resnet18"])
def test_torchvisions_names_stay(architecture):
    state = random_state(architecture)
    assert same(from_timm(state), state)


def no_memory(state) -> dict[str, np.ndarray]:
    """Zeros in the shapes of a state dict on PyTorch's meta device."""
    return {name: np.broadcast_to(np.float32(0), tuple(tensor.shape)) for name, tensor in state.items()}


@pytest.mark.parity
@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19"])
def test_timms_vggs_have_torchvisions_tensors(name):
    import timm
    import torch
    import torchvision

    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False, num_classes=5).state_dict()
        torchvisions = getattr(torchvision.models, name)(num_classes=5).state_dict()
    renamed = from_timm(no_memory(theirs))
    shapes = {key: tuple(tensor.shape) for key, tensor in torchvisions.items()}
    assert {key: tensor.shape for key, tensor in renamed.items()} == shapes
    check_state_dict(renamed, get_architecture(name), "timm")


@pytest.mark.parity
def test_timms_vgg_gives_the_parameters_of_torchvisions_names():
    import timm.models.vgg
    import torch
    import torchvision

    theirs = timm.models.vgg.VGG(cfg=[2, "M", 3, "M"], num_classes=5).state_dict()
    theirs = {name: tensor.numpy() for name, tensor in theirs.items()}
    # torchvision's module for the same layers, with its own names and a flat classifier.
    features = torchvision.models.vgg.make_layers([2, "M", 3, "M"])
    with torch.device("meta"):
        names = torchvision.models.vgg.VGG(features).state_dict()
    values = [tensor.reshape(tensor.shape[0], -1) if i > 3 and tensor.ndim == 4 else tensor
              for i, tensor in enumerate(theirs.values())]  # fmt: skip
    expected = dict(zip(names, values, strict=True))
    layers = (
        LayerShape("features.0", (2, 3, 3, 3)),
        LayerShape("features.3", (3, 2, 3, 3)),
        LayerShape("classifier.0", (4096, 3 * 7**2), grid=7),
        LayerShape("classifier.3", (4096, 4096)),
        LayerShape("classifier.6", (5, 4096)),
    )
    actual = to_params(from_timm(theirs), layers, "timm")
    for layer in layers:
        for kind in ("kernel", "bias"):
            room, number = layer.name.split(".")
            wanted = to_params(expected, layers, "torchvision")[room][number][kind]
            np.testing.assert_array_equal(actual[room][number][kind], wanted)


@pytest.mark.parity
def test_timms_resnet_loads_from_its_file(tmp_path):
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False, num_classes=5)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    safetensors.numpy.save_file(state, tmp_path / "resnet18.safetensors")
    params = models.load_model("resnet18", tmp_path / "resnet18.safetensors").params
    np.testing.assert_array_equal(params["fc"]["kernel"], state["fc.weight"].T)
    scale, offset, mean, variance = (state[f"layer2.0.downsample.1.{name}"] for name in NORM)
    factor = scale / np.sqrt(variance + 1e-5)
    kernel = state["layer2.0.downsample.0.weight"][:, :, 0, 0].T * factor
    shortcut = params["layer2"]["0"]["downsample"]["0"]
    np.testing.assert_allclose(shortcut["kernel"][0, 0], kernel, rtol=1e-5)
    np.testing.assert_allclose(shortcut["bias"], offset - mean * factor, rtol=1e-5, atol=1e-7)


# TorchRay.


def as_torchray(name: str, architecture: str) -> str:
    """TorchRay's name of a tensor that torchvision calls `name`."""
    module, _, tensor = name.rpartition(".")
    if architecture == "vgg16_caffe":
        return {"classifier.3": "classifier.2", "classifier.6": "classifier.4"}.get(
            module, module
        ) + f".{tensor}"
    if "bn" in module or module.endswith("downsample.1"):
        return f"{module}.{0 if tensor.startswith('running_') else 1}.{tensor}"
    return name


@pytest.mark.parametrize("count", [False, True])
def test_torchrays_resnet_becomes_torchvisions(count):
    state = random_state("resnet50_caffe", classes=20)
    theirs = {as_torchray(name, "resnet50_caffe"): tensor for name, tensor in state.items()}
    theirs["conv1.weight"] = np.stack([state["conv1.weight"][:, channel] for channel in (2, 1, 0)], axis=1)
    if count:
        theirs["bn1.0.num_batches_tracked"] = np.array(0)
    assert {
        "bn1.0.running_mean",
        "bn1.1.weight",
        "layer1.0.downsample.1.1.bias",
        "conv1.bias",
    } <= theirs.keys()
    assert "layer4.2.bn3.0.running_var" in theirs
    renamed = from_torchray(theirs, "resnet50_caffe")
    check_state_dict(renamed, get_architecture("resnet50_caffe"), "torchray")
    assert same({name: renamed[name] for name in renamed if not name.endswith("tracked")}, state)


def test_torchrays_vgg_becomes_torchvisions():
    random = np.random.default_rng(0)
    bgr = random.standard_normal((2, 3, 3, 3), np.float32)
    first = random.standard_normal((5, 2, 7, 7), np.float32)
    second = random.standard_normal((5, 5, 1, 1), np.float32)
    same_everywhere = numbered("features.0.bias", "features.28.bias", "classifier.0.bias")
    theirs = same_everywhere | {
        "features.0.weight": bgr,
        "classifier.0.weight": first,
        "classifier.2.weight": second,
        "classifier.2.bias": np.float32([7.0]),
        "classifier.4.weight": second[:3, :, 0, 0],
        "classifier.4.bias": np.float32([8.0]),
    }
    renamed = same_everywhere | {
        "features.0.weight": np.stack([bgr[:, channel] for channel in (2, 1, 0)], axis=1),
        "classifier.0.weight": first.reshape(5, 98),
        "classifier.3.weight": second[:, :, 0, 0],
        "classifier.3.bias": np.float32([7.0]),
        "classifier.6.weight": second[:3, :, 0, 0],
        "classifier.6.bias": np.float32([8.0]),
    }
    assert same(from_torchray(theirs, "vgg16_caffe"), renamed)


def test_torchrays_vgg_has_every_tensor_of_the_architecture():
    expected = {
        name: np.broadcast_to(np.float32(0), shape)
        for layer in get_architecture("vgg16_caffe").layout(20)
        for name, shape in ((f"{layer.name}.weight", layer.weight), (f"{layer.name}.bias", layer.weight[:1]))
    }
    theirs = {as_torchray(name, "vgg16_caffe"): tensor for name, tensor in expected.items()}
    assert "classifier.6.weight" not in theirs
    check_state_dict(from_torchray(theirs, "vgg16_caffe"), get_architecture("vgg16_caffe"), "torchray")


@pytest.mark.parametrize("architecture", ["resnet50_caffe", "vgg16_caffe"])
def test_a_first_convolution_that_is_none_is_left_for_the_check(architecture):
    first = "features.0.weight" if architecture == "vgg16_caffe" else "conv1.weight"
    state = {first: np.zeros(3, np.float32)}
    assert same(from_torchray(state, architecture), state)
    assert from_torchray({}, architecture) == {}


@pytest.mark.parity
def test_a_torchray_checkpoint_is_ported_by_its_conventions(tmp_path):
    import torch

    state = random_state("resnet50_caffe", classes=20)
    theirs = {as_torchray(name, "resnet50_caffe"): torch.from_numpy(tensor) for name, tensor in state.items()}
    theirs["conv1.weight"] = theirs["conv1.weight"].flip(1)
    torch.save(theirs, tmp_path / "resnet50_voc.pth.tar")
    models.port_checkpoint(tmp_path / "resnet50_voc.pth.tar", "resnet50_caffe", tmp_path / "voc.safetensors")
    model = models.load_model("resnet50_caffe", tmp_path / "voc.safetensors")
    assert model.spec.classes == models.read_manifest().classes["voc"]
    assert model.spec.output == "sigmoid"
    np.testing.assert_array_equal(model.params["fc"]["kernel"], state["fc.weight"].T)
    scale, offset, mean, variance = (state[f"bn1.{name}"] for name in NORM)
    factor = scale / np.sqrt(variance + 1e-5)
    kernel = state["conv1.weight"].transpose(2, 3, 1, 0) * factor
    np.testing.assert_allclose(model.params["conv1"]["kernel"], kernel, rtol=1e-5)
    bias = (state["conv1.bias"] - mean) * factor + offset
    np.testing.assert_allclose(model.params["conv1"]["bias"], bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
def test_a_torchvision_checkpoint_is_no_torchray_checkpoint(tmp_path):
    import torch

    state = {name: torch.from_numpy(tensor) for name, tensor in random_state("resnet18").items()}
    torch.save(state, tmp_path / "w.pth")
    arguments = (tmp_path / "w.pth", "resnet50_caffe", tmp_path / "w.safetensors")
    assert "conv1.bias is missing" in refuse(models.port_checkpoint, *arguments)
