"""RISE: its masks, its mean, its chunks, and what it says of models whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from references import rise as reference
from small import CLASSES, tiny_network

from dmbp_jax import InputError
from dmbp_jax.attribution._rise import cell_size, draw_grid, mask_from_grid, rise

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def network():
    apply, params, images = tiny_network()
    # Far from uniform probabilities, so that their differences show.
    return (lambda params, x: 5 * apply(params, x)), params, images[0]


def draws(key, count, size, cells, probability):
    return zip(
        *(draw_grid(jax.random.fold_in(key, i), size, cells, probability) for i in range(count)), strict=True
    )


@pytest.mark.parametrize(("cells", "size"), [(7, (15, 9)), (3, (6, 8)), (1, (3, 4)), (5, (3, 5))])
def test_a_mask_is_the_shifted_bilinear_grid(cells, size):
    grid = np.random.default_rng(0).random((cells, cells), np.float32)
    for corner in ((0, 0), tuple(cell_size(length, cells) - 1 for length in size)):
        mask = mask_from_grid(jnp.asarray(grid), jnp.asarray(corner), size)
        np.testing.assert_allclose(mask, reference.make_mask(grid, corner, size), atol=1e-6)


def test_a_mask_is_what_the_authors_program_draws():
    """scikit-image's `resize(order=1, mode="reflect")` is this call of SciPy."""
    grid = np.random.default_rng(0).random((7, 7), np.float32)
    up = scipy.ndimage.zoom(grid, (8 * 5 / 7, 8 * 4 / 7), order=1, mode="mirror", grid_mode=True)
    assert up.shape == (40, 32)
    mask = mask_from_grid(jnp.asarray(grid), jnp.asarray([3, 2]), (33, 25))
    np.testing.assert_allclose(mask, up[3:36, 2:27], atol=1e-6)


def test_draws_have_the_given_probability_and_every_shift():
    grids, shifts = jax.vmap(lambda key: draw_grid(key, (14, 21), 7, 0.3))(jax.random.split(KEY, 500))
    assert set(np.unique(grids)) == {0.0, 1.0}
    assert grids.mean() == pytest.approx(0.3, abs=0.01)
    assert set(np.unique(shifts[:, 0])) == {0, 1}
    assert set(np.unique(shifts[:, 1])) == {0, 1, 2}


def test_every_pixel_of_a_mask_expects_the_probability():
    draw = jax.jit(jax.vmap(lambda key: mask_from_grid(*draw_grid(key, (11, 8), 4, 0.3), (11, 8))))
    masks = draw(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(masks.mean(axis=0), 0.3, atol=0.04)
    assert 0 <= masks.min() < masks.max() <= 1 + 1e-6


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_saliency_is_the_references(network, output, weighted):
    apply, params, image = network
    weights = np.zeros(CLASSES, np.float32)
    weights[[3, 5]] = (1, -0.5) if weighted else (1, 0)
    target = jnp.asarray(weights) if weighted else jnp.asarray(3)
    ours = rise(
        apply,
        params,
        image,
        target,
        key=KEY,
        n_masks=10,
        cells=3,
        probability=0.4,
        perturbations_per_eval=4,
        output=output,
    )
    grids, shifts = draws(KEY, 10, (8, 8), 3, 0.4)
    forward = jax.jit(lambda x: apply(params, x[None])[0])
    expected = reference.rise(
        lambda x: forward(jnp.asarray(x, jnp.float32)),
        np.asarray(image),
        weights,
        grids,
        np.asarray(shifts),
        0.4,
        getattr(reference, output),
    )
    assert ours.values.shape == (8, 8, 1)
    assert ours.finite
    np.testing.assert_allclose(ours.heatmap, expected, rtol=1e-4, atol=1e-6)


def test_chunks_do_not_show(network):
    apply, params, image = network
    maps = [
        rise(apply, params, image, jnp.asarray(2), key=KEY, n_masks=11, perturbations_per_eval=size).values
        for size in (1, 4, 11, 64)
    ]
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], rtol=1e-5)


def test_memory_does_not_grow_with_the_number_of_masks(network):
    apply, params, image = network

    def temporary(n_masks):
        run = jax.jit(lambda x: rise(apply, params, x, jnp.asarray(2), key=KEY, n_masks=n_masks).values)
        return run.lower(image).compile().memory_analysis().temp_size_in_bytes

    assert temporary(64_000) <= temporary(64) + 64_000


def test_a_model_that_reads_one_cell_is_explained_by_that_cell():
    """The probability is about 1 where the pixels of one cell are seen, about 0 where not."""

    def apply(params, x):
        seen = x[:, 9:12, 3:6].mean(axis=(1, 2, 3))
        return jnp.stack([20 * (seen - 0.5), jnp.zeros_like(seen)], axis=1)

    a = rise(apply, {}, jnp.ones((15, 15, 1)), jnp.asarray(0), key=KEY, n_masks=2000, cells=5)
    heatmap = np.asarray(a.heatmap)
    assert np.unravel_index(heatmap.argmax(), heatmap.shape) in {
        (i, j) for i in (9, 10, 11) for j in (3, 4, 5)
    }
    inside = heatmap[9:12, 3:6].mean()
    far = np.ones_like(heatmap, bool)
    far[4:, :11] = False
    # Far away, seeing the pixel is independent of seeing the cell: the mean probability, one half.
    np.testing.assert_allclose(heatmap[far].mean(), 0.5, atol=0.03)
    assert inside > 0.75
    assert heatmap[far].max() < inside - 0.1


def test_a_model_that_sees_nothing_gives_its_probability_everywhere():
    def apply(params, x):
        return jnp.broadcast_to(jnp.log(jnp.asarray([[0.2, 0.8]])), (len(x), 2))

    a = rise(apply, {}, jnp.ones((9, 9, 3)), jnp.asarray(1), key=KEY, n_masks=4000, cells=3)
    np.testing.assert_allclose(a.heatmap, 0.8, atol=0.06)


def test_masks_of_ones_see_the_whole_image(network):
    apply, params, image = network
    a = rise(apply, params, image, jnp.asarray(4), key=KEY, n_masks=3, probability=1.0)
    np.testing.assert_allclose(a.heatmap, jax.nn.softmax(apply(params, image[None])[0])[4], rtol=1e-5)


def test_a_key_decides_the_map(network):
    apply, params, image = network
    one, again, other = (
        rise(apply, params, image, jnp.asarray(2), key=jax.random.key(seed), n_masks=8).values
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.1 * one.max()


def test_double_precision_draws_the_same_masks(network, x64):
    apply, params, image = network
    single = rise(apply, params, image, jnp.asarray(2), key=KEY, n_masks=8)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, image))
    double = rise(apply, *wide, jnp.asarray(2), key=KEY, n_masks=8)
    assert (single.values.dtype, double.values.dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_allclose(single.values, double.values, rtol=1e-4)


def test_bad_input_is_one_clear_error(network):
    apply, params, image = network
    for options, message in (
        ({}, r"pass a key.*key=jax.random.key\(0\)"),
        ({"key": KEY, "n_masks": 0}, "n_masks must be at least 1, got 0"),
        ({"key": KEY, "cells": 0}, "cells must be at least 1, got 0"),
        ({"key": KEY, "perturbations_per_eval": -1}, "perturbations_per_eval must be at least 1, got -1"),
        ({"key": KEY, "probability": 0.0}, r"probability must be in \(0, 1\], got 0.0"),
    ):
        with pytest.raises(InputError, match=message):
            rise(apply, params, image, jnp.asarray(0), **options)


def test_an_index_out_of_range_is_flagged(network):
    apply, params, image = network
    assert not rise(apply, params, image, jnp.asarray(CLASSES), key=KEY, n_masks=2).finite
