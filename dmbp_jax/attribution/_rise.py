"""Maps that use no gradient: RISE, and a random map to compare with."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmbp_jax._checks import InputError, check_is_image
from dmbp_jax._ranges import Share, check_range, check_whole
from dmbp_jax.ops import Loop, iterative, probabilities, target_score
from dmbp_jax.ops._derivatives import check_output
from dmbp_jax.ops._resample import full_along
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.typing import Apply, Image, Key, OutputActivation, Params, Target

# RISE: Petsiuk, Das, Saenko, "Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.


@iterative
def rise(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    n_masks: int = 4000,
    cells: int = 7,
    probability: Share = 0.5,
    perturbations_per_eval: int = 32,
    output: OutputActivation | None = None,
) -> Loop:
    """The mean of random masks, each weighted by the target's probability of the masked image.

    `S = 1 / (N p) sum_i f(x * M_i) M_i` (Eq. 6), where `f` is the probability of the target, `p` the expected
    value of a mask and `M_i` a random mask: a grid of ones and zeros, upsampled and shifted (Section 3.2; see
    `mask_from_grid`). Masked pixels have the value 0 of the normalised image. No gradient is needed.

    Args:
        apply: the network.
        params: its parameters.
        image: `(h, w, c)`, as the network takes it.
        target: a class index, or one weight per class: `(k,)`, explaining the weighted sum of the
            probabilities.
        key: a random key, required; the same key gives the same masks.
        n_masks: how many; the paper uses 4000 for VGG-16 and 8000 for ResNet-50 (Section 4). The command does
            so by the network's name; here the default is 4000 for every network.
        cells: of the grid, per side.
        probability: that a cell is kept, in (0, 1].
        perturbations_per_eval: masked images in one forward pass. Memory grows with it and not with
            `n_masks`; the result does not depend on it, except for rounding.
        output: what makes probabilities of logits: `"softmax"`, or `"sigmoid"` for networks whose classes do
            not exclude each other, such as those trained for VOC. None: a sigmoid of a single logit, a
            softmax of several.

    Returns:
        `values` of shape `(h, w, 1)`, a probability. An irrelevant pixel's value is not zero but the mean
        probability of the masked images.

    Raises:
        InputError: no key, unknown `output`, a softmax of one logit, option out of range.

    >>> black_box = lambda params, x, rule=None: x.mean(axis=(1, 2))
    >>> a = rise(black_box, {}, jnp.ones((8, 9, 3)), jnp.asarray(0), key=jax.random.key(0), n_masks=5)
    >>> a.values.shape
    (8, 9, 1)
    """
    check_is_image(image.shape, "rise")
    if key is None:
        raise InputError("rise draws random masks: pass a key, for example key=jax.random.key(0)")
    check_output(output)
    for name, value in (
        ("n_masks", n_masks),
        ("cells", cells),
        ("perturbations_per_eval", perturbations_per_eval),
    ):
        check_whole(name, value, least=1)
    check_range("probability", probability, Share)

    size = (image.shape[0], image.shape[1])
    dtype = np.promote_types(image.dtype, np.float32)
    chunk = min(perturbations_per_eval, n_masks)

    def mask(number: Int[Array, ""]) -> Float[Array, "h w"]:
        # A key per mask, and not per chunk, so that the masks are the same for every chunk size.
        grid, shift = draw_grid(jax.random.fold_in(key, number), size, cells, probability)
        return mask_from_grid(grid.astype(dtype), shift, size)

    def add(total: Float[Array, "h w"], number: Int[Array, ""]) -> Float[Array, "h w"]:
        numbers = number * chunk + jnp.arange(chunk, dtype=jnp.int32)
        masks = jax.vmap(mask)(numbers)
        logits = apply(params, image[None] * masks[..., None].astype(image.dtype))
        seen = jax.vmap(lambda one: target_score(probabilities(one, output), target))(logits.astype(dtype))
        seen = jnp.where(numbers < n_masks, seen, 0)
        return total + jnp.einsum("n,nhw->hw", seen, masks, precision="highest")

    def finish(total: Float[Array, "h w"]) -> Attribution:
        return attribution((total / (n_masks * probability)).astype(image.dtype)[..., None])

    return Loop(-(-n_masks // chunk), full_along(image, size, 0, dtype), add, finish)


def draw_grid(
    key: Key, size: tuple[int, int], cells: int, probability: Share
) -> tuple[Float[Array, "s s"], Int[Array, "2"]]:
    """The random part of one mask: a grid of zeros and ones, and a shift of up to a cell, in pixels."""
    of_grid, of_shift = jax.random.split(key)
    # In single precision also under `jax_enable_x64`, so that a key gives the same masks.
    grid = jax.random.bernoulli(of_grid, jnp.float32(probability), (cells, cells)).astype(jnp.float32)
    cell = jnp.asarray([cell_size(length, cells) for length in size], jnp.int32)
    return grid, jax.random.randint(of_shift, (2,), 0, cell, jnp.int32)


def mask_from_grid(
    grid: Float[Array, "s s"], shift: Int[Array, "2"], size: tuple[int, int]
) -> Float[Array, "h w"]:
    """A mask of `size` (rows, columns): the grid, upsampled by bilinear interpolation and cropped at `shift`.

    With cells of `ceil(h / s) x ceil(w / s)` pixels the grid is stretched over `s + 1` cells per side, one
    more than the image has, so that it can be cropped at any shift smaller than a cell (Section 3.2).
    Interpolation has half-pixel centres, and mirrors the grid about the centres of its outermost elements, as
    the authors' program does (scikit-image's `resize` with `mode="reflect"`).

    >>> mask_from_grid(jnp.asarray([[0.0, 1.0], [0.0, 1.0]]), jnp.asarray([0, 1]), (2, 2)).shape
    (2, 2)
    """
    rows, columns = (
        jax.lax.dynamic_slice_in_dim(jnp.asarray(_stretch(grid.shape[0], length), grid.dtype), at, length)
        for length, at in zip(size, shift, strict=True)
    )
    return jnp.einsum("hi,ij,wj->hw", rows, grid, columns, precision="highest")


def cell_size(length: int, cells: int) -> int:
    """Pixels per cell along an axis, rounded up."""
    return math.ceil(length / cells)


def _stretch(cells: int, length: int) -> Float[np.ndarray, "up s"]:
    """The matrix that interpolates `cells` numbers at `(cells + 1) * cell_size` pixels."""
    pixels = (cells + 1) * cell_size(length, cells)
    places = np.abs((np.arange(pixels) + 0.5) * cells / pixels - 0.5)
    places = np.clip(np.minimum(places, 2 * (cells - 1) - places), 0, cells - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(cells)[None]), 0)


# A random map: the level that every method should exceed.


def random_map(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """One standard normal number per pixel, `(h, w, 1)`, independent of network and image.

    Raises `InputError` without a `key`.

    >>> image, target = jnp.ones((2, 4, 3)), jnp.asarray(0)
    >>> random_map(lambda params, x, rule=None: x, {}, image, target, key=jax.random.key(0)).values.shape
    (2, 4, 1)
    """
    check_is_image(image.shape, "random")
    if key is None:
        raise InputError("random_map draws a map: give key=jax.random.key(0)")
    # In single precision, whatever the image's, so that a key gives the same map.
    return attribution(jax.random.normal(key, (*image.shape[:2], 1), jnp.float32).astype(image.dtype))
