"""The architectures by name, and random parameters for them."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from flax.traverse_util import unflatten_dict

from dmbp_jax.checks import check_choice
from dmbp_jax.models import alexnet, resnet, squeezenet, vgg
from dmbp_jax.models.layout import LayerShape
from dmbp_jax.typing import Apply, Key, Params


class Architecture(NamedTuple):
    """A network without its weights."""

    name: str
    apply: Apply
    layout: Callable[[int], Iterator[LayerShape]]
    """`layout(classes)`: the affine layers of the network with that many classes."""


def _resnet(
    name: str, blocks: tuple[int, int, int, int], *, bottleneck: bool, caffe: bool = False
) -> Architecture:
    options = {"blocks": blocks, "bottleneck": bottleneck, "caffe": caffe}
    return Architecture(
        name,
        functools.partial(resnet.apply, **options),
        functools.partial(resnet.layout, **options),
    )


def _vgg(
    name: str,
    depths: tuple[int, int, int, int, int],
    *,
    batch_norm: bool = False,
    caffe: bool = False,
) -> Architecture:
    options = {"depths": depths, "batch_norm": batch_norm, "caffe": caffe}
    return Architecture(
        name, functools.partial(vgg.apply, **options), functools.partial(vgg.layout, **options)
    )


def _squeezenet(name: str, stem: tuple[int, int], pool_after: tuple[int, ...]) -> Architecture:
    return Architecture(
        name,
        functools.partial(squeezenet.apply, pool_after=pool_after),
        functools.partial(squeezenet.layout, stem=stem, pool_after=pool_after),
    )


_VGG_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        _resnet("resnet18", (2, 2, 2, 2), bottleneck=False),
        _resnet("resnet34", (3, 4, 6, 3), bottleneck=False),
        _resnet("resnet50", (3, 4, 6, 3), bottleneck=True),
        _resnet("resnet101", (3, 4, 23, 3), bottleneck=True),
        _resnet("resnet152", (3, 8, 36, 3), bottleneck=True),
        _resnet("resnet50_caffe", (3, 4, 6, 3), bottleneck=True, caffe=True),
        *(_vgg(name, depths) for name, depths in _VGG_DEPTHS.items()),
        *(_vgg(f"{name}_bn", depths, batch_norm=True) for name, depths in _VGG_DEPTHS.items()),
        _vgg("vgg16_caffe", _VGG_DEPTHS["vgg16"], caffe=True),
        _squeezenet("squeezenet1_0", (96, 7), pool_after=(2, 6)),
        _squeezenet("squeezenet1_1", (64, 3), pool_after=(1, 3)),
        Architecture("alexnet", alexnet.apply, alexnet.layout),
    )
}


def get_architecture(name: str) -> Architecture:
    """The architecture of that name; `InputError` names the known ones.

    >>> get_architecture("resnet50").name
    'resnet50'
    """
    check_choice("model", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def init(key: Key, name: str, *, classes: int = 1000) -> Params:
    """Random parameters of an architecture: He-normal kernels, small normal biases.

    >>> params = init(jax.random.key(0), "squeezenet1_1", classes=10)
    >>> params["features"]["0"]["kernel"].shape
    (3, 3, 3, 64)
    """
    return init_layout(key, tuple(get_architecture(name).layout(classes)))


def init_layout(key: Key, layers: tuple[LayerShape, ...]) -> Params:
    """As `init`, for layers of any widths."""
    flat: dict[tuple[str, ...], jax.Array] = {}
    for layer, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
        path = tuple(layer.name.split("."))
        out, *inner = layer.weight
        # (out, in, kh, kw) to (kh, kw, in, out), or (out, in) to (in, out).
        shape = (*inner[1:], inner[0], out)
        fan_in = math.prod(inner)
        kernel_key, bias_key = jax.random.split(layer_key)
        flat[(*path, "kernel")] = jax.random.normal(kernel_key, shape) * (2 / fan_in) ** 0.5
        flat[(*path, "bias")] = jax.random.normal(bias_key, (out,)) * 0.1
    return unflatten_dict(flat)  # type: ignore[no-any-return]
