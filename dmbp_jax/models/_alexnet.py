"""AlexNet (Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014)."""

from collections.abc import Iterator

from dmbp_jax.models._layers import Layers, LayerShape
from dmbp_jax.ops import adaptive_avg_pool
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Images, Logits, Params, Rule, Window

POOL = Window(size=3, stride=2)
GRID = 6
"""The classifier takes a 6x6 map, whatever the size of the image."""


def apply(params: Params, images: Images, *, rule: Rule = PLAIN) -> Logits:
    """Logits of an AlexNet."""
    net = Layers(params, rule)
    h = net.relu("features.1", net.conv("features.0", images, stride=4, padding=2))
    h = net.max_pool("features.2", h, POOL)
    h = net.relu("features.4", net.conv("features.3", h, padding=2))
    h = net.max_pool("features.5", h, POOL)
    h = net.relu("features.7", net.conv("features.6", h, padding=1))
    h = net.relu("features.9", net.conv("features.8", h, padding=1))
    h = net.relu("features.11", net.conv("features.10", h, padding=1))
    h = net.max_pool("features.12", h, POOL)
    h = adaptive_avg_pool(h, GRID).reshape(h.shape[0], -1)
    h = net.relu("classifier.2", net.linear("classifier.1", h))
    h = net.relu("classifier.5", net.linear("classifier.4", h))
    return net.linear("classifier.6", h, role="class")


def layout(classes: int) -> Iterator[LayerShape]:
    """The affine layers, as torchvision's checkpoints name and shape them."""
    yield LayerShape("features.0", (64, 3, 11, 11))
    yield LayerShape("features.3", (192, 64, 5, 5))
    yield LayerShape("features.6", (384, 192, 3, 3))
    yield LayerShape("features.8", (256, 384, 3, 3))
    yield LayerShape("features.10", (256, 256, 3, 3))
    yield LayerShape("classifier.1", (4096, 256 * GRID**2), grid=GRID)
    yield LayerShape("classifier.4", (4096, 4096))
    yield LayerShape("classifier.6", (classes, 4096))
