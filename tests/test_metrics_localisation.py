"""Where a heat map points: the photograph's frame, the pointing games, the accuracies on segmentations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import metrics as reference

from dmbp_jax import InputError
from dmbp_jax.metrics import (
    grid_pointing_game,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from dmbp_jax.metrics._localization import to_photograph
from dmbp_jax.ops import upsample

RNG = np.random.default_rng(0)


def peak(row, column, size=(80, 100)):
    heatmap = np.zeros(size, np.float32)
    heatmap[row, column] = 1
    return heatmap


# The photograph's frame.


def test_the_whole_photograph_is_an_upsampling():
    heatmap = RNG.normal(size=(5, 7)).astype(np.float32)
    ours = to_photograph(heatmap, (0, 0, 35, 40), (40, 35))
    np.testing.assert_allclose(ours, upsample(jnp.asarray(heatmap)[..., None], (40, 35))[..., 0], atol=1e-6)


@pytest.mark.parametrize("offset", [(0, 0), (3, 2)])
def test_at_its_own_size_nothing_is_interpolated(offset):
    """The centre crop of a photograph that was not resized lies where it was cut out."""
    heatmap = RNG.normal(size=(5, 7))
    top, left = offset
    ours = to_photograph(heatmap, (left, top, left + 7, top + 5), (9, 12))
    expected = np.full((9, 12), -np.inf)
    expected[top : top + 5, left : left + 7] = heatmap
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize(
    "region",
    [(0, 0, 21, 14), (2.3, -1.7, 18.9, 13.2), (-5, -4.5, 30, 25), (7.6, 7.6, 8.4, 8.4), (30, 0, 40, 14)],
)
def test_the_frame_is_the_loops(region):
    heatmap = RNG.normal(size=(6, 9))
    ours = to_photograph(heatmap, region, (14, 21))
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, reference.to_photograph(heatmap, region, (14, 21)), atol=1e-12)


def test_what_the_network_has_not_seen_is_not_pointed_at():
    """A crop whose every value is below zero."""
    heatmap = to_photograph(-1 - RNG.random((10, 10)), (20, 30, 50, 60), (80, 100))
    assert not pointing_game(heatmap, [(0, 0, 20, 80), (50, 0, 100, 80)], tolerance=0)
    assert pointing_game(heatmap, [(20, 30, 50, 60)], tolerance=0)


def test_bad_frames_are_one_clear_error():
    heatmap = np.zeros((2, 2))
    for region, size, message in (
        ((0, 0, 1), (3, 3), "region must be four finite numbers"),
        ((0, 0, np.nan, 1), (3, 3), "region must be four finite numbers"),
        ((3, 0, 3, 1), (3, 3), r"region .* is empty: \(3, 0, 3, 1\)"),
        ((0, 0, 1, 1), (3, 0), r"each of size \(rows, columns\) must be at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            to_photograph(heatmap, region, size)


# The pointing game.


def test_a_map_that_points_into_a_box_hits():
    box = (30, 40, 50, 60)
    for row, column, hit in (
        (40, 30, True),
        (59, 49, True),
        (39, 30, False),
        (60, 49, False),
        (50, 50, False),
    ):
        assert pointing_game(peak(row, column), [box], tolerance=0) is hit


def test_fifteen_pixels_away_still_hits():
    box = (30, 40, 50, 60)
    for row, column, hit in (
        (50, 15, True),
        (50, 14, False),
        (50, 64, True),
        (50, 65, False),
        (25, 40, True),
        (24, 40, False),
        # Aslant: 11 and 10 pixels are closer than 15, 11 and 12 are not.
        (29, 20, True),
        (28, 19, False),
    ):
        assert pointing_game(peak(row, column), [box]) is hit


def test_any_box_will_do():
    boxes = [(0, 0, 5, 5), (80, 60, 90, 70)]
    assert pointing_game(peak(65, 85), boxes)
    assert pointing_game(peak(2, 2), boxes)
    assert not pointing_game(peak(40, 40), boxes)


def test_of_several_maxima_one_fixed_random_one_is_pointed_at():
    at = int(reference.tie_breaker((80, 100)).argmax())
    box = (at % 100, at // 100, at % 100 + 1, at // 100 + 1)
    assert pointing_game(np.zeros((80, 100)), [box], tolerance=0)
    assert not pointing_game(np.zeros((80, 100)), [(0, 0, 1, 1)])
    ties = reference.tie_breaker((80, 100))
    for one, other in (((10, 90), (70, 5)), ((0, 0), (50, 50))):
        winner = max(one, other, key=lambda place: ties[place])
        for place in (one, other):
            box = (place[1], place[0], place[1] + 1, place[0] + 1)
            both = np.maximum(peak(*one), peak(*other))
            assert pointing_game(both, [box], tolerance=0) is (place == winner)


@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e-30])
def test_interpolation_keeps_a_plateau(value):
    heatmap = np.full((7, 5), value, np.float32)
    heatmap[:3] -= 1
    found = to_photograph(heatmap, (0.3, -4, 95, 80.7), (75, 100))
    assert (found[found > -np.inf] <= heatmap.max()).all()
    assert (found[50:, :95] == heatmap.max()).all()


def test_a_constant_map_points_at_a_random_pixel_of_photographs():
    """A box has its share of them, wherever it lies."""
    heatmap = np.full((5, 5), 0.1, np.float32)
    for quarter in itertools.product((0, 0.5), (0, 0.5)):
        hits = []
        for rows, columns in itertools.product(range(20, 60, 2), range(21, 61, 2)):
            top, left = quarter[0] * rows, quarter[1] * columns
            box = (left, top, left + columns / 2, top + rows / 2)
            at_photograph = to_photograph(heatmap, (0, 0, columns, rows), (rows, columns))
            hits.append(pointing_game(at_photograph, [box], tolerance=0))
        # 0.25 is expected, with a deviation of 0.02.
        assert 0.17 < np.mean(hits) < 0.33


def test_pointing_is_the_loops_and_only_the_order_matters():
    hits = []
    for _ in range(200):
        heatmap = np.round(RNG.normal(size=(40, 50)), 1)
        corners = RNG.uniform(0, 40, size=(3, 2, 2))
        boxes = [(*low, *high) for low, high in zip(corners.min(axis=1), corners.max(axis=1), strict=True)]
        boxes = [tuple(float(edge) for edge in box) for box in boxes[: RNG.integers(1, 4)]]
        tolerance = float(RNG.uniform(0, 8))
        hits.append(pointing_game(heatmap, boxes, tolerance=tolerance))
        assert hits[-1] == reference.pointing_game(heatmap, boxes, tolerance)
        assert hits[-1] == pointing_game(np.exp(3 * heatmap - 1), boxes, tolerance=tolerance)
    assert 20 < sum(hits) < 180


def test_a_map_without_numbers_points_at_nothing():
    everywhere = [(0, 0, 100, 80)]
    assert not pointing_game(np.where(peak(3, 3) > 0, np.nan, 0), everywhere)
    assert not pointing_game(np.full((80, 100), -np.inf), everywhere)


def test_bad_games_are_one_clear_error():
    for boxes, tolerance, message in (
        ([], 15, "at least one box"),
        ([(3, 0, 2, 1)], 15, r"a box must be \(left, top, right, bottom\), got \(3, 0, 2, 1\)"),
        ([(3, 0, 4)], 15, "a box must be"),
        ([(0, 0, 1, 1)], -1, "tolerance must be finite and at least 0, got -1"),
    ):
        with pytest.raises(InputError, match=message):
            pointing_game(peak(0, 0), boxes, tolerance=tolerance)


# The grid pointing game.


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_known_maps_have_their_known_share(grid):
    size = 12
    for cell in range(grid * grid):
        row, column = divmod(cell, grid)
        inside = np.zeros((size, size))
        inside[size * row // grid : size * (row + 1) // grid] += 1
        inside[:, size * column // grid : size * (column + 1) // grid] += 1
        inside = (inside == 2).astype(np.float32)
        assert grid_pointing_game(inside, grid, cell) == 1
        assert grid_pointing_game(np.full((size, size), 0.1), grid, cell) == pytest.approx(1 / grid**2)
        # What speaks against the class does not count.
        assert grid_pointing_game(inside - 5 * (1 - inside), grid, cell) == 1
        if grid > 1:
            assert grid_pointing_game(1 - inside, grid, cell) == 0
            assert grid_pointing_game(1 - 3 * inside, grid, cell) == 0


@pytest.mark.parametrize(("size", "grid"), [((13, 17), 2), ((13, 17), 3), ((5, 4), 4), ((6, 6), 3)])
def test_the_share_is_the_loops(size, grid):
    heatmap = RNG.normal(size=size)
    shares = [grid_pointing_game(heatmap, grid, cell) for cell in range(grid * grid)]
    expected = [reference.grid_pointing_game(heatmap, grid, cell) for cell in range(grid * grid)]
    np.testing.assert_allclose(shares, expected, rtol=1e-12)
    assert sum(shares) == pytest.approx(1)
    assert grid_pointing_game(jnp.asarray(heatmap, jnp.float32), grid, 0) == pytest.approx(
        shares[0], rel=1e-5
    )


def test_a_share_of_nothing_is_nan():
    for value, grid in itertools.product((0.0, -1.0, np.nan, np.inf), (1, 2)):
        assert np.isnan(grid_pointing_game(np.full((4, 4), value), grid, 0))


def test_bad_grids_are_one_clear_error():
    for grid, cell, message in (
        (0, 0, "grid must be from 1 to 4, .*got 0"),
        (5, 0, "grid must be from 1 to 4, .*got 5"),
        (2, 4, "cell must be from 0 to 3 in a grid of 2 x 2, got 4"),
        (2, -1, "cell must be from 0 to 3"),
    ):
        with pytest.raises(InputError, match=message):
            grid_pointing_game(np.ones((4, 6)), grid, cell)


# Relevance mass and rank accuracy.

ACCURACIES = {"mass": relevance_mass_accuracy, "rank": relevance_rank_accuracy}
DISC = np.hypot(*(np.mgrid[:12, :15] - 6.0)) < 4


@pytest.mark.parametrize("accuracy", ACCURACIES.values(), ids=ACCURACIES)
def test_the_object_itself_is_the_best_map_and_everything_else_the_worst(accuracy):
    inside = DISC.astype(np.float32)
    assert accuracy(inside, DISC) == 1
    assert accuracy(1 - inside, DISC) == 0
    assert accuracy(inside - 5 * (1 - inside), DISC) == 1


def test_a_map_that_knows_nothing_has_the_objects_share_of_the_area():
    share = DISC.mean()
    assert float(relevance_mass_accuracy(np.full(DISC.shape, 0.1), DISC)) == pytest.approx(share, rel=1e-5)
    noise = RNG.random((400, *DISC.shape)).astype(np.float32)
    for accuracy in ACCURACIES.values():
        found = jax.jit(jax.vmap(accuracy, in_axes=(0, None)))(noise, DISC)
        assert float(found.mean()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", ACCURACIES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("some_ignored", [False, True])
def test_the_accuracies_are_the_loops(name, tied, some_ignored):
    for _ in range(20):
        heatmap = RNG.normal(size=DISC.shape).astype(np.float32)
        heatmap = np.round(heatmap) if tied else heatmap
        region = RNG.random(DISC.shape) < RNG.uniform(0.1, 0.9)
        ignored = (RNG.random(DISC.shape) < 0.3) & some_ignored
        ours = ACCURACIES[name](heatmap, region, ignored=ignored if some_ignored else None)
        theirs = getattr(reference, f"relevance_{name}_accuracy")(heatmap, region, ignored)
        assert float(ours) == pytest.approx(theirs, rel=1e-5)


def test_the_order_decides_one_accuracy_and_the_size_the_other():
    heatmap = RNG.random(DISC.shape).astype(np.float32)
    mass, rank = (accuracy(heatmap, DISC) for accuracy in ACCURACIES.values())
    assert relevance_rank_accuracy(np.exp(9 * heatmap), DISC) == rank
    assert relevance_mass_accuracy(np.exp(9 * heatmap), DISC) != mass
    assert float(relevance_mass_accuracy(1e37 * heatmap, DISC)) == pytest.approx(float(mass), rel=1e-5)
    # What speaks against the class does not count.
    shifted = np.where(heatmap < 0.2, -100, heatmap)
    assert float(relevance_mass_accuracy(shifted, DISC)) == pytest.approx(
        float(relevance_mass_accuracy(np.maximum(shifted, 0), DISC))
    )


@pytest.mark.parametrize("accuracy", ACCURACIES.values(), ids=ACCURACIES)
def test_what_is_ignored_does_not_matter(accuracy):
    heatmap = RNG.random(DISC.shape).astype(np.float32)
    ignored = RNG.random(DISC.shape) < 0.4
    expected = accuracy(heatmap, DISC, ignored=ignored)
    for value in (-9, 9, np.nan, np.inf):
        changed = np.where(ignored, np.float32(value), heatmap)
        assert accuracy(changed, DISC | ignored, ignored=ignored) == expected


@pytest.mark.parametrize("accuracy", ACCURACIES.values(), ids=ACCURACIES)
def test_accuracies_without_an_object_or_a_map_are_nan(accuracy):
    heatmap = np.ones(DISC.shape, np.float32)
    assert np.isnan(accuracy(heatmap, np.zeros_like(DISC)))
    assert np.isnan(accuracy(heatmap, DISC, ignored=DISC))
    assert np.isnan(accuracy(np.where(np.arange(15) == 3, np.float32(np.nan), heatmap), DISC))
    assert np.isnan(relevance_mass_accuracy(-heatmap, DISC))
    assert np.isnan(relevance_mass_accuracy(np.inf * heatmap, DISC))


@pytest.mark.parametrize("accuracy", ACCURACIES.values(), ids=ACCURACIES)
def test_bad_regions_are_one_clear_error(accuracy):
    with pytest.raises(InputError, match=r"region must have the map's shape \(12, 15\), got \(15, 12\)"):
        accuracy(np.ones(DISC.shape), DISC.T)
    with pytest.raises(InputError, match=r"ignored must have the map's shape \(12, 15\), got \(3, 3\)"):
        accuracy(np.ones(DISC.shape), DISC, ignored=np.ones((3, 3), bool))


def test_maps_may_be_lists_and_boxes_of_any_numbers():
    rows = [[0.0, 3.0], [1, -2]]
    region = np.asarray([[False, True], [False, False]])
    for box in ((1, 0, 2, 1), np.asarray([1, 0, 2, 1]), [np.int64(1), 0, np.float32(2), 1.0]):
        assert pointing_game(rows, [box], tolerance=np.float32(0))
    assert grid_pointing_game(rows, 2, 1) == pytest.approx(0.75)
    assert float(relevance_mass_accuracy(rows, region)) == pytest.approx(0.75)
    assert float(relevance_rank_accuracy(rows, region)) == 1
    assert to_photograph(rows, (0, 0, 2, 2), (2, 2)).tolist() == rows
