"""The network's outputs for many perturbed copies of one image, computed in chunks."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax._checks import InputError, as_number, shorten
from dmbp_jax._ranges import check_whole
from dmbp_jax.ops import target_score
from dmbp_jax.typing import Images, Numbers, Target

Found = TypeVar("Found")


def in_chunks(
    look: Callable[[Int[Array, "size"]], Found], count: int, *, perturbations_per_eval: int
) -> Found:
    """`look` applied to the variants 0 to `count - 1` of an image, in this order.

    Args:
        look: from the numbers of one chunk, `(size,)`, to an array or a tree of arrays `(size, ...)`. To fill
            the last chunk it is also called with numbers of `count` and above, whose results are dropped.
        count: how many there are.
        perturbations_per_eval: numbers that `look` is given at once, at most. Memory grows with it and not
            with `count`.

    Raises `InputError` for a `perturbations_per_eval` below 1.

    >>> in_chunks(lambda numbers: numbers * numbers, 4, perturbations_per_eval=3).tolist()
    [0, 1, 4, 9]
    """
    check_whole("perturbations_per_eval", perturbations_per_eval, least=1)
    # Chunks of one size, as even as can be: 29 variants in chunks of at most 16 are 15 and 14.
    chunks = math.ceil(count / perturbations_per_eval)
    size = math.ceil(count / chunks)

    def look_from(first: Int[Array, ""]) -> Found:
        return look(first + jnp.arange(size, dtype=jnp.int32))

    found = jax.lax.map(look_from, jnp.arange(chunks, dtype=jnp.int32) * size)
    joined: Found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)
    return joined


def class_outputs(
    network: Callable[[Images], Float[Array, "..."]], images: Images
) -> Float[Array, "n classes"]:
    """The network's numbers for each class, in float32 or wider; `InputError` if it returns something else.

    >>> class_outputs(lambda x: x.mean(axis=(1, 2)), jnp.ones((2, 4, 4, 3))).shape
    (2, 3)
    """
    outputs = network(images)
    if outputs.ndim != 2 or outputs.shape[0] != images.shape[0]:
        raise InputError(
            f"the network must return numbers of shape ({images.shape[0]}, classes), got {outputs.shape}"
        )
    return outputs.astype(np.promote_types(outputs.dtype, np.float32))


def target_scores(outputs: Float[Array, "n classes"], target: Target) -> Float[Array, "n"]:
    """`dmbp_jax.ops.target_score` of each image; `InputError` for weights of more or fewer classes.

    >>> target_scores(jnp.asarray([[1.0, 2.0], [3.0, 5.0]]), jnp.asarray(1)).tolist()
    [2.0, 5.0]
    """
    if target.ndim and target.shape[0] != outputs.shape[1]:
        raise InputError(f"got weights of {target.shape[0]} classes, but the network has {outputs.shape[1]}")
    # Full precision: GPUs would round the factors by default.
    with jax.default_matmul_precision("highest"):
        return jax.vmap(lambda one: target_score(one, target))(outputs)


def as_target(target: Numbers) -> Target:
    """A class index or one weight per class, given as a number, a list or an array.

    Raises `InputError` for anything else.

    >>> as_target(2).item(), as_target([0.5, -0.5]).tolist()
    (2, [0.5, -0.5])
    """
    try:
        array = jnp.asarray(as_number(target))
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            "target must be the index of a class or one floating weight per class, got "
            f"{shorten(repr(target))}"
        ) from None
    if array.ndim == 1 and jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if array.ndim or not jnp.issubdtype(array.dtype, jnp.integer):
        raise InputError(
            "target must be the index of a class, a whole number, or one floating weight per class, got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array


def as_map(values: Numbers) -> Float[Array, "..."]:
    """A map that is given as an array or a list, of floats.

    >>> as_map([[0, 1], [2, 3]]).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        # Not through JAX's integers, which have 32 bits.
        return jnp.asarray(values.astype(np.float32))
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.float32)


def as_order(values: Numbers) -> Float[Array, "..."]:
    """A map of which only the order of the values counts: its values, or their ranks where JAX would round
    them, and with that make some equal, zero or infinite.

    >>> as_order(np.asarray([1 + 2e-9, 1 + 1e-9, 1.0])).tolist(), as_order(jnp.asarray([0.5])).tolist()
    ([2.0, 1.0, 0.0], [0.5])
    """
    if not (isinstance(values, np.ndarray) and values.dtype.itemsize > 4):
        return as_map(values)
    _, ranks = np.unique(values, return_inverse=True)
    ordered = ranks.reshape(values.shape).astype(np.float32)
    return jnp.asarray(np.where(np.isnan(values), np.float32(np.nan), ordered))


def check_heatmap(
    image: Float[Array | np.ndarray, "h w c"], heatmap: Float[Array | np.ndarray, "rows columns"]
) -> None:
    """Raise `InputError` unless the heat map has the image's rows and columns.

    >>> check_heatmap(jnp.ones((2, 3, 1)), jnp.ones((3, 2)))
    Traceback (most recent call last):
    dmbp_jax.InputError: the heat map must have the image's rows and columns (2, 3), got (3, 2)
    """
    if heatmap.shape != image.shape[:2]:
        raise InputError(
            f"the heat map must have the image's rows and columns {image.shape[:2]}, got {heatmap.shape}"
        )
