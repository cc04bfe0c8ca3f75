"""The architectures at a fraction of their widths: the same graphs, quick to run."""

import jax
import jax.numpy as jnp

from dmbp_jax.models import ARCHITECTURES, LayerShape, init_layout
from dmbp_jax.models.layers import Layers
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Window

CLASSES = 10
SIZE = 64


def small_layout(name: str) -> tuple[LayerShape, ...]:
    """The layers of an architecture with every width divided, three input channels and ten classes."""
    # SqueezeNet's narrowest layers have 16 channels; a single one would be dead at half of all seeds.
    shrink_by = 4 if name.startswith("squeezenet") else 16
    layers = tuple(ARCHITECTURES[name].layout(CLASSES * shrink_by))

    def shrink(index: int, layer: LayerShape) -> LayerShape:
        out, inner, *size = layer.weight
        return layer._replace(weight=(out // shrink_by, inner if index == 0 else inner // shrink_by, *size))

    return tuple(shrink(index, layer) for index, layer in enumerate(layers))


def small_network(name: str, dtype=jnp.float32):
    """`apply`, random parameters and two random images of a small network, the same at every call."""
    params = init_layout(jax.random.key(0), small_layout(name))
    images = jax.random.normal(jax.random.key(1), (2, SIZE, SIZE, 3))
    params, images = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, images))
    return ARCHITECTURES[name].apply, params, images


def tiny_apply(params, images, *, rule=PLAIN):
    """Two convolutions with a pool and a shortcut between them, and a linear class layer."""
    net = Layers(params, rule)
    h = net.relu("relu1", net.conv("conv1", images, padding=1))
    h = net.max_pool("pool", h, Window(2, 2))
    h = net.relu("relu2", h + net.conv("conv2", h, padding=1))
    return net.linear("fc", h.mean(axis=(1, 2)), role="class")


def tiny_network():
    """`tiny_apply`, its parameters and three random images of 8 x 8 pixels."""
    layers = (
        LayerShape("conv1", (4, 3, 3, 3)),
        LayerShape("conv2", (4, 4, 3, 3)),
        LayerShape("fc", (CLASSES, 4)),
    )
    images = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
    return tiny_apply, init_layout(jax.random.key(0), layers), images
