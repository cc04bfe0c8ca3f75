"""Networks of Equinox: modules that take one example, with its channels first."""

import equinox as eqx
import jax
import jax.numpy as jnp

from zoo.case import CLASSES, NOTHING, Case, Refused, draw

NCHW = {"layout": "NCHW"}


class CNN(eqx.Module):
    """Convolutions and max-pools in a list, as in Equinox's tutorial, with dropout in inference mode."""

    layers: list

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.layers = [
            eqx.nn.Conv2d(3, 4, kernel_size=3, key=keys[0]),
            eqx.nn.PReLU(),
            eqx.nn.MaxPool2d(kernel_size=2, stride=2),
            eqx.nn.Conv2d(4, 6, kernel_size=3, padding=1, key=keys[1]),
            jax.nn.relu,
            eqx.nn.MaxPool2d(kernel_size=3, stride=2, padding=1, use_ceil=True),
            jnp.ravel,
            eqx.nn.Linear(96, 8, key=keys[2]),
            jax.nn.relu,
            eqx.nn.Dropout(0.5, inference=True),
            eqx.nn.Linear(8, CLASSES, key=keys[3]),
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class SharedResNet(eqx.Module):
    """One convolution is applied three times, one ReLU everywhere."""

    stem: eqx.nn.Conv2d
    shared: eqx.nn.Conv2d
    pool: eqx.nn.AvgPool2d
    adaptive: eqx.nn.AdaptiveAvgPool2d
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.stem = eqx.nn.Conv2d(3, 6, 3, stride=2, padding=1, key=keys[0])
        self.shared = eqx.nn.Conv2d(6, 6, 3, padding="SAME", key=keys[1])
        self.pool = eqx.nn.AvgPool2d(2, 2)
        self.adaptive = eqx.nn.AdaptiveAvgPool2d(1)
        self.head = eqx.nn.Linear(6, CLASSES, key=keys[2])

    def __call__(self, x):
        x = jax.nn.relu(self.stem(x))
        x = jax.nn.relu(x + self.shared(x))
        x = self.pool(x)
        x = jax.nn.relu(x + self.shared(jax.nn.relu(self.shared(x))))
        return self.head(self.adaptive(x).reshape(-1))


class SelfGated(eqx.Module):
    """A convolution whose output gates itself."""

    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=keys[0])
        self.head = eqx.nn.Linear(4, CLASSES, key=keys[1])

    def __call__(self, x):
        x = self.conv(x)
        return self.head(jnp.mean(x * jax.nn.sigmoid(x), axis=(1, 2)))


def mlp(activation):
    return lambda key: eqx.nn.MLP(7, CLASSES, width_size=8, depth=2, activation=activation, key=key)


def builder(make):
    """`build` of a module that `make` makes from a key."""

    def build(dtype=jnp.float32, seed=0):
        return draw(eqx.filter_eval_shape(make, jax.random.key(0)), dtype, seed, out_axis=0)

    return build


def forward(network, images):
    if images.ndim == 4:
        images = jnp.transpose(images, (0, 3, 1, 2))
    return jax.vmap(network)(images)


def case(name, make, *image_shape, options=NOTHING):
    return Case(name, "equinox", builder(make), forward, image_shape, options=options)


CASES = [
    case("equinox cnn", CNN, 14, 14, 3, options=NCHW),
    case("equinox mlp", mlp(jax.nn.relu), 7),
    case("equinox shared weights", SharedResNet, 16, 16, 3, options=NCHW),
]

REFUSED = [
    # The activation is applied in Equinox's own file.
    Refused("equinox mlp with softplus", "equinox", builder(mlp(jax.nn.softplus)), (7,), ("_mlp.py",)),
    Refused(
        "equinox gate",
        "equinox",
        builder(SelfGated),
        (12, 12, 3),
        ("logistic", "equinox_networks.py"),
        options=NCHW,
    ),
]
