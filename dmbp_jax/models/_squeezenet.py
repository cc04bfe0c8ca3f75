"""SqueezeNet 1.0 and 1.1 (Iandola et al., 2016)."""

from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.models._layers import Layers, LayerShape
from dmbp_jax.ops import adaptive_avg_pool
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Images, Logits, Params, Rule, Window

POOL = Window(size=3, stride=2, ceil_mode=True)
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Squeezed and expanded width of the eight fire modules; each has two expansions."""


def apply(params: Params, images: Images, *, rule: Rule = PLAIN, pool_after: tuple[int, ...]) -> Logits:
    """Logits of a SqueezeNet that max-pools after its first convolution and after the fires `pool_after`.

    The class scores are a convolution followed by a ReLU, averaged: there is no linear class layer.
    """
    net = Layers(params, rule)
    h = net.relu("features.1", net.conv("features.0", images, stride=2))
    h = net.max_pool("features.2", h, POOL)
    position = 3
    for index in range(len(FIRES)):
        h = _fire(net, f"features.{position}", h)
        position += 1
        if index in pool_after:
            h = net.max_pool(f"features.{position}", h, POOL)
            position += 1
    h = net.relu("classifier.2", net.conv("classifier.1", h))
    return adaptive_avg_pool(h, 1)[:, 0, 0]


def _fire(net: Layers, name: str, x: Inexact[Array, "n h w c"]) -> Inexact[Array, "n h w o"]:
    h = net.relu(f"{name}.squeeze_activation", net.conv(f"{name}.squeeze", x))
    one = net.relu(f"{name}.expand1x1_activation", net.conv(f"{name}.expand1x1", h))
    three = net.relu(f"{name}.expand3x3_activation", net.conv(f"{name}.expand3x3", h, padding=1))
    return jnp.concatenate([one, three], axis=-1)


def layout(classes: int, *, stem: tuple[int, int], pool_after: tuple[int, ...]) -> Iterator[LayerShape]:
    """The affine layers, as torchvision's checkpoints name and shape them; `stem`: width and kernel size."""
    width, size = stem
    yield LayerShape("features.0", (width, 3, size, size))
    inner, position = width, 3
    for index, (squeezed, expanded) in enumerate(FIRES):
        name = f"features.{position}"
        yield LayerShape(f"{name}.squeeze", (squeezed, inner, 1, 1))
        yield LayerShape(f"{name}.expand1x1", (expanded, squeezed, 1, 1))
        yield LayerShape(f"{name}.expand3x3", (expanded, squeezed, 3, 3))
        inner = 2 * expanded
        position += 2 if index in pool_after else 1
    yield LayerShape("classifier.1", (classes, inner, 1, 1))
