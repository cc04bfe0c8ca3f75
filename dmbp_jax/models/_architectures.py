"""The architectures by name, and random parameters for them."""

import functools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax

from dmbp_jax._checks import check_choice
from dmbp_jax.models import _alexnet as alexnet
from dmbp_jax.models import _resnet as resnet
from dmbp_jax.models import _squeezenet as squeezenet
from dmbp_jax.models import _vgg as vgg
from dmbp_jax.models._layers import LayerShape, nest
from dmbp_jax.typing import Apply, Key, Params


class Architecture(NamedTuple):
    """A network without its weights."""

    name: str
    apply: Apply
    layout: Callable[[int], Iterator[LayerShape]]
    """`layout(classes)`: the affine layers of the network with that many classes."""


def _architecture(
    name: str, network: ModuleType, *, stem: tuple[int, int] | None = None, **options: Any
) -> Architecture:
    """A network's `apply` and `layout` with their options filled in; `stem` is the layout's alone."""
    shape = options if stem is None else {"stem": stem, **options}
    return Architecture(
        name,
        functools.partial(network.apply, **options),
        functools.partial(network.layout, **shape),
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
        _architecture("resnet18", resnet, blocks=(2, 2, 2, 2), bottleneck=False),
        _architecture("resnet34", resnet, blocks=(3, 4, 6, 3), bottleneck=False),
        _architecture("resnet50", resnet, blocks=(3, 4, 6, 3), bottleneck=True),
        _architecture("resnet101", resnet, blocks=(3, 4, 23, 3), bottleneck=True),
        _architecture("resnet152", resnet, blocks=(3, 8, 36, 3), bottleneck=True),
        _architecture("resnet50_caffe", resnet, blocks=(3, 4, 6, 3), bottleneck=True, caffe=True),
        *(_architecture(name, vgg, depths=depths) for name, depths in _VGG_DEPTHS.items()),
        *(
            _architecture(f"{name}_bn", vgg, depths=depths, batch_norm=True)
            for name, depths in _VGG_DEPTHS.items()
        ),
        _architecture("vgg16_caffe", vgg, depths=_VGG_DEPTHS["vgg16"], caffe=True),
        _architecture("squeezenet1_0", squeezenet, stem=(96, 7), pool_after=(2, 6)),
        _architecture("squeezenet1_1", squeezenet, stem=(64, 3), pool_after=(1, 3)),
        _architecture("alexnet", alexnet),
    )
}


def get_architecture(name: str) -> Architecture:
    """The architecture of that name; `InputError` names the known ones.

    >>> get_architecture("resnet50").name
    'resnet50'
    """
    check_choice("model", name, ARCHITECTURES, variants=True)
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
    return nest(flat)
