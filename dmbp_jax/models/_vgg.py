"""VGG (Simonyan and Zisserman, ICLR 2015), with and without batch-norm, which is folded."""

from collections.abc import Iterator

from jaxtyping import Array, Inexact

from dmbp_jax.models._layers import Layers, LayerShape
from dmbp_jax.ops import adaptive_avg_pool
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Images, Logits, Params, Rule, Window

WIDTHS = (64, 128, 256, 512, 512)
GRID = 7
"""The classifier takes a 7x7 map, whatever the size of the image."""


def apply(
    params: Params,
    images: Images,
    *,
    rule: Rule = PLAIN,
    depths: tuple[int, int, int, int, int],
    batch_norm: bool = False,
    caffe: bool = False,
) -> Logits:
    """Logits of a VGG with `depths` convolutions in its five stages.

    `batch_norm` changes only torchvision's numbering of the layers, since it is folded; `caffe`: the pools
    are in ceil mode.
    """
    net = Layers(params, rule)
    h = features(params, images, rule=rule, depths=depths, batch_norm=batch_norm, caffe=caffe)
    h = adaptive_avg_pool(h, GRID).reshape(h.shape[0], -1)
    h = net.relu("classifier.1", net.linear("classifier.0", h))
    h = net.relu("classifier.4", net.linear("classifier.3", h))
    return net.linear("classifier.6", h, role="class")


def features(
    params: Params,
    images: Images,
    *,
    rule: Rule = PLAIN,
    depths: tuple[int, int, int, int, int],
    batch_norm: bool = False,
    caffe: bool = False,
) -> Inexact[Array, "n hh ww o"]:
    """The map after the fifth pool, 1/32 of the image's size, without the classifier."""
    net = Layers(params, rule)
    pool = Window(size=2, stride=2, ceil_mode=caffe)
    h, position = images, 0
    for depth in depths:
        for _ in range(depth):
            h = net.conv(f"features.{position}", h, padding=1)
            position += 2 if batch_norm else 1
            h = net.relu(f"features.{position}", h)
            position += 1
        h = net.max_pool(f"features.{position}", h, pool)
        position += 1
    return h


def layout(
    classes: int,
    *,
    depths: tuple[int, int, int, int, int],
    batch_norm: bool = False,
    caffe: bool = False,
) -> Iterator[LayerShape]:
    """The affine layers, as torchvision's checkpoints name and shape them."""
    del caffe
    position, inner = 0, 3
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            yield LayerShape(
                f"features.{position}",
                (width, inner, 3, 3),
                batch_norm=f"features.{position + 1}" if batch_norm else None,
            )
            inner = width
            position += 3 if batch_norm else 2
        position += 1
    yield LayerShape("classifier.0", (4096, 512 * GRID**2), grid=GRID)
    yield LayerShape("classifier.3", (4096, 4096))
    yield LayerShape("classifier.6", (classes, 4096))
