"""What infidelity does to an image: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and
Sensitivity of Explanations", NeurIPS 2019 (Section 2.3).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.substrate import Substrate, make_substrate
from dmbp_jax.typing import Image, Key

MAX_SIDE = 10 / 28
"""Of the authors' squares, as a share of their images' side (`get_exp_infid`)."""


class Perturbation(NamedTuple):
    """An image from which something is removed."""

    image: Float[Array, "h w c"]
    """What is left."""
    removed: Float[Array, "..."]
    """By what the values of the explanation are multiplied to say what this does to the output. `(h, w)`: 1
    where a pixel is removed, for values that are contributions, such as gradient x input. `(h, w, c)`: the
    image minus what is left of it, for values that are slopes, such as the gradient."""


Perturb = Callable[[Key, Image], Perturbation]
"""A random perturbation of an image."""


def remove_square(
    key: Key,
    image: Float[Array | np.ndarray, "h w c"],
    *,
    max_side: int | None = None,
    substrate: Substrate = "zero",
) -> Perturbation:
    """A square of the image exchanged for the substrate: the paper's square removal, for contributions.

    Every square of 1 to `max_side` pixels a side that lies in the image is as likely as any other; the
    authors' program takes each of them once.

    Args:
        key: a random key.
        image: `(h, w, c)`, as the network takes it.
        max_side: 10 / 28 of the shorter side unless told otherwise, which is the authors' on MNIST.
        substrate: what is seen instead, 0 of the normalised image unless told otherwise; see
            `dmbp_jax.metrics.make_substrate`. The authors' is black.

    Returns:
        The image, and `removed`, `(h, w)`: 1 in the square.

    Raises:
        InputError: a side that is below 1 or longer than the image, substrate of the wrong shape.

    >>> _, removed = remove_square(jax.random.key(0), jnp.ones((6, 8, 3)), max_side=1)
    >>> removed.shape, removed.sum().item()
    ((6, 8), 1.0)
    """
    image = jnp.asarray(image)
    height, width, _ = image.shape
    longest = math.ceil(MAX_SIDE * min(height, width)) if max_side is None else max_side
    if not 1 <= longest <= min(height, width):
        raise InputError(
            f"max_side must be from 1 to {min(height, width)}, the image's shorter side, got {longest}"
        )
    sides = np.arange(1, longest + 1, dtype=np.int32)
    squares = (height - sides + 1) * (width - sides + 1)
    for_side, for_top, for_left = jax.random.split(key, 3)
    side = jax.random.choice(for_side, sides, p=jnp.asarray(squares / squares.sum(), jnp.float32))
    top = jax.random.randint(for_top, (), 0, height - side + 1)
    left = jax.random.randint(for_left, (), 0, width - side + 1)
    down = jnp.arange(height, dtype=jnp.int32) - top
    across = jnp.arange(width, dtype=jnp.int32) - left
    inside = ((down >= 0) & (down < side))[:, None] & ((across >= 0) & (across < side))[None]
    left_over = jnp.where(inside[..., None], make_substrate(image, substrate), image)
    return Perturbation(left_over, inside.astype(image.dtype))


def noisy_baseline(
    key: Key,
    image: Float[Array | np.ndarray, "h w c"],
    *,
    noise_level: float | int = 0.2,
    substrate: Substrate = "zero",
) -> Perturbation:
    """The whole image exchanged for a noisy substrate: the paper's noisy baseline, for slopes.

    Args:
        key: a random key.
        image: `(h, w, c)`, as the network takes it.
        noise_level: the standard deviation, as a share of the image's own range `max - min`; the authors' is
            0.2 of images in [0, 1].
        substrate: as in `remove_square`.

    Returns:
        Noise around the substrate, and `removed`, `(h, w, c)`: the image minus that.

    >>> image = jnp.ones((2, 2, 1)).at[0].set(3.0)
    >>> shown, removed = noisy_baseline(jax.random.key(0), image, noise_level=0.0)
    >>> shown.max().item(), (removed == image).all().item()
    (0.0, True)
    """
    image = jnp.asarray(image)
    deviation = noise_level * (image.max() - image.min())
    noise = deviation * jax.random.normal(key, image.shape, image.dtype)
    shown = make_substrate(image, substrate) + noise
    return Perturbation(shown, image - shown)
