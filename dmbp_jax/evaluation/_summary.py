"""Means, intervals and differences of a run, and the titles of its columns."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dmbp_jax._checks import check_choice
from dmbp_jax._methods import TITLES
from dmbp_jax.evaluation._items import Shown
from dmbp_jax.evaluation._registry import METRICS
from dmbp_jax.evaluation._store import Row, Store

# Titles of metrics and methods, and whether higher or lower is better.


class Titles(NamedTuple):
    """The display of a run's rows, from its store, independent of the current registry."""

    metrics: Mapping[str, Shown]
    """By the name in the rows, in the order of the page."""
    methods: Mapping[str, str]

    def metric(self, name: str) -> Shown:
        """The display of a metric's rows; `InputError` for an unknown metric.

        >>> registered_titles().metric("deletion").higher_is_better
        False
        """
        check_choice("metric", name, self.metrics)
        return self.metrics[name]

    def method(self, name: str) -> str:
        """A method's title, by default its name without underscores.

        >>> registered_titles().method("grad_cam"), registered_titles().method("my_method")
        ('Grad-CAM', 'my method')
        """
        return self.methods.get(name, name.replace("_", " "))


def registered_titles() -> Titles:
    """The titles of all metrics and methods that are registered now."""
    shown = {row: one for metric in METRICS.values() for row, one in metric.shown.items()}
    return Titles(shown, dict(TITLES))


def titles_of(store: Store) -> Titles:
    """The titles of a run as they were when it was measured; the package's metrics first, in the package's
    order."""
    known = registered_titles()
    own = {row: one for metric in store.metrics().values() for row, one in metric.items()}
    return Titles({**known.metrics, **own}, {**known.methods, **store.about().get("titles", {})})


# From rows to numbers: means with intervals, paired comparisons, mean curves.
#
# The mean of a metric is over (image, target) pairs, as in the paper. Images are independent of each other,
# targets of one image are not: the bootstrap therefore draws whole images, each with all its targets, and the
# signed-rank test uses one difference per image.

CONFIDENCE = 0.95
RESAMPLES = 1000
REFERENCE = "dmbp"
"""The method with which the others are compared."""

Interval = tuple[float, float]
Key = tuple[str, str]
"""Metric and method."""


class Series(NamedTuple):
    """One metric of one method, over all pairs of the run."""

    measured: Bool[np.ndarray, " pairs"]
    """Whether there is a row."""
    values: Float[np.ndarray, " pairs"]
    """NaN where there is no row, or an undefined value in it."""
    curve: Float[np.ndarray, " points"] | None
    """The mean of its rows' curves."""


class Measurements(NamedTuple):
    """The rows of a run, arranged for arithmetic."""

    pairs: tuple[tuple[str, int], ...]
    """Image and target, in order of first appearance."""
    image: Int[np.ndarray, " pairs"]
    """The number of each pair's image, from 0."""
    series: dict[Key, Series]
    """Metrics in the order of the page, methods in the order of the rows."""
    seconds: dict[str, Float[np.ndarray, " pairs"]]
    """By method; NaN where it has no row."""


class Summary(NamedTuple):
    """One metric of one method in numbers."""

    targets: int
    """The number of values in the mean."""
    images: int
    undefined: int
    """The number of undefined values, such as the correlation with a constant map."""
    mean: float | None
    interval: Interval | None
    """95 %; None for fewer than two images."""
    seconds: float | None
    """Median seconds per explained target, without compiling."""


class Comparison(NamedTuple):
    """A method against a reference, on the pairs for which both have a value."""

    targets: int
    images: int
    difference: float
    """Mean of the method's value minus the reference's."""
    interval: Interval | None
    """95 %; None for fewer than two images."""
    better: float | None
    """Share of the pairs where the method is better; the rest after `worse` are ties. None if the better
    direction is unknown."""
    worse: float | None
    p: float | None
    """The p-value of Wilcoxon's signed-rank test on the images' mean differences; None if all are zero or
    there are none."""


def collect(rows: Iterable[Row], titles: Titles | None = None) -> Measurements:
    """Arrange rows for arithmetic, in one pass, so that a long run's curves need not fit into memory.

    `titles` has the order of the metrics; None: the registered ones.

    >>> m = collect([Row("a.jpg", 3, "dmbp", "road", 0.5, 1.0), Row("b.jpg", 7, "dmbp", "road", None, 1.0)])
    >>> m.pairs, m.series["road", "dmbp"].values.tolist()
    ((('a.jpg', 3), ('b.jpg', 7)), [0.5, nan])
    """
    pairs: dict[tuple[str, int], int] = {}
    values: dict[Key, dict[int, float]] = {}
    seconds: dict[str, dict[int, float]] = {}
    curves: dict[Key, _CurveMean] = {}
    for row in rows:
        key, pair = (row.metric, row.method), pairs.setdefault((row.image, row.target), len(pairs))
        value = np.nan if row.value is None or not np.isfinite(row.value) else row.value
        values.setdefault(key, {})[pair] = value
        seconds.setdefault(row.method, {}).setdefault(pair, np.nan if row.seconds is None else row.seconds)
        if row.curve:
            curves.setdefault(key, _CurveMean(len(row.curve))).add(np.asarray(row.curve, dtype=float))
    order = {name: index for index, name in enumerate((titles or registered_titles()).metrics)}
    series = {}
    for key in sorted(values, key=lambda key: order.get(key[0], len(order))):
        measured = np.zeros(len(pairs), dtype=bool)
        measured[list(values[key])] = True
        series[key] = Series(
            measured, _dense(values[key], len(pairs)), curves[key].mean() if key in curves else None
        )
    images = {name: index for index, name in enumerate(dict.fromkeys(image for image, _ in pairs))}
    return Measurements(
        pairs=tuple(pairs),
        image=np.asarray([images[image] for image, _ in pairs], dtype=int),
        series=series,
        seconds={method: _dense(known, len(pairs)) for method, known in seconds.items()},
    )


def summarize(measurements: Measurements, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[Key, Summary]:
    """Every series in numbers, in the order of `measurements.series`."""
    summaries = {}
    for (metric, method), series in measurements.series.items():
        defined = np.isfinite(series.values)
        values, images = series.values[defined], measurements.image[defined]
        seconds = measurements.seconds[method][series.measured]
        seconds = seconds[np.isfinite(seconds)]
        summaries[metric, method] = Summary(
            targets=len(values),
            images=len(np.unique(images)),
            undefined=int(series.measured.sum()) - len(values),
            mean=float(values.mean()) if len(values) else None,
            interval=mean_interval(values, images, resamples=resamples, seed=seed),
            seconds=float(np.median(seconds)) if len(seconds) else None,
        )
    return summaries


def compare(
    measurements: Measurements,
    reference: str = REFERENCE,
    *,
    titles: Titles | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[Key, Comparison]:
    """Every series against the reference's of the same metric; those without a common pair are left out.

    `titles` has each metric's better direction; None: the registered ones. Raises `InputError` for an unknown
    metric.
    """
    titles = titles or registered_titles()
    comparisons = {}
    for (metric, method), series in measurements.series.items():
        other = measurements.series.get((metric, reference))
        if method == reference or other is None:
            continue
        difference = series.values - other.values
        common = np.isfinite(difference)
        if not common.any():
            continue
        difference, images = difference[common], measurements.image[common]
        higher = titles.metric(metric).higher_is_better
        gain = difference if higher else -difference
        by_image = _by_image(difference, images)
        comparisons[metric, method] = Comparison(
            targets=len(difference),
            images=len(by_image[0]),
            difference=float(difference.mean()),
            interval=mean_interval(difference, images, resamples=resamples, seed=seed),
            better=None if higher is None else float((gain > 0).mean()),
            worse=None if higher is None else float((gain < 0).mean()),
            p=_signed_rank(by_image[0] / by_image[1]),
        )
    return comparisons


def mean_interval(
    values: Float[np.ndarray, " n"],
    images: Int[np.ndarray, " n"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The bootstrap's 95 % percentile interval of the mean of `values`, where whole images are drawn.

    An image is represented by the sum and the number of its values; the mean is the ratio of the two totals.
    None for fewer than two images, which have no spread.

    >>> mean_interval(np.ones(5), np.arange(5))
    (1.0, 1.0)
    """
    sums, counts = _by_image(values, images)
    if len(sums) < 2:
        return None

    def mean(sums: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
        return sums.sum(axis=axis) / counts.sum(axis=axis)

    from scipy import stats

    interval = stats.bootstrap(
        (sums, counts),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        # A batch's array of draws fits into the cache, whatever the number of images.
        batch=max(1, 200_000 // len(sums)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _by_image(
    values: Float[np.ndarray, " n"], images: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " images"], Int[np.ndarray, " images"]]:
    """The sum and the number of the values of each image that has any."""
    _, place, counts = np.unique(images, return_inverse=True, return_counts=True)
    sums = np.zeros(len(counts))
    np.add.at(sums, place, values)
    return sums, counts


def _signed_rank(differences: Float[np.ndarray, " images"]) -> float | None:
    if len(differences) < 2 or not differences.any():
        return None
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)


def _dense(known: dict[int, float], length: int) -> Float[np.ndarray, " pairs"]:
    array = np.full(length, np.nan)
    array[list(known)] = list(known.values())
    return array


class _CurveMean:
    """A running mean of curves, point by point; points that are not finite are left out."""

    def __init__(self, points: int) -> None:
        self.total = np.zeros(points)
        self.count = np.zeros(points, dtype=int)

    def add(self, curve: Float[np.ndarray, " points"]) -> None:
        if len(curve) != len(self.total):
            # Images of other sizes may have other numbers of steps, over the same share of pixels.
            ends = (np.linspace(0, 1, len(self.total)), np.linspace(0, 1, len(curve)))
            curve = np.interp(*ends, curve)
        finite = np.isfinite(curve)
        self.total[finite] += curve[finite]
        self.count += finite

    def mean(self) -> Float[np.ndarray, " points"]:
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)
