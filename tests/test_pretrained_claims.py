"""Networks with the same tensors are told apart by what their files say beside them."""

import dataclasses
import json
import subprocess
import sys

import local_hub
import numpy as np
import pytest
import safetensors.numpy
from state_dicts import random_state, refuse
from test_pretrained_fetch import environment  # noqa: F401

from dmbp_jax import models
from dmbp_jax.images import Preprocess
from dmbp_jax.models._checkpoints import StandIn
from dmbp_jax.models._claims import check_claims, check_photographs, read_config

TORCHVISION = models.read_manifest().preprocess["torchvision"]


def namespace(**fields) -> StandIn:
    made = StandIn()
    made.__setstate__(fields)
    return made


@pytest.mark.parametrize(
    ("says", "name"),
    [
        ({"arch": "resnetblur50"}, "resnetblur50"),
        ({"architecture": "resnetaa50.a1h_in1k"}, "resnetaa50.a1h_in1k"),
        ({"args": namespace(model="resnetaa50")}, "resnetaa50"),
        ({"args": {"arch": "resnet101"}}, "resnet101"),
        ({"hyper_parameters": {"backbone": "seresnet50"}}, "seresnet50"),
        ({"hyper_parameters": {"config": {"model": {"name": "resnet50d"}}}}, "resnet50d"),
        ({"config": {"model": {"_target_": "torchvision.models.wide_resnet50_2"}}}, "wide_resnet50_2"),
        (
            {"cfg": namespace(_content={"model_name": namespace(_val="timm/resnetblur50")})},
            "timm/resnetblur50",
        ),
        ({"arch": "resnet50_caffe"}, "resnet50_caffe"),
        ({"model_name": "resnet50_v1"}, "resnet50_v1"),
    ],
)
def test_a_file_that_names_another_network_is_refused(says, name):
    message = refuse(check_claims, says, "resnet50", "w.pth")
    assert message.startswith(f"w.pth says that it holds {name!r}, not resnet50: ")
    assert "save the tensors alone" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("says", "architecture"),
    [
        ({}, "resnet50"),
        ({"arch": "resnet50"}, "resnet50"),
        ({"arch": "ResNet-50"}, "resnet50"),
        ({"args": namespace(model="timm/resnet50.tv_in1k", aa_layer=None, output_stride=32)}, "resnet50"),
        ({"architecture": "tv_resnet50"}, "resnet50"),
        ({"architecture": "gluon_resnet50_v1b"}, "resnet50"),
        ({"arch": "vgg16-bn"}, "vgg16_bn"),
        ({"arch": "squeezenet1.1"}, "squeezenet1_1"),
        ({"config": {"model": {"_target_": "torchvision.models.resnet50"}}}, "resnet50"),
        # Names of runs and of families, and other parts of a program, say nothing of the network.
        ({"model": "baseline", "arch": "resnet", "teacher": "resnet101", "name": "resnet18"}, "resnet50"),
        ({"model": {"layer1.0.weight": np.ones(1)}, "epoch": 3, 7: "x", "arch": None}, "resnet50"),
        ({"backbone": "resnet18", "arch": "resnet50"}, "resnet50"),
    ],
)
def test_a_file_that_names_this_network_or_none_is_taken(says, architecture):
    check_claims(says, architecture, "w.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output_stride", 8),
        ("replace_stride_with_dilation", [False, True, True]),
        ("aa_layer", "blur"),
        ("act_layer", "silu"),
        ("global_pool", "max"),
        ("avg_down", True),
        ("stem_type", "deep"),
        ("style", "caffe"),
        ("stride_in_1x1", True),
    ],
)
def test_arguments_that_make_another_network_of_the_same_tensors_are_refused(key, value):
    for says in (
        {"architecture": "resnet50", "model_args": {key: value}},
        {"args": namespace(model="resnet50", model_kwargs={key: value})},
        {"hyper_parameters": {"model": {"name": "resnet50", key: value}}},
    ):
        message = refuse(check_claims, says, "resnet50", "w.pth")
        assert message.startswith(f"w.pth says that its network has {key}={value}, which resnet50 ")


def test_caffes_stride_is_that_of_the_caffe_networks():
    check_claims({"model_args": {"style": "caffe", "stride_in_1x1": True}}, "resnet50_caffe", "w.pth")
    assert "style=pytorch" in refuse(
        check_claims, {"model_args": {"style": "pytorch"}}, "resnet50_caffe", "w"
    )


PUBLISHED = {
    "input_size": [3, 224, 224],
    "interpolation": "bilinear",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "num_classes": 1000,
    "first_conv": "conv1",
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", [0.5, 0.5, 0.5]),
        ("std", [0.5, 0.5, 0.5]),
        ("std", "x"),
        ("input_size", [3, 299, 299]),
        ("input_size", [1, 224, 224]),
        ("interpolation", "bicubic"),
        ("crop_pct", 0.95),
        ("crop_pct", 0),
        ("crop_mode", "squash"),
        ("num_classes", 21843),
    ],
)
def test_photographs_prepared_otherwise_are_refused(key, value):
    check_photographs({"pretrained_cfg": PUBLISHED}, TORCHVISION, 1000, "w")
    message = refuse(check_photographs, {"pretrained_cfg": PUBLISHED | {key: value}}, TORCHVISION, 1000, "w")
    assert message.startswith(f"w says {key}={value}, where ")


def test_units_and_the_order_of_channels_are_compared_as_they_act():
    other = dataclasses.replace(
        TORCHVISION,
        scale=1.0,
        channels="BGR",
        mean=tuple(255 * m for m in TORCHVISION.mean[::-1]),
        std=tuple(255 * s for s in TORCHVISION.std[::-1]),
    )
    photo = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    np.testing.assert_allclose(other(photo)[..., ::-1], TORCHVISION(photo), atol=1e-5)
    check_photographs({"pretrained_cfg": PUBLISHED}, other, 1000, "w")
    flipped = dataclasses.replace(other, channels="RGB")
    assert "says mean=" in refuse(check_photographs, {"pretrained_cfg": PUBLISHED}, flipped, 1000, "w")
    assert "says std=" in refuse(
        check_photographs, {"pretrained_cfg": PUBLISHED | {"mean": [0, 0, 0]}}, Preprocess(), 1000, "w"
    )


# Beside the file, as the hub lays it out.


@pytest.fixture
def lay_out(tmp_path):
    def lay_out(config: str | dict | None, name: str = "model.safetensors", **metadata: str):
        path = tmp_path / name
        state = random_state("squeezenet1_1")
        safetensors.numpy.save_file(state, path, metadata or None)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (tmp_path / "config.json").write_text(text, "utf-8")
        return path

    return lay_out


def test_the_config_beside_a_file_of_the_hub_is_compared(lay_out):
    path = lay_out({"architecture": "squeezenet1_0"})
    assert refuse(models.load_model, "squeezenet1_1", path).startswith(
        f"{path} says that it holds 'squeezenet1_0', not squeezenet1_1"
    )
    output = path.with_name("out.safetensors")
    assert "says that it holds" in refuse(models.port_checkpoint, path, "squeezenet1_1", output)
    assert not output.exists()
    lay_out({"pretrained_cfg": PUBLISHED | {"num_classes": 3, "interpolation": "bicubic"}})
    assert f"{path} says interpolation=bicubic" in refuse(models.load_model, "squeezenet1_1", path)
    lay_out({"architecture": "squeezenet1_1", "pretrained_cfg": PUBLISHED | {"num_classes": 3}})
    assert len(models.load_model("squeezenet1_1", path).spec.classes) == 3


def test_a_config_that_belongs_to_nothing_or_says_nothing_is_left_alone(lay_out):
    path = lay_out({"architecture": "vgg16"}, "own.safetensors")
    assert read_config(path) == {}
    models.load_model("squeezenet1_1", path)
    assert read_config(lay_out("[1, 2]")) == {}


def test_a_config_that_cannot_be_read_is_refused_by_name(lay_out):
    path = lay_out("{not json")
    message = refuse(models.load_model, "squeezenet1_1", path)
    assert message.startswith(f"{path.with_name('config.json')}, the description of model.safetensors,")


def test_the_metadata_of_a_file_is_compared(lay_out):
    path = lay_out(None, architecture="resnetblur50")
    assert "says that it holds 'resnetblur50'" in refuse(models.load_model, "squeezenet1_1", path)


FETCH = "from dmbp_jax.cli import main; main()"


def test_the_hubs_config_is_fetched_with_the_weights_and_compared(environment):  # noqa: F811
    repository = "timm/resnet18.tv_in1k"
    with local_hub.serve() as hub:
        hub.add(repository, safetensors.numpy.save(random_state("resnet18", 1000)))
        config = {"architecture": "resnetblur18", "pretrained_cfg": PUBLISHED}
        hub.files[f"/{repository}/resolve/main/config.json"] = json.dumps(config).encode()
        done = subprocess.run(
            [sys.executable, "-c", FETCH, "weights", "fetch", "resnet18"],
            env=environment | {"HF_ENDPOINT": hub.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    [message] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "says that it holds 'resnetblur18', not resnet18" in message


# timm's own words.


@pytest.mark.parity
@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        ("resnet18.tv_in1k", {}, None),
        ("resnetblur18", {}, "'resnetblur18', not resnet18"),
        ("resnet18.tv_in1k", {"act_layer": "silu"}, "act_layer=silu"),
        ("resnet18.tv_in1k", {"global_pool": "max"}, "global_pool=max"),
        ("resnet18.a1_in1k", {}, "interpolation=bicubic"),
    ],
)
def test_what_timm_writes_beside_its_weights_is_understood(tmp_path, network, options, said):
    """Each has the tensors of `resnet18`, and all but the first other logits or photographs."""
    import timm
    from timm.models import save_for_hf

    net = timm.create_model(network, pretrained=False, num_classes=5, **options)
    save_for_hf(net, tmp_path, model_args=options, safe_serialization=True)
    path = tmp_path / "model.safetensors"
    if said is None:
        assert len(models.load_model("resnet18", path).spec.classes) == 5
    else:
        assert said in refuse(models.load_model, "resnet18", path)


@pytest.mark.parity
def test_the_manifests_hub_files_are_what_timm_says_of_them(tmp_path):
    import timm
    import torch
    from timm.models._hub import save_config_for_hf

    manifest = models.read_manifest()
    entries = [entry for entry in manifest.entries if entry.hub]
    assert len(entries) >= 12
    for entry in entries:
        with torch.device("meta"):
            net = timm.create_model(entry.hub.partition("/")[2], pretrained=False)
        save_config_for_hf(net, tmp_path / "config.json")
        says = read_config(tmp_path / "model.safetensors")
        assert says["architecture"] == entry.architecture
        check_claims(says, entry.architecture, "w")
        check_photographs(says, manifest.preprocess[entry.preprocess], 1000, "w")
