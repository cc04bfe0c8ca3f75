"""Networks of `flax.linen`: a module and its variables."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.case import CLASSES, Case, Refused, draw


class ConvNorm(nn.Module):
    width: int
    kernel: int = 3
    stride: int = 1
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (self.kernel, self.kernel), self.stride, use_bias=False)(x)
        return nn.BatchNorm(use_running_average=not self.train)(x)


class VGG(nn.Module):
    """Max-pools with SAME padding over sides of odd length, and dropout in evaluation mode."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        for width in (4, 6, 8):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        x = x.reshape((x.shape[0], -1))
        x = nn.relu(nn.Dense(8)(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(CLASSES)(x)


class InceptionBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        def unit(x, kernel):
            return nn.relu(ConvNorm(self.width, kernel)(x))

        pooled = nn.max_pool(x, (3, 3), strides=(1, 1), padding="SAME")
        averaged = nn.avg_pool(x, (3, 3), strides=(1, 1), padding="SAME")
        branches = [unit(x, 1), unit(unit(x, 1), 3), unit(unit(x, 1), 5), unit(pooled, 1), unit(averaged, 1)]
        return jnp.concatenate(branches, axis=-1)


class Inception(nn.Module):
    """A pool and a block of concatenated branches."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(ConvNorm(4, 3, 2)(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        x = InceptionBlock(1)(x)
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class Bottleneck(nn.Module):
    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        h = nn.relu(ConvNorm(self.width, 1)(x))
        h = nn.relu(ConvNorm(self.width, 3, self.stride)(h))
        h = ConvNorm(2 * self.width, 1)(h)
        if h.shape != x.shape:
            x = ConvNorm(2 * self.width, 1, self.stride)(x)
        return nn.relu(h + x)


class BottleneckResNet(nn.Module):
    """`block` may be a rematerialised `Bottleneck`."""

    block: type[nn.Module] = Bottleneck

    @nn.compact
    def __call__(self, x):
        x = nn.relu(ConvNorm(4)(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for width, stride in ((2, 1), (4, 2), (4, 1)):
            x = self.block(width, stride)(x)
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class DenseNet(nn.Module):
    """Every layer sees all layers before it; transitions halve the channels."""

    @nn.compact
    def __call__(self, x):
        def unit(x, width, kernel):
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            return nn.Conv(width, (kernel, kernel), use_bias=False)(x)

        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        for block in range(2):
            for _ in range(2):
                x = jnp.concatenate([x, unit(unit(x, 4, 1), 2, 3)], axis=-1)
            if block == 0:
                x = nn.avg_pool(unit(x, 4, 1), (2, 2), strides=(2, 2))
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class PReLUNetwork(nn.Module):
    """Leaky ReLUs whose slopes are parameters."""

    @nn.compact
    def __call__(self, x):
        for width in (4, 6):
            x = nn.PReLU()(nn.Conv(width, (3, 3), strides=2)(x))
        x = nn.PReLU()(nn.Dense(8)(x.reshape(x.shape[0], -1)))
        return nn.Dense(CLASSES)(x)


class SmallNetwork(nn.Module):
    """A convolution, a function after it, and a head."""

    between: str

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        if self.between == "gelu":
            x = nn.gelu(x)
        elif self.between == "tanh":
            x = jnp.tanh(x)
        elif self.between == "layer norm":
            x = nn.relu(nn.LayerNorm()(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class TrainedNetwork(nn.Module):
    """Its batch normalisation uses, and updates, the statistics of the batch."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(ConvNorm(4, train=True)(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def builder(module, image_shape):
    """`build` of a module and its variables."""

    def build(dtype=jnp.float32, seed=0):
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        return module, draw(jax.eval_shape(module.init, jax.random.key(0), image), dtype, seed)

    return build


def forward(network, images):
    module, variables = network
    return module.apply(variables, images)


def case(name, module, *image_shape):
    return Case(name, "linen", builder(module, image_shape), forward, image_shape)


def refused(name, module, *words):
    return Refused(name, "linen", builder(module, (12, 12, 3)), (12, 12, 3), words)


CASES = [
    case("linen vgg", VGG(), 13, 13, 3),
    case("linen inception", Inception(), 16, 16, 3),
    case("linen bottleneck resnet", BottleneckResNet(), 16, 16, 3),
    case("linen densenet", DenseNet(), 12, 12, 3),
    case("linen remat", BottleneckResNet(nn.remat(Bottleneck)), 12, 12, 3),
    case("linen prelu", PReLUNetwork(), 12, 12, 3),
]

REFUSED = [
    refused("linen gelu", SmallNetwork("gelu"), "linen_networks.py"),
    refused("linen tanh", SmallNetwork("tanh"), "tanh", "linen_networks.py"),
    refused("linen layer norm", SmallNetwork("layer norm"), "square", "normalization.py"),
    refused("linen batch norm in training", TrainedNetwork(), "batch_stats"),
]
