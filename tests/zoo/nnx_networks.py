"""Networks of `flax.nnx`: stateful modules."""

import jax.numpy as jnp
from flax import nnx

from zoo.case import CLASSES, Case, Refused, draw


def conv(inner, outer, kernel, rngs, **options):
    return nnx.Conv(inner, outer, (kernel, kernel), rngs=rngs, **options)


def norm(width, rngs):
    return nnx.BatchNorm(width, use_running_average=True, rngs=rngs)


class BasicBlock(nnx.Module):
    def __init__(self, inner, outer, stride, rngs):
        self.conv1 = conv(inner, outer, 3, rngs, strides=stride, padding=1, use_bias=False)
        self.norm1 = norm(outer, rngs)
        self.conv2 = conv(outer, outer, 3, rngs, padding=1, use_bias=False)
        self.norm2 = norm(outer, rngs)
        if stride != 1 or inner != outer:
            self.projection = nnx.Sequential(
                conv(inner, outer, 1, rngs, strides=stride, use_bias=False), norm(outer, rngs)
            )
        else:
            self.projection = None

    def __call__(self, x):
        h = nnx.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        shortcut = x if self.projection is None else self.projection(x)
        return nnx.relu(h + shortcut)


class ResNet(nnx.Module):
    """A stem with a max-pool, a block with an identity shortcut and one with a projection."""

    def __init__(self, rngs):
        self.stem = conv(3, 4, 5, rngs, strides=2, padding=2, use_bias=False)
        self.norm = norm(4, rngs)
        self.blocks = nnx.List([BasicBlock(4, 4, 1, rngs), BasicBlock(4, 8, 2, rngs)])
        self.head = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class LeakyNetwork(nnx.Module):
    """Convolutions, average pools and a multilayer perceptron with dropout, which holds random keys."""

    def __init__(self, rngs):
        self.conv1 = conv(3, 4, 3, rngs)
        self.conv2 = conv(4, 6, 3, rngs)
        self.hidden = nnx.Linear(54, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.head = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.leaky_relu(self.conv1(x)), (2, 2), strides=(2, 2))
        # The windows of the second pool hang over the edge, and count only what lies inside.
        x = nnx.leaky_relu(self.conv2(x), negative_slope=0.2)
        x = nnx.avg_pool(x, (3, 3), strides=(2, 2), padding="SAME", count_include_pad=False)
        x = x.reshape(x.shape[0], -1)
        return self.head(self.dropout(nnx.leaky_relu(self.hidden(x))))


class PreActivationBlock(nnx.Module):
    def __init__(self, inner, outer, stride, rngs):
        self.norm1 = norm(inner, rngs)
        self.conv1 = conv(inner, outer, 3, rngs, strides=stride)
        self.norm2 = norm(outer, rngs)
        self.conv2 = conv(outer, outer, 3, rngs)
        self.projection = conv(inner, outer, 1, rngs, strides=stride) if stride != 1 else None

    def __call__(self, x):
        h = nnx.relu(self.norm1(x))
        shortcut = x if self.projection is None else self.projection(h)
        h = self.conv1(h)
        return shortcut + self.conv2(nnx.relu(self.norm2(h)))


class PreActivationResNet(nnx.Module):
    """Version 2 of the ResNet: normalisation and ReLU stand before the convolutions."""

    def __init__(self, rngs):
        self.stem = conv(3, 4, 3, rngs)
        self.block1 = PreActivationBlock(4, 4, 1, rngs)
        self.block2 = PreActivationBlock(4, 8, 2, rngs)
        self.norm = norm(8, rngs)
        self.head = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.block2(self.block1(self.stem(x)))
        return self.head(nnx.relu(self.norm(x)).mean(axis=(1, 2)))


class InvertedResidual(nnx.Module):
    def __init__(self, inner, outer, stride, rngs):
        wide = 2 * inner
        self.expand = conv(inner, wide, 1, rngs, use_bias=False)
        self.norm1 = norm(wide, rngs)
        self.depthwise = conv(wide, wide, 3, rngs, strides=stride, feature_group_count=wide, use_bias=False)
        self.norm2 = norm(wide, rngs)
        self.project = conv(wide, outer, 1, rngs, use_bias=False)
        self.norm3 = norm(outer, rngs)
        self.residual = stride == 1 and inner == outer

    def __call__(self, x):
        h = nnx.relu6(self.norm1(self.expand(x)))
        h = nnx.relu6(self.norm2(self.depthwise(h)))
        h = self.norm3(self.project(h))
        return x + h if self.residual else h


class MobileNet(nnx.Module):
    """Depthwise-separable convolutions with ReLU6; `3 *` lets some units reach the six."""

    def __init__(self, rngs):
        self.stem = conv(3, 4, 3, rngs, strides=2)
        self.block1 = InvertedResidual(4, 4, 1, rngs)
        self.block2 = InvertedResidual(4, 6, 2, rngs)
        self.head = nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu6(3 * self.stem(x))
        return self.head(self.block2(self.block1(x)).mean(axis=(1, 2)))


class SmallNetwork(nnx.Module):
    """A convolution, something after it, and a head."""

    def __init__(self, between, rngs):
        self.conv = conv(3, 4, 3, rngs)
        self.between = between(rngs)
        self.head = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.between(self.conv(x)).mean(axis=(1, 2)))


class SqueezeExcite(nnx.Module):
    def __init__(self, rngs):
        self.reduce = nnx.Linear(4, 2, rngs=rngs)
        self.expand = nnx.Linear(2, 4, rngs=rngs)

    def __call__(self, x):
        gates = nnx.sigmoid(self.expand(nnx.relu(self.reduce(x.mean(axis=(1, 2))))))
        return x * gates[:, None, None, :]


class Silu(nnx.Module):
    def __init__(self, rngs):
        pass

    def __call__(self, x):
        return nnx.silu(x)


class Counter(nnx.Module):
    """Writes to a variable at every call."""

    def __init__(self, rngs):
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.calls[...] += 1
        return nnx.relu(x)


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)

    def __call__(self, x):
        return self.attention(x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)


def builder(make):
    """`build` of a module that `make` makes from `nnx.Rngs`."""

    def build(dtype=jnp.float32, seed=0):
        graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
        return nnx.merge(graph, draw(state, dtype, seed))

    return build


def forward(network, images):
    return network(images)


def case(name, make, *image_shape):
    return Case(name, "nnx", builder(make), forward, image_shape)


def refused(name, between, *words):
    return Refused(name, "nnx", builder(lambda rngs: SmallNetwork(between, rngs)), (12, 12, 3), words)


CASES = [
    case("nnx resnet", ResNet, 20, 20, 3),
    case("nnx leaky relu, average pool", LeakyNetwork, 12, 12, 3),
    case("nnx pre-activation resnet", PreActivationResNet, 12, 12, 3),
    case("nnx mobilenet", MobileNet, 16, 16, 3),
]

# Attention and normalisation stand in files of Flax.
REFUSED = [
    refused("nnx squeeze-excite", SqueezeExcite, "logistic", "nnx_networks.py"),
    refused("nnx silu", Silu, "logistic", "nnx_networks.py"),
    refused("nnx attention", Attention, "dot_general", "attention.py"),
    refused(
        "nnx batch norm in training", lambda rngs: nnx.BatchNorm(4, rngs=rngs), "side effect", "model.eval()"
    ),
    refused("nnx counts its calls", Counter, "side effect"),
]
