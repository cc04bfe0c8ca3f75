"""ResNet (He et al., CVPR 2016), in torchvision's and in Caffe's variant; batch-norm is folded."""

from collections.abc import Iterator

from jaxtyping import Array, Inexact

from dmbp_jax.models._layers import Layers, LayerShape
from dmbp_jax.ops import adaptive_avg_pool
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Images, Logits, Params, Rule, Window

POOL = Window(size=3, stride=2, padding=1)
CAFFE_POOL = Window(size=3, stride=2, ceil_mode=True)
WIDTHS = (64, 128, 256, 512)


def apply(
    params: Params,
    images: Images,
    *,
    rule: Rule = PLAIN,
    blocks: tuple[int, int, int, int],
    bottleneck: bool,
    caffe: bool = False,
) -> Logits:
    """Logits of a ResNet with `blocks` residual blocks in its four stages.

    `caffe`: the stride of a bottleneck is that of its first 1x1 convolution instead of the 3x3 one, and the
    first pool is unpadded, in ceil mode. Widths and classes are those of the parameters.
    """
    net = Layers(params, rule)
    h = net.relu("relu", net.conv("conv1", images, stride=2, padding=3))
    h = net.max_pool("maxpool", h, CAFFE_POOL if caffe else POOL)
    for stage, count in enumerate(blocks, start=1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            name = f"layer{stage}.{index}"
            h = _bottleneck(net, name, h, stride, caffe) if bottleneck else _basic_block(net, name, h, stride)
    pooled = adaptive_avg_pool(h, 1)[:, 0, 0]
    return net.linear("fc", pooled, role="class")


def _basic_block(
    net: Layers, name: str, x: Inexact[Array, "n h w c"], stride: int
) -> Inexact[Array, "n hh ww o"]:
    h = net.relu(f"{name}.relu1", net.conv(f"{name}.conv1", x, stride=stride, padding=1))
    h = net.conv(f"{name}.conv2", h, padding=1)
    return net.relu(f"{name}.relu2", h + _shortcut(net, name, x, stride))


def _bottleneck(
    net: Layers, name: str, x: Inexact[Array, "n h w c"], stride: int, caffe: bool
) -> Inexact[Array, "n hh ww o"]:
    first, second = (stride, 1) if caffe else (1, stride)
    h = net.relu(f"{name}.relu1", net.conv(f"{name}.conv1", x, stride=first))
    h = net.relu(f"{name}.relu2", net.conv(f"{name}.conv2", h, stride=second, padding=1))
    h = net.conv(f"{name}.conv3", h)
    return net.relu(f"{name}.relu3", h + _shortcut(net, name, x, stride))


def _shortcut(
    net: Layers, name: str, x: Inexact[Array, "n h w c"], stride: int
) -> Inexact[Array, "n hh ww o"]:
    projection = f"{name}.downsample.0"
    return net.conv(projection, x, stride=stride, role="shortcut") if net.has(projection) else x


def layout(
    classes: int, *, blocks: tuple[int, int, int, int], bottleneck: bool, caffe: bool = False
) -> Iterator[LayerShape]:
    """The affine layers, as torchvision's checkpoints name and shape them."""
    yield LayerShape("conv1", (64, 3, 7, 7), bias=caffe, batch_norm="bn1")
    inner, expansion = 64, 4 if bottleneck else 1
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
        outer = width * expansion
        for index in range(count):
            name = f"layer{stage}.{index}"
            shapes = (
                [(width, inner, 1, 1), (width, width, 3, 3), (outer, width, 1, 1)]
                if bottleneck
                else [(width, inner, 3, 3), (outer, width, 3, 3)]
            )
            for number, shape in enumerate(shapes, start=1):
                yield LayerShape(f"{name}.conv{number}", shape, bias=False, batch_norm=f"{name}.bn{number}")
            if index == 0 and (stage > 1 or inner != outer):
                yield LayerShape(
                    f"{name}.downsample.0",
                    (outer, inner, 1, 1),
                    bias=False,
                    batch_norm=f"{name}.downsample.1",
                )
            inner = outer
    yield LayerShape("fc", (classes, inner))
