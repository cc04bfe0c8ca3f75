"""The metrics by name: the package's, and one's own that are registered."""

from collections.abc import Iterable, Sequence

from dmbp_jax import metrics
from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.data import Dataset
from dmbp_jax.evaluation import measures
from dmbp_jax.evaluation.metric import Metric, Shown
from dmbp_jax.evaluation.own_metric import MetricFunction, metric_of

_INSERTED = "Share of pixels inserted"
_PROBABILITY = "Probability of the target"
_DEPTH = "From the last layer alone drawn anew (0 %) to all layers"
_CORRELATION = "Rank correlation with the trained network's map"


def _lacks_classes(dataset: Dataset) -> str | None:
    if any(len(sample.labels) > 1 for sample in dataset.samples):
        return None
    return (
        "cim needs images with several classes, which this dataset has not: take voc2012:PATH, or "
        "composites, grid:PATH or pairs:PATH"
    )


def _lacks_boxes(dataset: Dataset) -> str | None:
    if any(sample.boxes for sample in dataset.samples):
        return None
    return "pointing needs bounding boxes, which this dataset has not: take voc2012:PATH"


def _lacks_grids(dataset: Dataset) -> str | None:
    if any(sample.grid > 1 for sample in dataset.samples):
        return None
    return "grid_pointing needs composites: take grid:PATH"


def _lacks_pairs(dataset: Dataset) -> str | None:
    if any(sample.pair for sample in dataset.samples):
        return None
    return "contrast needs two photographs side by side: take pairs:PATH"


_PACKAGE = (
    Metric(
        "im",
        measures.along_a_curve("im", metrics.insertion),
        {
            "im": Shown(
                "Insertion (IM)",
                "IM",
                True,
                "Pixels return to a blurred image, highest in the map first; area under the target's "
                "probability.",
                (_INSERTED, _PROBABILITY),
            ),
        },
    ),
    Metric(
        "cim",
        measures.along_a_curve("cim", metrics.complementary_insertion),
        {
            "cim": Shown(
                "Complementary insertion (cIM)",
                "cIM",
                True,
                "As insertion, lowest in the map first; area under the probability of the image's other "
                "classes.",
                (_INSERTED, "Probability of the other classes"),
            ),
        },
        lacks=_lacks_classes,
    ),
    Metric(
        "deletion",
        measures.along_a_curve("deletion", metrics.deletion),
        {
            "deletion": Shown(
                "Deletion",
                "Deletion",
                False,
                "Pixels are removed, highest in the map first; area under the target's probability.",
                ("Share of pixels removed", _PROBABILITY),
            ),
        },
    ),
    Metric(
        "pointing",
        measures.pointing,
        {
            "pointing": Shown(
                "Pointing game",
                "Pointing",
                True,
                "Share of targets whose map is greatest on, or within 15 pixels of, an object of the class.",
            ),
        },
        lacks=_lacks_boxes,
    ),
    Metric(
        "grid_pointing",
        measures.grid_pointing,
        {
            "grid_pointing": Shown(
                "Grid pointing game",
                "Grid",
                True,
                "Among several images in a grid, the share of the positive attribution in the target's cell.",
            ),
        },
        lacks=_lacks_grids,
    ),
    Metric(
        "contrast",
        measures.contrast,
        {
            "contrast_red": Shown(
                "Contrast localisation, red",
                "Red",
                True,
                "Two photographs side by side, one class minus the other: the share of the red on the one.",
            ),
            "contrast_blue": Shown(
                "Contrast localisation, blue",
                "Blue",
                True,
                "As before: the share of the blue on the other photograph. Chance is 0.5 for both.",
            ),
        },
        lacks=_lacks_pairs,
        explains=True,
    ),
    Metric(
        "counter_evidence",
        measures.counter_evidence,
        {
            "counter_evidence": Shown(
                "Counter-evidence",
                "Counter",
                True,
                "The 2 % of the pixels that are lowest in the map, and below zero, are blurred; change of "
                "the target's log-probability. Above zero: they did speak against it.",
            ),
            "counter_evidence_logit": Shown(
                "Counter-evidence, logit",
                "Counter, logit",
                True,
                "As counter-evidence: change of the target's logit.",
            ),
        },
    ),
    Metric(
        "sanity",
        measures.sanity,
        {
            "sanity": Shown(
                "Sanity check",
                "Sanity",
                False,
                "Rank correlation of the map with the one after the last layer is drawn anew at random.",
            ),
            "sanity_abs": Shown(
                "Sanity check of magnitudes",
                "Sanity, abs.",
                False,
                "As the sanity check, of the maps' magnitudes: whether a pixel matters, not for or against "
                "what.",
            ),
        },
        explains=True,
    ),
    Metric(
        "cascade",
        measures.cascade,
        {
            "cascade": Shown(
                "Cascading randomisation",
                "Cascade",
                False,
                "Rank correlation of the map with those after more and more layers, from the last, are drawn "
                "anew.",
                (_DEPTH, _CORRELATION),
            ),
            "cascade_abs": Shown(
                "Cascading randomisation of magnitudes",
                "Cascade, abs.",
                False,
                "As cascading randomisation, of the maps' magnitudes.",
                (_DEPTH, _CORRELATION),
            ),
        },
        explains=True,
    ),
    Metric(
        "class_sensitivity",
        measures.class_sensitivity,
        {
            "class_sensitivity": Shown(
                "Class sensitivity",
                "Class",
                False,
                "Rank correlation of the maps for the image's most and least likely class.",
                of_image=True,
            ),
            "class_sensitivity_abs": Shown(
                "Class sensitivity of magnitudes",
                "Class, abs.",
                False,
                "As class sensitivity, of the maps' magnitudes.",
                of_image=True,
            ),
        },
        explains=True,
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _PACKAGE}
"""What can be asked for, in the order of the page; see `register_metric`."""


def register_metric(
    metric: MetricFunction,
    *,
    name: str | None = None,
    title: str | None = None,
    short: str | None = None,
    higher_is_better: bool | None = None,
    explanation: str | None = None,
    curve: tuple[str, str] | None = None,
    jit: bool = False,
) -> MetricFunction:
    """Make a metric of one's own known by name: to evaluations, to the command and to the report.

    Args:
        metric: `metric(predict, image, heatmap, target) -> float` for one map: `predict(images)` gives
            probabilities `(n, k)` of normalised images `(n, h, w, c)`, `image` is `(h, w, c)`, `heatmap`
            `(h, w)`, `target` a class index. It may return a number and its curve, too. NaN is an undefined
            value. What else it needs it names as keyword-only parameters: `logits`, as `predict` but logits;
            `labels`, all true classes; `boxes`, the target's, `(left, top, right, bottom)` in pixels of the
            image; `mask`, bool `(h, w)`, where the target is; `key`, a random key, of the item's own;
            `explain(images, targets=None) -> heatmaps`, the method that is measured, on other images. An item
            without boxes or a mask is left out, unless the parameter has a default. Other options have
            defaults.
        name: by default the function's.
        title: for headings, and `short` for the heads of tables; by default the name.
        short: see `title`.
        higher_is_better: which way is good; None says nothing, and then no method is called better.
        explanation: one sentence; by default the first of the docstring.
        curve: the labels of the two axes of its curve, if that is to be drawn.
        jit: compile it; for a metric that is JAX all through.

    Returns:
        The metric, so that it may stand above a function as a decorator.

    Raises:
        InputError: a name that is one of the package's; a signature that cannot be called.

    >>> def spread(predict, image, heatmap, target):
    ...     return float(heatmap.std())
    >>> register_metric(spread, higher_is_better=False) is spread, METRICS["spread"].shown["spread"].title
    (True, 'Spread')
    >>> del METRICS["spread"]
    """
    made = metric_of(
        metric,
        name=name,
        title=title,
        short=short,
        higher_is_better=higher_is_better,
        explanation=explanation,
        curve=curve,
        jit=jit,
    )
    _check_free(made.name)
    METRICS[made.name] = made
    return metric


def choose_metrics(chosen: Iterable[str | MetricFunction]) -> tuple[Metric, ...]:
    """The metrics of those names and functions, each once.

    Raises `InputError` for an unknown name, and a function that is called as another metric is.

    >>> [metric.name for metric in choose_metrics(["im", "deletion", "im"])]
    ['im', 'deletion']
    """
    found: dict[str, Metric] = {}
    for one in chosen:
        if isinstance(one, str):
            check_choice("metric", one, METRICS)
            found[one] = METRICS[one]
            continue
        metric = next((known for known in METRICS.values() if known.function is one), None)
        if metric is None:
            metric = metric_of(one)
            _check_free(metric.name)
        if metric.name in found and found[metric.name] != metric:
            raise InputError(f"two metrics are called {metric.name!r}: register one under another name")
        found[metric.name] = metric
    return tuple(found.values())


def _check_free(name: str) -> None:
    for metric in _PACKAGE:
        if name in (metric.name, *metric.shown):
            raise InputError(f"there is a metric {name!r} in the package: give name= another one")


def check_metrics(chosen: Sequence[Metric], dataset: Dataset, *, maps_only: Sequence[str] = ()) -> None:
    """Raise `InputError` for a metric that needs what no sample of the dataset has, or what no map has that
    was read from a folder: `maps_only` are the names of those methods."""
    for metric in chosen:
        problem = metric.lacks(dataset)
        if problem is not None:
            raise InputError(problem)
        if metric.explains and maps_only:
            raise InputError(
                f"{metric.name} explains anew, which {maps_only[0]} cannot: measure the methods that can in "
                "a run of their own"
            )
