"""Rows to numbers, against closed forms and plain loops."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from dmbp_jax._checks import InputError
from dmbp_jax.evaluation import _tables as paper_tables
from dmbp_jax.evaluation._store import Row
from dmbp_jax.evaluation._summary import collect, compare, mean_interval, summarize


def row(image, target, method, value, *, metric="insertion", seconds=1.0, curve=None):
    return Row(image, target, method, metric, value, seconds, curve)


def test_summary_of_a_small_run():
    rows = [
        row("a", 0, "dmbp", 0.5, seconds=60.0),  # compiled here
        row("a", 1, "dmbp", 0.7),
        row("b", 0, "dmbp", 0.9, seconds=2.0),
        row("c", 0, "dmbp", None),
        row("d", 0, "dmbp", float("inf")),
    ]
    one = summarize(collect(rows))["insertion", "dmbp"]
    assert (one.targets, one.images, one.undefined) == (3, 2, 2)
    assert one.mean == pytest.approx(0.7)
    assert one.seconds == 1.0
    low, high = one.interval
    assert low == pytest.approx(0.6)  # twice image a, which is the mean of its two targets
    assert high == pytest.approx(0.9)


def test_rows_of_one_image_have_no_interval():
    one = summarize(collect([row("a", 0, "dmbp", 0.5), row("a", 1, "dmbp", 0.7)]))["insertion", "dmbp"]
    assert one.mean == pytest.approx(0.6)
    assert one.interval is None


def test_all_undefined():
    measurements = collect([row("a", 0, m, None) for m in ("dmbp", "rise")])
    one = summarize(measurements)["insertion", "rise"]
    assert (one.targets, one.undefined, one.mean, one.interval) == (0, 1, None, None)
    assert compare(measurements) == {}


def test_no_rows():
    measurements = collect([])
    assert summarize(measurements) == {}
    assert compare(measurements) == {}


def test_interval_is_deterministic_and_near_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    interval = mean_interval(values, np.arange(400))
    assert interval == mean_interval(values, np.arange(400))
    normal = values.mean() + np.asarray([-1.96, 1.96]) * values.std(ddof=1) / 20
    np.testing.assert_allclose(interval, normal, atol=0.02)


def test_interval_covers_the_truth_where_targets_depend_on_each_other():
    """Independent draws of targets, rather than of images, would cover much less often."""
    rng, images, trials = np.random.default_rng(1), np.repeat(np.arange(60), 3), 150
    covered = naive = 0
    for trial in range(trials):
        values = rng.normal(size=60)[images] + 0.1 * rng.normal(size=180)
        low, high = mean_interval(values, images, resamples=400, seed=trial)
        covered += low <= 0 <= high
        naive += abs(values.mean()) <= 1.96 * values.std() / np.sqrt(180)
    assert 0.89 <= covered / trials <= 0.99
    assert naive / trials < 0.85


def test_interval_does_not_need_equal_counts():
    values, images = np.asarray([1.0, 1.0, 1.0, 4.0]), np.asarray([5, 5, 5, 9])
    low, high = mean_interval(values, images)
    assert (low, high) == (1.0, 4.0)


def test_comparison_is_paired():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=40)
    gain = rng.normal(0.02, 0.01, size=40)
    rows = [row(str(i), 0, "dmbp", hard[i]) for i in range(40)]
    rows += [row(str(i), 0, "rise", hard[i] + gain[i]) for i in range(40)]
    rows += [row("alone", 0, "rise", 100.0), row("0", 9, "dmbp", 100.0)]
    one = compare(collect(rows))["insertion", "rise"]
    assert (one.targets, one.images) == (40, 40)
    assert one.difference == pytest.approx(gain.mean())
    assert one.better == (gain > 0).mean()
    assert one.worse == (gain < 0).mean()
    assert one.p == pytest.approx(scipy.stats.wilcoxon(gain).pvalue, rel=1e-6)
    half = 1.96 * gain.std() / np.sqrt(40)
    np.testing.assert_allclose(one.interval, [gain.mean() - half, gain.mean() + half], atol=half / 3)


def test_comparison_tests_images_not_targets():
    """Twenty targets of one image are one observation."""
    rows = [row(image, t, "dmbp", 0.0) for image in "ab" for t in range(20)]
    rows += [row(image, t, "rise", 1.0 + t) for image in "ab" for t in range(20)]
    one = compare(collect(rows))["insertion", "rise"]
    assert (one.targets, one.images) == (40, 2)
    assert one.p == pytest.approx(0.5)


def test_better_follows_the_metrics_direction():
    rows = [row("a", t, "dmbp", 0.5, metric=m) for t in range(3) for m in ("insertion", "deletion")]
    rows += [
        row("a", t, "rise", v, metric=m)
        for t, v in enumerate((0.4, 0.5, 0.9))
        for m in ("insertion", "deletion")
    ]
    comparisons = compare(collect(rows))
    assert (comparisons["insertion", "rise"].better, comparisons["insertion", "rise"].worse) == (1 / 3, 1 / 3)
    rows += [row("a", 3, "dmbp", 0.5, metric="deletion"), row("a", 3, "rise", 0.1, metric="deletion")]
    assert compare(collect(rows))["deletion", "rise"].better == 0.5


def test_equal_methods_and_other_references():
    rows = [row(image, 0, m, 0.5) for image in "abc" for m in ("dmbp", "rise")]
    measurements = collect(rows)
    one = compare(measurements)["insertion", "rise"]
    assert (one.difference, one.better, one.worse, one.p) == (0.0, 0.0, 0.0, None)
    assert set(compare(measurements, "rise")) == {("insertion", "dmbp")}
    assert compare(measurements, "missing") == {}


def test_unknown_metric_has_no_direction():
    rows = [row("a", 0, m, 0.5, metric="sharpness") for m in ("dmbp", "rise")]
    with pytest.raises(InputError, match="unknown metric 'sharpness'"):
        compare(collect(rows))


def test_curves_are_averaged_point_by_point():
    rows = [
        row("a", 0, "dmbp", 0.5, curve=(0.0, 1.0, 2.0)),
        row("b", 0, "dmbp", 0.5, curve=(2.0, float("nan"), 4.0)),
        row("c", 0, "dmbp", 0.5, curve=(4.0, 5.0)),  # an image of another size, in fewer steps
        row("d", 0, "dmbp", 0.5),
    ]
    np.testing.assert_allclose(collect(rows).series["insertion", "dmbp"].curve, [2.0, (1 + 4.5) / 2, 11 / 3])


def test_metrics_in_the_order_of_the_page():
    rows = [row("a", 0, "dmbp", 0.5, metric=m) for m in ("deletion", "complementary_insertion", "insertion")]
    assert [metric for metric, _ in collect(rows).series] == [
        "insertion",
        "complementary_insertion",
        "deletion",
    ]


def test_paper_tables_are_the_ones_beside_the_repository(shared):
    ours = Path(paper_tables.__file__).with_name("paper_tables.toml")
    with open(ours, "rb") as file:
        assert file.read() == (shared / "reference" / "paper_tables.toml").read_bytes()


def test_published_numbers():
    assert len(paper_tables.published()) == 6 * 4 + 7 * 12 + 3 * 4
    table1 = paper_tables.published_columns(1, "insertion")["imagenet_resnet50"]
    assert table1 == {"gradient_x_input": 0.26, "dmbp_positive": 0.50, "dmbp_posneg": 0.51, "dmbp": 0.57}
    assert paper_tables.published_columns(2, "complementary_insertion")["voc_vgg16"]["grad_cam"] == 0.13
    assert paper_tables.published_columns(2, "average")["average"]["dmbp"] == 0.42
    assert paper_tables.published_columns(3, "sanity")["voc_resnet50"]["dmbp"] == -0.03
    assert paper_tables.published_columns(3, "insertion") == {}


@pytest.mark.parametrize(
    ("dataset", "architecture", "setup"),
    [
        ("imagenet", "resnet50", "imagenet_resnet50"),
        ("voc2012", "resnet50_caffe", "voc_resnet50"),
        ("voc2007", "vgg16_caffe", None),
        ("imagenet", "resnet50_caffe", None),
        ("grid", "vgg16", None),
    ],
)
def test_published_setup(dataset, architecture, setup):
    assert paper_tables.published_setup(dataset, architecture) == setup
