"""Infidelity: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of Explanations",
NeurIPS 2019.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax.checks import InputError
from dmbp_jax.metrics.perturbation import Perturb, remove_square
from dmbp_jax.metrics.variants import as_map, as_target, class_outputs, in_chunks, target_scores
from dmbp_jax.typing import Images, Key, Numbers, Target


class Infidelity(NamedTuple):
    """A mean squared error in the unit of the score, squared; 0 is best."""

    unscaled: Float[Array, ""]
    """Of the values as they are: Definition 2.1."""
    scaled: Float[Array, ""]
    """Of the values times the number that suits them best, which may be negative: what the authors' program
    reports. Maps in any unit can be compared; never above `unscaled`."""


def infidelity(
    logits: Callable[[Images], Float[Array, "n k"]],
    image: Float[Array | np.ndarray, "h w c"],
    values: Float[Array | np.ndarray, "..."] | Numbers,
    target: Target | Numbers,
    *,
    key: Key,
    perturb: Perturb = remove_square,
    n_samples: int = 200,
    chunk_size: int = 32,
) -> Infidelity:
    """How wrong the explanation is about what removing a part of the image does to the score.

    `E_I [(<I, V> - d)^2]` with `d = f(x) - f(x - I)`, the fall of the score (Definition 2.1), and the minimum
    of `E_I [(b <I, V> - d)^2]` over `b`, which is at `b = E[<I, V> d] / E[<I, V>^2]` (the authors'
    `get_exp_infid`, github.com/chihkuanyeh/saliency_evaluation; Captum's `normalize`). Lower is better. It
    grows with the square of the logits: compare methods on one network, and expect photographs with large
    logits to rule a mean.

    Quantus' `Infidelity` blacks out patch after patch without restoring the ones before, and takes slopes
    times `x - x'`; given the same perturbed images the two agree.

    Args:
        logits: `(n, k)` of normalised images `(n, h, w, c)`, or whatever scores the values explain; called
            with one chunk at a time.
        image: `(h, w, c)`, as the network takes it.
        values: `(h, w, c)`, or summed over channels `(h, w)`, in the unit of the score.
        target: a class index, which may be traced, or one weight per class, `(k,)`.
        key: a random key. What is drawn does not depend on `chunk_size`.
        perturb: what is removed. `dmbp_jax.metrics.remove_square`, the paper's choice for contributions
            ("global" explanations, such as gradient x input and every map of this package);
            `dmbp_jax.metrics.noisy_baseline`, its choice for slopes; or a function of your own.
        n_samples: how many perturbations are drawn. Ours; the authors take all 5605 squares of 28 x 28.
        chunk_size: images that go through the network at once, at most.

    Returns:
        Both; NaN if the values are not finite. Of values that are zero throughout `scaled` is the mean square
        of the falls, the most that it can be.

    Raises:
        InputError: values of another shape than the image's or, with a perturbation that tells channels
            apart, without channels; option below 1.

    >>> seen = lambda x: x.sum(axis=(1, 2))  # a linear network of three classes, one for each colour
    >>> image = jnp.asarray(np.random.default_rng(0).random((8, 8, 3)), jnp.float32)
    >>> gradient_x_input = image * jnp.asarray([0.0, 1.0, 0.0])[None, None]
    >>> found = infidelity(seen, image, gradient_x_input, jnp.asarray(1), key=jax.random.key(0))
    >>> found.unscaled.round(6).item(), found.scaled.round(6).item()
    (0.0, 0.0)
    """
    if n_samples < 1:
        raise InputError(f"n_samples must be at least 1, got {n_samples}")
    image, values, target = jnp.asarray(image), as_map(values), as_target(target)
    if values.shape not in (image.shape, image.shape[:2]):
        raise InputError(f"values must have the shape {image.shape} or {image.shape[:2]}, got {values.shape}")

    def look(numbers: Int[Array, "size"]) -> tuple[Float[Array, "size"], Float[Array, "size"]]:
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
        shown, removed = jax.vmap(perturb, in_axes=(0, None))(keys, image)
        claimed = jax.vmap(lambda one: _claim(one, values))(removed)
        return claimed, target_scores(class_outputs(logits, shown), target)

    whole = target_scores(class_outputs(logits, image[None]), target)
    claimed, left = in_chunks(look, n_samples, chunk_size=chunk_size)
    fall = whole - left
    claimed = claimed.astype(fall.dtype)
    size = (claimed * claimed).mean()
    scale = (claimed * fall).mean() / jnp.where(size > 0, size, 1)
    return Infidelity(((claimed - fall) ** 2).mean(), ((scale * claimed - fall) ** 2).mean())


def _claim(removed: Float[Array, "..."], values: Float[Array, "..."]) -> Float[Array, ""]:
    """What the values say that the score loses."""
    if removed.ndim > values.ndim:
        raise InputError(
            f"this perturbation tells channels apart: give values of shape {removed.shape}, not their sum"
        )
    by_channel = removed[..., None] if removed.ndim < values.ndim else removed
    return (by_channel.astype(values.dtype) * values).sum()
