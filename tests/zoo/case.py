"""What an entry of the zoo holds, and the drawing of its parameters."""

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NOTHING: Mapping[str, Any] = MappingProxyType({})
CLASSES = 5


@contextlib.contextmanager
def user_settings():
    """JAX's own promotion settings: under those of the tests Flax's `avg_pool`, which mixes dtypes, fails."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def draw_inputs(count: int, shape: tuple[int, ...], dtype=jnp.float32, seed=1):
    """Normally distributed inputs, `(count, *shape)`, each image around a colour of its own.

    Averages over the pixels of noise alone would hardly differ between images.
    """
    random = np.random.default_rng(seed)
    colour = random.standard_normal((count, *[1] * (len(shape) - 1), shape[-1]))
    return jnp.asarray(colour + random.standard_normal((count, *shape)), dtype)


class Case(NamedTuple):
    """A network in evaluation mode, as its user holds it, and how the user calls it."""

    name: str
    library: str  # "nnx", "linen", "equinox" or "plain"
    build: Callable[..., Any]  # (dtype=float32, seed=0) -> what `gated` is given
    forward: Callable[[Any, jax.Array], jax.Array]  # (network, NHWC images) -> logits, without `gated`
    image_shape: tuple[int, ...]
    classes: int = CLASSES
    options: Mapping[str, Any] = NOTHING  # of `gated`

    def images(self, count=2, dtype=jnp.float32, seed=1):
        """A batch for `forward`."""
        return draw_inputs(count, self.image_shape, dtype, seed)


class Refused(NamedTuple):
    """A network that has no gated form, and what the one-line error message has to contain."""

    name: str
    library: str
    build: Callable[..., Any]
    image_shape: tuple[int, ...]
    words: tuple[str, ...]
    options: Mapping[str, Any] = NOTHING

    def images(self, count=2, dtype=jnp.float32, seed=1):
        """A batch of the shape that the network takes, with the channels last."""
        return draw_inputs(count, self.image_shape, dtype, seed)


def draw(tree, dtype=jnp.float32, seed=0, *, out_axis=-1):
    """Fill the abstract arrays of a network: nothing is zero or one by default, batch statistics included.

    A leaf's name decides its distribution, and `out_axis` is the axis of a kernel that holds its outputs.
    NumPy draws, because JAX would compile a program for every shape.
    """
    random = np.random.default_rng(seed)

    def fill(path, leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf  # an activation function, a string
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        name = jax.tree_util.keystr(path)
        if "slope" in name:
            values = random.uniform(0.1, 0.4, leaf.shape)
        elif "var" in name or "scale" in name:
            values = random.uniform(0.5, 1.5, leaf.shape)
        elif "mean" in name or "bias" in name:
            values = 0.3 * random.standard_normal(leaf.shape)
        else:
            fan_in = np.prod(leaf.shape) / leaf.shape[out_axis]
            values = (2 / fan_in) ** 0.5 * random.standard_normal(leaf.shape)
        return jnp.asarray(values, dtype)

    return jax.tree_util.tree_map_with_path(fill, tree)
