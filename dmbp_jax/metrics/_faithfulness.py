"""Infidelity, sensitivity-n and max-sensitivity: maps compared with the effect of perturbations."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax._checks import InputError
from dmbp_jax._ranges import NonNegative, check_range, check_whole
from dmbp_jax.metrics._curves import Baseline, make_baseline
from dmbp_jax.metrics._variants import (
    as_map,
    as_target,
    check_heatmap,
    class_outputs,
    in_chunks,
    target_scores,
)
from dmbp_jax.typing import Image, Images, Key, Numbers, Target

# Perturbations of infidelity: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of
# Explanations", NeurIPS 2019 (Section 2.3).

MAX_SIDE = 10 / 28
"""Of the authors' squares, as a share of their images' side (`get_exp_infid`)."""


class Perturbation(NamedTuple):
    """A perturbed image, and what was removed."""

    image: Float[Array, "h w c"]
    """The perturbed image."""
    removed: Float[Array, "..."]
    """The factors of the explanation's values in the predicted change of the output. `(h, w)`: 1 where a
    pixel is removed, for values that are contributions, such as gradient x input. `(h, w, c)`: the image
    minus the perturbed image, for values that are slopes, such as the gradient."""


Perturb = Callable[[Key, Image], Perturbation]
"""A random perturbation of an image."""


def remove_square(
    key: Key,
    image: Float[Array | np.ndarray, "h w c"],
    *,
    max_side: int | None = None,
    baseline: Baseline = "zero",
) -> Perturbation:
    """A square of the image replaced by the baseline: the paper's square removal, for contributions.

    Every square of 1 to `max_side` pixels a side that lies in the image is equally likely; the authors'
    program uses each of them once.

    Args:
        key: a random key.
        image: `(h, w, c)`, as the network takes it.
        max_side: pixels. Default: 10 / 28 of the shorter side, the authors' value on MNIST.
        baseline: what replaces the square, by default 0 of the normalised image; as for
            `dmbp_jax.metrics.insertion`. The authors' is black.

    Returns:
        The image, and `removed`, `(h, w)`: 1 in the square.

    Raises:
        InputError: a side that is below 1 or longer than the image, baseline of the wrong shape.

    >>> _, removed = remove_square(jax.random.key(0), jnp.ones((6, 8, 3)), max_side=1)
    >>> removed.shape, removed.sum().item()
    ((6, 8), 1.0)
    """
    image = jnp.asarray(image)
    height, width, _ = image.shape
    longest = math.ceil(MAX_SIDE * min(height, width)) if max_side is None else max_side
    check_whole("max_side", longest, least=1, most=min(height, width), why=", the image's shorter side")
    sides = np.arange(1, longest + 1, dtype=np.int32)
    squares = (height - sides + 1) * (width - sides + 1)
    for_side, for_top, for_left = jax.random.split(key, 3)
    side = jax.random.choice(for_side, sides, p=jnp.asarray(squares / squares.sum(), jnp.float32))
    top = jax.random.randint(for_top, (), 0, height - side + 1)
    left = jax.random.randint(for_left, (), 0, width - side + 1)
    down = jnp.arange(height, dtype=jnp.int32) - top
    across = jnp.arange(width, dtype=jnp.int32) - left
    inside = ((down >= 0) & (down < side))[:, None] & ((across >= 0) & (across < side))[None]
    left_over = jnp.where(inside[..., None], make_baseline(image, baseline), image)
    return Perturbation(left_over, inside.astype(image.dtype))


def noisy_baseline(
    key: Key,
    image: Float[Array | np.ndarray, "h w c"],
    *,
    noise_level: float | int = 0.2,
    baseline: Baseline = "zero",
) -> Perturbation:
    """The whole image replaced by the baseline plus noise: the paper's noisy baseline, for slopes.

    Args:
        key: a random key.
        image: `(h, w, c)`, as the network takes it.
        noise_level: the standard deviation, as a share of the image's own range `max - min`; the authors' is
            0.2 of images in [0, 1].
        baseline: as in `remove_square`.

    Returns:
        The baseline plus noise, and `removed`, `(h, w, c)`: the image minus that.

    >>> image = jnp.ones((2, 2, 1)).at[0].set(3.0)
    >>> shown, removed = noisy_baseline(jax.random.key(0), image, noise_level=0.0)
    >>> shown.max().item(), (removed == image).all().item()
    (0.0, True)
    """
    image = jnp.asarray(image)
    deviation = noise_level * (image.max() - image.min())
    noise = deviation * jax.random.normal(key, image.shape, image.dtype)
    shown = make_baseline(image, baseline) + noise
    return Perturbation(shown, image - shown)


# Infidelity: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of Explanations",
# NeurIPS 2019.


class Infidelity(NamedTuple):
    """A mean squared error in the unit of the score, squared; 0 is best."""

    unscaled: Float[Array, ""]
    """Of the values without scaling: Definition 2.1."""
    scaled: Float[Array, ""]
    """Of the values times the factor that minimises it, which may be negative, as in the authors' program.
    Maps in different units can be compared; never above `unscaled`."""


def infidelity(
    logits: Callable[[Images], Float[Array, "n k"]],
    image: Float[Array | np.ndarray, "h w c"],
    values: Float[Array | np.ndarray, "..."] | Numbers,
    target: Target | Numbers,
    *,
    key: Key,
    perturb: Perturb = remove_square,
    n_samples: int = 200,
    perturbations_per_eval: int = 32,
) -> Infidelity:
    """The squared error of the change of the score that the explanation predicts when a part is removed.

    `E_I [(<I, V> - d)^2]` with `d = f(x) - f(x - I)`, the fall of the score (Definition 2.1), and the minimum
    of `E_I [(b <I, V> - d)^2]` over `b`, which is at `b = E[<I, V> d] / E[<I, V>^2]` (the authors'
    `get_exp_infid`, github.com/chihkuanyeh/saliency_evaluation; Captum's `normalize`). Lower is better. It
    grows with the square of the logits: compare methods on one network; photographs with large logits
    dominate a mean.

    Quantus' `Infidelity` blackens patch after patch without restoring the previous ones, and multiplies
    slopes by `x - x'`; on the same perturbed images both agree.

    Args:
        logits: `(n, k)` of normalised images `(n, h, w, c)`, or whatever scores the values explain; called
            with one chunk at a time.
        image: `(h, w, c)`, as the network takes it.
        values: `(h, w, c)`, or summed over channels `(h, w)`, in the unit of the score.
        target: a class index, which may be traced, or one weight per class, `(k,)`.
        key: a random key. What is drawn does not depend on `perturbations_per_eval`.
        perturb: what is removed. `dmbp_jax.metrics.remove_square`, the paper's choice for contributions
            ("global" explanations, such as gradient x input and every map of this package);
            `dmbp_jax.metrics.noisy_baseline`, its choice for slopes; or a function of your own.
        n_samples: how many perturbations are drawn. The authors use all 5605 squares of 28 x 28 pixels.
        perturbations_per_eval: images in one forward pass, at most.

    Returns:
        Both; NaN if the values are not finite. For values that are all zero, `scaled` is the mean square of
        the changes of the score, its maximum.

    Raises:
        InputError: values whose shape is not the image's; values without channels where the perturbation has
            channels; option below 1.

    >>> seen = lambda x: x.sum(axis=(1, 2))  # a linear network of three classes, one for each colour
    >>> image = jnp.asarray(np.random.default_rng(0).random((8, 8, 3)), jnp.float32)
    >>> gradient_x_input = image * jnp.asarray([0.0, 1.0, 0.0])[None, None]
    >>> found = infidelity(seen, image, gradient_x_input, jnp.asarray(1), key=jax.random.key(0))
    >>> found.unscaled.round(6).item(), found.scaled.round(6).item()
    (0.0, 0.0)
    """
    check_whole("n_samples", n_samples, least=1)
    image, values, target = jnp.asarray(image), as_map(values), as_target(target)
    if values.shape not in (image.shape, image.shape[:2]):
        raise InputError(f"values must have the shape {image.shape} or {image.shape[:2]}, got {values.shape}")

    def look(numbers: Int[Array, "size"]) -> tuple[Float[Array, "size"], Float[Array, "size"]]:
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
        shown, removed = jax.vmap(perturb, in_axes=(0, None))(keys, image)
        claimed = jax.vmap(lambda one: _claim(one, values))(removed)
        return claimed, target_scores(class_outputs(logits, shown), target)

    whole = target_scores(class_outputs(logits, image[None]), target)
    claimed, left = in_chunks(look, n_samples, perturbations_per_eval=perturbations_per_eval)
    fall = whole - left
    claimed = claimed.astype(fall.dtype)
    size = (claimed * claimed).mean()
    scale = (claimed * fall).mean() / jnp.where(size > 0, size, 1)
    return Infidelity(((claimed - fall) ** 2).mean(), ((scale * claimed - fall) ** 2).mean())


def _claim(removed: Float[Array, "..."], values: Float[Array, "..."]) -> Float[Array, ""]:
    """The fall of the score that the values predict."""
    if removed.ndim > values.ndim:
        raise InputError(
            f"this perturbation differs between channels: give values of shape {removed.shape}, not their sum"
        )
    by_channel = removed[..., None] if removed.ndim < values.ndim else removed
    return (by_channel.astype(values.dtype) * values).sum()


# Sensitivity-n: Ancona, Ceolini, Öztireli, Gross, "Towards Better Understanding of Gradient-based Attribution
# Methods for Deep Neural Networks", ICLR 2018.

LARGEST_SHARE = 0.8
"""Of the pixels: about where the paper's curves end."""
N_SIZES = 10


class SensitivityN(NamedTuple):
    """The correlation of a map's sum over pixels with the effect of removing them."""

    correlation: Float[Array, "sizes"]
    """Pearson's, in [-1, 1], for each size of the subsets; NaN where the map or the score does not vary."""
    sizes: Int[Array, "sizes"]
    """How many pixels are removed at once."""


def sensitivity_n(
    logits: Callable[[Images], Float[Array, "n k"]],
    image: Float[Array | np.ndarray, "h w c"],
    heatmap: Float[Array | np.ndarray, "rows columns"] | Numbers,
    target: Target | Numbers,
    *,
    key: Key,
    sizes: Sequence[int] | None = None,
    n_subsets: int = 100,
    baseline: Baseline = "zero",
    perturbations_per_eval: int = 32,
) -> SensitivityN:
    """The correlation of a subset's share of the map with the fall of the score without that subset.

    For each `n` of `sizes`, Pearson's correlation of `sum_{p in S} M_p` and `f(x) - f(x without S)` over
    random subsets `S` of `n` pixels (Section 4, "Sensitivity-n"). Higher is better; 1 for every `n` means
    that the map satisfies sensitivity-n up to a factor, which for all `n` only a linear network allows
    (Proposition 1).

    Quantus' `SensitivityN` is another measure: it removes pixels one after the other in the order of the map
    and correlates, *over the images of a batch*, each removed pixel's value with the fall of the score from
    the whole image. It has no subsets, and no result for one image.

    Args:
        logits: `(n, k)` of normalised images `(n, h, w, c)`, or whatever scores the map explains; called with
            one chunk at a time.
        image: `(h, w, c)`, as the network takes it.
        heatmap: `(h, w)`.
        target: a class index, which may be traced, or one weight per class, `(k,)`.
        key: a random key. What is drawn does not depend on `perturbations_per_eval`.
        sizes: of the subsets, each from 1 to one less than the number of pixels. Default: ten from 1 pixel to
            80 % of the pixels, evenly spaced on a logarithmic scale; the paper's range.
        n_subsets: of each size, at least 2; 100 in the paper. A correlation of 100 pairs is known to within
            about 0.2 where it is near 0.
        baseline: what replaces a removed pixel: 0 of the normalised image in the paper; as for
            `dmbp_jax.metrics.insertion`.
        perturbations_per_eval: images in one forward pass, at most.

    Raises:
        InputError: heat map, baseline or weights of the wrong shape, option out of range.

    >>> seen = lambda x: x.sum(axis=(1, 2))
    >>> image = jnp.asarray(np.random.default_rng(0).random((4, 5, 1)), jnp.float32)
    >>> options = {"key": jax.random.key(0), "sizes": (1, 7)}
    >>> sensitivity_n(seen, image, image[..., 0], jnp.asarray(0), **options).correlation.round(5).tolist()
    [1.0, 1.0]
    """
    image, heatmap, target = jnp.asarray(image), as_map(heatmap), as_target(target)
    check_heatmap(image, heatmap)
    pixels = heatmap.size
    if sizes is None:
        spaced = np.geomspace(1, max(LARGEST_SHARE * pixels, 1), N_SIZES)
        sizes = np.unique(spaced.round().astype(int)).tolist()
    if not len(sizes):
        raise InputError("sizes must be one or several numbers of pixels, got none")
    for size in sizes:
        check_whole("each of sizes", size, least=1, most=pixels - 1, why=" pixels")
    check_whole("n_subsets", n_subsets, least=2)
    replacement = make_baseline(image, baseline)
    of_each = jnp.asarray(sizes, jnp.int32)

    def look(numbers: Int[Array, "size"]) -> tuple[Float[Array, "size"], Float[Array, "size"]]:
        def draw(number: Int[Array, ""]) -> Array:
            places = jax.random.permutation(jax.random.fold_in(key, number), pixels)
            return places.reshape(heatmap.shape) < of_each[number // n_subsets]

        removed = jax.vmap(draw)(numbers)
        shown = jnp.where(removed[..., None], replacement[None], image[None])
        claimed = jnp.where(removed, heatmap[None], 0).sum(axis=(1, 2))
        return claimed, target_scores(class_outputs(logits, shown), target)

    claimed, left = in_chunks(look, len(sizes) * n_subsets, perturbations_per_eval=perturbations_per_eval)
    by_size = (len(sizes), n_subsets)
    # The whole image's score is the same for all subsets, so the remaining score falls as the loss rises.
    correlation = -jax.vmap(_pearson)(claimed.astype(left.dtype).reshape(by_size), left.reshape(by_size))
    # Sums of equal numbers differ by rounding, and the rounding errors would be correlated.
    varies = heatmap.max() > heatmap.min()
    finite = jnp.isfinite(heatmap).all()
    return SensitivityN(jnp.where(varies & finite, correlation, jnp.nan), of_each)


def _pearson(a: Float[Array, "n"], b: Float[Array, "n"]) -> Float[Array, ""]:
    a, b = (values - values.mean() for values in (a, b))
    a, b = (values / jnp.abs(values).max() for values in (a, b))
    return (a * b).sum() / jnp.sqrt((a * a).sum() * (b * b).sum())


# Max-sensitivity: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of
# Explanations", NeurIPS 2019.


def max_sensitivity(
    explain: Callable[[Images], Float[Array | np.ndarray, "..."]],
    image: Float[Array | np.ndarray, "h w c"],
    values: Float[Array | np.ndarray, "..."],
    *,
    key: Key,
    radius: float | int = 0.1,
    n_samples: int = 50,
) -> Float[Array, ""]:
    """The largest relative change of the explanation under small noise.

    `max_e ||V(x + e) - V(x)|| / ||V(x)||` over `n_samples` draws of noise `e`, every number of it uniform in
    `[-r, r]` (Definition 3.1, by Monte-Carlo; the division is in the authors' program `infid_sen_utils.py`,
    in Captum and in Quantus, not in the definition). Norms are Euclidean. Lower is better. An explanation
    that does not depend on the image has 0, so read it beside infidelity, as the paper does. It grows with
    `n_samples`: compare values of the same `n_samples` only.

    Quantus' `MaxSensitivity` is the same with `lower_bound=r` in the image's own unit (0.2, 200 draws); so is
    Captum's `sensitivity_max` (0.02, 10 draws), except for a map of zeros.

    Args:
        explain: the explanations `(n_samples, ...)` of that many images `(n_samples, h, w, c)`, for the
            target of `values`. It is called once and may process its images in batches; see
            `dmbp_jax.explain`. A method that draws has its own keys, and its noise counts as a change.
        image: `(h, w, c)`, as the network takes it.
        values: the explanation of the image itself, `(h, w)` or `(h, w, c)`.
        key: a random key.
        radius: `r` as a share of the image's own range `max - min`. The authors' is 0.1 of images in [0, 1]
            for contributions, such as gradient x input, and 0.2 for slopes.
        n_samples: how many draws; 50 in the paper.

    Returns:
        The largest change, relative to the explanation itself; NaN if that is all zero, or any explanation is
        not finite.

    Raises:
        InputError: option out of range, `explain` returns another shape than `(n_samples, *values.shape)`.

    Only `explain` compiles. The function may be traced, too:

    >>> noisy = lambda x: x.sum(axis=-1)
    >>> image = jnp.asarray([[[0.0], [1.0]]])
    >>> jax.jit(lambda key: max_sensitivity(noisy, image, image[..., 0], key=key) < 0.15)(jax.random.key(0))
    Array(True, dtype=bool)
    """
    check_whole("n_samples", n_samples, least=1)
    check_range("radius", radius, NonNegative)
    image, values = jnp.asarray(image), jnp.asarray(values)
    noise = jax.random.uniform(key, (n_samples, *image.shape), image.dtype, -1, 1)
    found = jnp.asarray(explain(image[None] + radius * (image.max() - image.min()) * noise))
    if found.shape != (n_samples, *values.shape):
        raise InputError(
            f"explain must return explanations of shape {(n_samples, *values.shape)}, got {found.shape}"
        )
    # Divided by the largest number, no square overflows or underflows.
    largest = jnp.abs(values).max()
    changes = ((found - values[None]) / largest).reshape(n_samples, -1)
    most = jnp.linalg.norm(changes, axis=1).max() / jnp.linalg.norm((values / largest).ravel())
    return jnp.where(jnp.isfinite(most), most, jnp.nan)
