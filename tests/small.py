"""The architectures at a fraction of their widths: the same graphs, quick to run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmbp_jax.models import ARCHITECTURES
from dmbp_jax.models._architectures import init_layout
from dmbp_jax.models._layers import Layers, LayerShape
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Window

CLASSES = 10
SIZE = 64


def long_but(some, values):
    """The values as parameters, those that are not among `some` in the long tests."""
    names = [getattr(value, "name", value) for value in values]
    return [
        pytest.param(value, id=str(name), marks=() if name in some else pytest.mark.long)
        for name, value in zip(names, values, strict=True)
    ]


def small_layout(name: str) -> tuple[LayerShape, ...]:
    """The layers of an architecture with every width divided, three input channels and ten classes."""
    # SqueezeNet's narrowest layers have 16 channels; a single one would be dead at half of all seeds.
    shrink_by = 4 if name.startswith("squeezenet") else 16
    layers = tuple(ARCHITECTURES[name].layout(CLASSES * shrink_by))

    def shrink(index: int, layer: LayerShape) -> LayerShape:
        out, inner, *size = layer.weight
        return layer._replace(weight=(out // shrink_by, inner if index == 0 else inner // shrink_by, *size))

    return tuple(shrink(index, layer) for index, layer in enumerate(layers))


def draw_params(layers: tuple[LayerShape, ...], dtype=jnp.float32):
    """Parameters of the shapes and scales of `init_layout`.

    NumPy draws them: JAX compiles a program for every shape, which took longer than most tests.
    """
    random = np.random.default_rng(0)

    def draw(leaf):
        # A kernel's last axis holds its outputs, the others its inputs.
        scale = 0.1 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return jnp.asarray(scale * random.standard_normal(leaf.shape), dtype)

    return jax.tree.map(draw, jax.eval_shape(lambda key: init_layout(key, layers), jax.random.key(0)))


def draw_images(*shape: int, dtype=jnp.float32):
    """Normally distributed images, `(n, h, w, c)`."""
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), dtype)


def small_network(name: str, dtype=jnp.float32):
    """`apply`, random parameters and two random images of a small network, the same at every call."""
    params = draw_params(small_layout(name), dtype)
    return ARCHITECTURES[name].apply, params, draw_images(2, SIZE, SIZE, 3, dtype=dtype)


def tiny_apply(params, images, *, rule=PLAIN):
    """Two convolutions with a pool and a shortcut between them, and a linear class layer."""
    net = Layers(params, rule)
    h = net.relu("relu1", net.conv("conv1", images, padding=1))
    h = net.max_pool("pool", h, Window(2, 2))
    h = net.relu("relu2", h + net.conv("conv2", h, padding=1))
    return net.linear("fc", h.mean(axis=(1, 2)), role="class")


TINY_LAYERS = (
    LayerShape("conv1", (4, 3, 3, 3)),
    LayerShape("conv2", (4, 4, 3, 3)),
    LayerShape("fc", (CLASSES, 4)),
)


def tiny_network():
    """`tiny_apply`, its parameters and three random images of 8 x 8 pixels."""
    return tiny_apply, draw_params(TINY_LAYERS), draw_images(3, 8, 8, 3)
