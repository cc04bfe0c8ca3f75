"""The parts of the map kept apart: what they are, and the unit in which they are told."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import tiny_network

import dmbp_jax
from dmbp_jax.dmbp._optimization import cell_sums, keep_apart

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def branches():
    """What two branches may come to: both carry both signs, on scales of their own."""
    positive, negative, plain = (RNG.normal(size=(14, 21, 3)).astype(np.float32) for _ in range(3))
    return 1e12 * (positive + 0.3), 1e7 * (negative - 0.3), plain


def loops(plain):
    """Positive and negative mass of cells of two by two pixels, one after the other."""
    red = blue = 0.0
    for row, column in itertools.product(range(0, 14, 2), range(0, 21, 2)):
        cell = float(np.sum(plain[row : row + 2, column : column + 2], dtype=np.float64))
        red, blue = red + max(cell, 0.0), blue + min(cell, 0.0)
    return red, blue


def test_what_is_kept_is_what_the_best_mask_of_the_image_leaves():
    """Of all masks of zeros and ones at the image, by trying each."""
    values = RNG.normal(size=(2, 2, 2)).astype(np.float32)
    masks = np.asarray(list(itertools.product((0, 1), repeat=8))).reshape(-1, 2, 2, 2)
    scores = (masks * values).sum(axis=(1, 2, 3))
    red, blue = keep_apart(jnp.asarray(values), jnp.asarray(values), jnp.asarray(values))
    np.testing.assert_array_equal(masks[scores.argmax()] == 1, red > 0)
    np.testing.assert_array_equal(masks[scores.argmin()] == 1, blue < 0)


def test_shapes_are_the_branches_and_masses_the_cells(branches):
    red, blue = keep_apart(*map(jnp.asarray, branches))
    positive, negative, plain = branches
    mass = loops(plain)
    kept = np.maximum(positive, 0).astype(np.float64), np.minimum(negative, 0).astype(np.float64)
    np.testing.assert_allclose(red, mass[0] * kept[0] / kept[0].sum(), rtol=1e-4)
    np.testing.assert_allclose(blue, mass[1] * kept[1] / kept[1].sum(), rtol=1e-4)
    np.testing.assert_allclose(red.sum() + blue.sum(), plain.sum(dtype=np.float64), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e36])
def test_the_scale_of_the_masks_does_not_matter(branches, scale):
    positive, negative, plain = map(jnp.asarray, branches)
    ours = keep_apart(positive / 1e12 * scale, negative / 1e7 * scale, plain)
    for one, other in zip(ours, keep_apart(positive, negative, plain), strict=True):
        assert jnp.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_a_branch_with_nothing_to_keep_is_zero_and_not_nan():
    ones = jnp.ones((14, 14, 3))
    red, blue = keep_apart(-ones, ones, ones)
    assert not red.any()
    assert not blue.any()


def test_the_order_of_the_logits_sign_exchanges_the_parts(branches):
    positive, negative, plain = map(jnp.asarray, branches)
    red, blue = keep_apart(positive, negative, plain)
    other_red, other_blue = keep_apart(-negative, -positive, -plain)
    np.testing.assert_allclose(other_red, -blue, rtol=1e-6)
    np.testing.assert_allclose(other_blue, -red, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "cells"),
    [((5,), (5,)), ((20, 3), (10,)), ((224, 448, 3), (7, 14)), ((15, 14, 1), (8, 7)), ((6, 9, 2), (6, 9))],
)
def test_cells_of_every_shape(shape, cells):
    values = jnp.asarray(RNG.normal(size=shape).astype(np.float32))
    sums = cell_sums(values)
    assert sums.shape == cells
    np.testing.assert_allclose(sums.sum(), values.sum(), rtol=1e-3, atol=1e-3)


# DMBP as a whole.


@pytest.mark.parametrize("options", [{"preset": "fast"}, {"steps": 3, "parts_apart": True}])
@pytest.mark.parametrize("weights", [None, [1.0, -1.0], [0.0, -1.0]])
def test_signs_sums_and_scores(network, options, weights):
    apply, params, images = network
    classes = apply(params, images).shape[1]
    target = jnp.eye(classes)[:3]
    if weights is not None:
        target = jnp.zeros((3, classes)).at[:, :2].set(jnp.asarray(weights))
    a = dmbp_jax.explain(apply, params, images, target, **options)
    assert a.finite.all()
    assert (a.positive >= 0).all()
    assert (a.negative <= 0).all()
    np.testing.assert_array_equal(a.values, a.positive + a.negative)
    np.testing.assert_allclose(a.scores.total, (apply(params, images) * target).sum(axis=1), rtol=1e-4)
    for part, score in ((a.positive, a.scores.positive), (a.negative, a.scores.negative)):
        np.testing.assert_allclose(part.sum(axis=(1, 2, 3)), score, rtol=1e-4)
    np.testing.assert_allclose(sum(a.scores[1:]), a.scores.total, atol=1e-5)
    # What is no part's is the biases'.
    plain = dmbp_jax.explain(apply, params, images, target, "gradient_x_input")
    np.testing.assert_allclose(
        a.scores.nuisance, a.scores.total - plain.values.sum(axis=(1, 2, 3)), atol=1e-4
    )


def test_the_papers_map_is_the_sum_and_its_branches_carry_both_signs(network):
    apply, params, images = network
    whole = dmbp_jax.explain(apply, params, images, [1, 2, 3], steps=3)
    assert (whole.positive < 0).any()
    assert (whole.negative > 0).any()
    apart = dmbp_jax.explain(apply, params, images, [1, 2, 3], steps=3, parts_apart=True)
    np.testing.assert_array_equal(apart.positive > 0, whole.positive > 0)
    np.testing.assert_array_equal(apart.negative < 0, whole.negative < 0)


def test_the_history_tells_of_the_branches_and_not_of_the_parts(network):
    apply, params, images = network
    options = {"steps": 3, "return_history": True}
    whole, apart = (
        dmbp_jax.explain(apply, params, images, [1, 2, 3], parts_apart=flag, **options)
        for flag in (False, True)
    )
    np.testing.assert_allclose(apart.history.positive, whole.history.positive, rtol=1e-5)
    assert not np.allclose(apart.scores.positive, whole.scores.positive)


def test_a_contrast_turned_round_exchanges_the_parts(network):
    """Up to rounding: each branch then does what the other did."""
    apply, params, images = network
    with jax.enable_x64(True):
        params, images = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, images))
        there, back = (
            dmbp_jax.explain(
                apply,
                params,
                images,
                sign * jnp.stack([dmbp_jax.contrast(1, 2, classes=10)] * 3),
                preset="fast",
            )
            for sign in (1.0, -1.0)
        )
        np.testing.assert_allclose(back.positive, -there.negative, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(back.scores.negative, -there.scores.positive, rtol=1e-6)
