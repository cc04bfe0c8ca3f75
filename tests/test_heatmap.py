"""Heat maps as colours: red for, blue against, white for nothing, grey for what is no number."""

import jax.numpy as jnp
import numpy as np
import pytest

from dmbp_jax.plot import blend, color_heatmap, draw_comparison, smooth_heatmap, symmetric_limit
from dmbp_jax.plot._figures import draw_explanation
from dmbp_jax.plot._heatmap import from_minimum, thumbnail_map

LEVELS = np.linspace(0.05, 1, 20)
GREY = [128, 128, 128]


def colors(*values: float, limit: float | None = 1.0) -> np.ndarray:
    return color_heatmap(np.asarray([values]), limit)[0].astype(int)


def test_zero_is_white():
    assert colors(0.0).min() >= 253


def test_positive_is_red_and_never_bluish():
    red, green, blue = colors(*LEVELS).T
    assert (red > green).all()
    assert (np.abs(green - blue) <= 1).all()


def test_negative_is_blue_and_never_reddish():
    red, green, blue = colors(*-LEVELS).T
    assert (blue > green).all()
    assert (np.abs(green - red) <= 1).all()


def test_colour_deepens_with_the_magnitude():
    for sign in (1, -1):
        brightness = colors(*sign * LEVELS).sum(axis=-1)
        assert (np.diff(brightness) < 0).all()


def test_half_scale_is_symmetric():
    """The colour map's dark ends differ a little, and only they."""
    half = LEVELS[LEVELS <= 0.5]
    np.testing.assert_allclose(colors(*half), colors(*-half)[:, ::-1], atol=4)


@pytest.mark.parametrize(("value", "end"), [(5.0, 1.0), (1e30, 1.0), (-5.0, -1.0), (-1e30, -1.0)])
def test_beyond_the_limit_colours_saturate(value, end):
    np.testing.assert_array_equal(colors(value), colors(end))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_grey_and_changes_nothing_else(value):
    assert colors(0.5, value, -0.5).tolist() == [*colors(0.5).tolist(), GREY, *colors(-0.5).tolist()]


def test_a_map_without_negative_values_is_shown_from_its_minimum():
    heatmap = np.asarray([[0.8, 0.9], [np.nan, 1.0]])
    np.testing.assert_allclose(from_minimum(heatmap), [[0, 0.1], [np.nan, 0.2]])
    assert thumbnail_map(heatmap) == thumbnail_map(heatmap + 7.0)
    for other in (np.asarray([[-0.1, 5.0]]), np.full((2, 2), np.nan)):
        assert from_minimum(other) is other


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_colours_have_the_shape_of_the_map_and_8_bits(dtype):
    heatmap = np.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4)
    colored = color_heatmap(heatmap)
    assert (colored.shape, colored.dtype) == ((3, 4, 3), np.uint8)


def test_scaling_map_and_limit_together_changes_no_colour():
    heatmap = np.linspace(-1, 1, 300).reshape(15, 20)
    np.testing.assert_array_equal(color_heatmap(heatmap), color_heatmap(heatmap * 1024))
    np.testing.assert_array_equal(color_heatmap(heatmap, 0.5), color_heatmap(heatmap * 1024, 512.0))


def test_limit_is_the_percentile_of_the_magnitudes():
    heatmap = np.arange(-100.0, 101.0)[None]
    for percentile in (50.0, 90.0, 99.5, 100.0):
        magnitudes = sorted(abs(value) for value in heatmap[0])
        at = percentile / 100 * (len(magnitudes) - 1)
        low, high = magnitudes[int(at)], magnitudes[min(int(at) + 1, len(magnitudes) - 1)]
        expected = low + (high - low) * (at - int(at))
        assert symmetric_limit(heatmap, percentile) == pytest.approx(expected)


def test_single_outlier_does_not_rule_the_scale():
    heatmap = np.ones((40, 40))
    heatmap[3, 4] = 1e6
    assert symmetric_limit(heatmap) == 1.0


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([0.0, 0.0], 1.0),
        ([np.nan, np.inf], 1.0),
        ([np.nan, -3.0], 3.0),
        ([0.0] * 999 + [-2.0], 2.0),
    ],
    ids=["zeros", "not finite", "partly finite", "sparse"],
)
def test_limit_is_above_zero_for_every_map(values, limit):
    assert symmetric_limit(np.asarray([values])) == limit


PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blend_keeps_the_photographs_shape_and_dtype(dtype):
    blended = blend(PHOTO, np.linspace(-1, 1, 48, dtype=dtype).reshape(6, 8))
    assert (blended.shape, blended.dtype) == (PHOTO.shape, np.uint8)


def test_blend_shows_the_photograph_in_light_grey_where_the_map_is_zero():
    blended = blend(PHOTO, np.zeros((6, 8))).astype(float)
    np.testing.assert_array_equal(blended, blended[..., :1].repeat(3, axis=-1))
    np.testing.assert_allclose(blended[..., 0], PHOTO.mean(axis=-1) * 0.6 + 102, atol=0.5)


def test_blend_shows_only_the_map_where_it_is_saturated():
    heatmap = np.where(np.arange(48).reshape(6, 8) % 2, 2.0, -2.0)
    np.testing.assert_array_equal(blend(PHOTO, heatmap, 1.0), color_heatmap(heatmap, 1.0))


def test_blend_has_the_maps_sign_in_its_colours():
    heatmap = np.full((6, 8), 0.3)
    heatmap[:, :4] *= -1
    blended = blend(PHOTO, heatmap, 1.0).astype(int)
    assert (blended[:, :4, 2] > blended[:, :4, 0]).all()
    assert (blended[:, 4:, 0] > blended[:, 4:, 2]).all()


def test_blend_shows_infinity_in_grey_and_leaves_the_photograph_at_nan():
    heatmap = np.full((6, 8), 0.1, np.float32)
    heatmap[0, :3] = np.inf, -np.inf, np.nan
    blended = blend(PHOTO, heatmap)
    assert blended[0, :2].tolist() == [GREY, GREY]
    np.testing.assert_array_equal(blended[0, 2], blend(PHOTO, np.zeros((6, 8)))[0, 2])


def test_parts_are_drawn_on_the_maps_own_scale():
    """So that red and blue can be compared: of two parts a thousandfold apart the weaker one is white."""
    heatmap = np.random.default_rng(0).normal(size=(8, 8))
    figure = draw_explanation(
        np.zeros((8, 8, 3), np.uint8), heatmap, {"strong": heatmap, "weak": -heatmap / 1000}
    )
    panels = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes}
    np.testing.assert_array_equal(panels["strong"], panels["map"])
    np.testing.assert_allclose(panels["weak"].astype(int), 255, atol=2)


def test_arrays_of_jax_are_drawn_as_those_of_numpy():
    heatmap = np.linspace(-1, 1, 48, dtype=np.float32).reshape(6, 8)
    photo = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    for function in (color_heatmap, from_minimum, symmetric_limit, lambda one: smooth_heatmap(one, 1.0)):
        np.testing.assert_array_equal(function(jnp.asarray(heatmap)), function(heatmap))
    np.testing.assert_array_equal(blend(jnp.asarray(photo), jnp.asarray(heatmap)), blend(photo, heatmap))
    draw_comparison(jnp.asarray(photo), {"gradient": jnp.asarray(heatmap)})
    draw_explanation(jnp.asarray(photo), jnp.asarray(heatmap), {"for": jnp.asarray(heatmap)})
