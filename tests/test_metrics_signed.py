"""Metrics of both signs of a map: contrast localisation and counter-evidence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import metrics as reference
from small import tiny_network

from dmbp_jax import InputError
from dmbp_jax.metrics import contrast_localization, counter_evidence
from dmbp_jax.metrics._counter_evidence import SHARES

RNG = np.random.default_rng(0)
LEFT = np.broadcast_to(np.arange(10) < 4, (6, 10))


# Contrast localisation.


def test_the_best_and_the_worst_map_reach_the_bounds():
    best = np.where(LEFT, 1.0, -2.0)
    assert contrast_localization(best, LEFT, ~LEFT) == (1, 1)
    assert contrast_localization(-best, LEFT, ~LEFT) == (0, 0)


def test_a_map_that_knows_nothing_gets_the_shares_of_the_area():
    red, blue = contrast_localization(np.where(np.indices((6, 10)).sum(axis=0) % 2, 1.0, -1.0), LEFT, ~LEFT)
    assert (red, blue) == (0.4, 0.6)


def test_localisation_is_the_loops_on_any_regions():
    heatmap, regions = RNG.normal(size=(6, 10)), RNG.integers(0, 3, (6, 10))
    ours = contrast_localization(jnp.asarray(heatmap, jnp.float32), regions == 1, regions == 2)
    np.testing.assert_allclose(
        ours, reference.contrast_localization(heatmap, regions == 1, regions == 2), rtol=1e-6
    )


def test_exchanging_target_and_other_turns_the_map():
    heatmap = RNG.normal(size=(6, 10))
    assert contrast_localization(heatmap, LEFT, ~LEFT) == contrast_localization(-heatmap, ~LEFT, LEFT)[::-1]


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_scale_of_the_map_does_not_matter(scale):
    heatmap = RNG.normal(size=(6, 10))
    ours = contrast_localization(scale * heatmap, LEFT, ~LEFT)
    np.testing.assert_allclose(ours, contrast_localization(heatmap, LEFT, ~LEFT), rtol=1e-9)


def test_a_side_without_values_has_no_share_rather_than_a_bad_one():
    red, blue = contrast_localization(np.where(LEFT, 1.0, 0.0), LEFT, ~LEFT)
    assert red == 1
    assert np.isnan(blue)
    assert np.isnan(contrast_localization(np.zeros((6, 10)), LEFT, ~LEFT)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_has_no_shares(value):
    heatmap = np.ones((6, 10))
    heatmap[0, 0] = value
    assert np.isnan(contrast_localization(heatmap, LEFT, ~LEFT)).all()


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ((LEFT[:, :5], ~LEFT), "target_region must have the map's shape"),
        ((LEFT, ~LEFT & LEFT), "other_region is empty"),
        ((LEFT, LEFT), "must not overlap, and 24 pixels are in both"),
    ],
)
def test_bad_regions_are_named(regions, message):
    with pytest.raises(InputError, match=message):
        contrast_localization(np.ones((6, 10)), *regions)


# Counter-evidence.


@pytest.fixture(scope="module")
def network():
    apply, params, images = tiny_network()
    return lambda images: apply(params, jnp.asarray(images, jnp.float32)), np.asarray(images[0])


def test_counter_evidence_is_the_loops(network):
    logits, image = network
    heatmap = RNG.normal(size=image.shape[:2]).astype(np.float32)
    ours = counter_evidence(logits, image, heatmap, jnp.asarray(2))
    expected = reference.counter_evidence(lambda x: logits(x[None])[0], image, heatmap, 2, SHARES)
    np.testing.assert_allclose((ours.log_probability, ours.logit), expected, atol=2e-5)
    np.testing.assert_allclose(ours.blurred, np.ceil(np.asarray(SHARES) * heatmap.size) / heatmap.size)


def linear(images):
    """The first class is the sum of the pixels, the second nothing."""
    total = images.sum(axis=(1, 2, 3))
    return jnp.stack([total, jnp.zeros_like(total)], axis=1)


def test_no_map_gains_more_than_the_network_s_own_weights():
    """With a baseline of zeros the logit of a linear network rises by what is taken away."""
    image = RNG.normal(size=(10, 10, 1)).astype(np.float32)
    own = image[..., 0]
    best = counter_evidence(linear, image, own, jnp.asarray(0), baseline="zero")
    worst = counter_evidence(linear, image, -own, jnp.asarray(0), baseline="zero")
    ordered = np.sort(own.ravel())
    counts = [1, 2, 5, 10]
    np.testing.assert_allclose(best.logit, [-ordered[:n].sum() for n in counts], atol=1e-4)
    np.testing.assert_allclose(worst.logit, [-ordered[-n:].sum() for n in counts], atol=1e-4)
    for _ in range(10):
        some = counter_evidence(linear, image, RNG.normal(size=(10, 10)), jnp.asarray(0), baseline="zero")
        assert (some.logit <= best.logit + 1e-4).all()
        assert (some.logit >= worst.logit - 1e-4).all()


def test_only_negative_pixels_are_blurred():
    image, heatmap = np.ones((10, 10, 1), np.float32), np.zeros((10, 10), np.float32)
    heatmap[0, :3] = -1
    found = counter_evidence(linear, image, heatmap, jnp.asarray(0), shares=(0.02, 0.5), baseline="zero")
    np.testing.assert_allclose(found.blurred, [0.02, 0.03], rtol=1e-6)
    np.testing.assert_allclose(found.logit, [-2, -3], atol=1e-4)


def test_a_map_without_negative_values_has_no_value(network):
    logits, image = network
    found = counter_evidence(logits, image, np.ones(image.shape[:2]), jnp.asarray(0))
    assert np.isnan(found.logit).all()
    assert np.isnan(found.log_probability).all()
    assert (found.blurred == 0).all()


def test_a_map_that_is_not_a_number_somewhere_has_no_value(network):
    logits, image = network
    heatmap = -np.ones(image.shape[:2])
    heatmap[0, 0] = np.nan
    assert np.isnan(counter_evidence(logits, image, heatmap, jnp.asarray(0)).logit).all()


def test_weights_and_independent_classes(network):
    logits, image = network
    heatmap = RNG.normal(size=image.shape[:2])
    several = [
        counter_evidence(logits, image, heatmap, jnp.asarray(target), log_probability=jax.nn.log_sigmoid)
        for target in (0, 1)
    ]
    weights = jnp.zeros(logits(image[None]).shape[1]).at[jnp.asarray([0, 1])].set(jnp.asarray([1.0, -1.0]))
    both = counter_evidence(logits, image, heatmap, weights, log_probability=jax.nn.log_sigmoid)
    np.testing.assert_allclose(
        both.log_probability, several[0].log_probability - several[1].log_probability, atol=1e-5
    )
    np.testing.assert_allclose(both.logit, several[0].logit - several[1].logit, atol=1e-5)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((), "shares must be one or several numbers, got none"),
        ((0.0,), r"each of shares must be in \(0, 1\], got 0\.0"),
        ((0.5, 1.5), r"each of shares must be in \(0, 1\], got 1\.5"),
    ],
)
def test_bad_shares_are_named(network, shares, message):
    logits, image = network
    with pytest.raises(InputError, match=message):
        counter_evidence(logits, image, np.ones(image.shape[:2]), jnp.asarray(0), shares=shares)


def test_a_map_of_another_size_is_named(network):
    logits, image = network
    with pytest.raises(InputError, match="must have the image's rows and columns"):
        counter_evidence(logits, image, np.ones((3, 3)), jnp.asarray(0))
