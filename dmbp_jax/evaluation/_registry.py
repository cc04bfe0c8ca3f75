"""The metrics by name: the package's, and those that users have registered."""

from collections.abc import Iterable, Sequence

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.evaluation._items import NEEDS, Metric
from dmbp_jax.evaluation._own_metrics import MetricFunction, metric_of
from dmbp_jax.evaluation._package_metrics import FAITHFULNESS, PACKAGE
from dmbp_jax.images import Dataset

_OURS = (*PACKAGE, *FAITHFULNESS)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _OURS}
"""The metrics by name, in the order of the page; see `register_metric`."""


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
    """Register a metric by name for evaluations, the command and the report.

    Args:
        metric: `metric(predict, image, heatmap, target) -> float` for one map: `predict(images)` gives
            probabilities `(n, k)` of normalised images `(n, h, w, c)`, `image` is `(h, w, c)`, `heatmap`
            `(h, w)`, `target` a class index. It may return a number and its curve, too. NaN is an undefined
            value. Further data are keyword-only parameters: `logits`, as `predict` but logits; `labels`, all
            true classes; `boxes`, the target's, `(left, top, right, bottom)` in pixels of the image; `mask`,
            the target's, bool `(h, w)`; `void`, bool `(h, w)`, pixels to ignore, or None; `key`, a random key
            of the item; `explain(images, targets=None) -> heatmaps`, the measured method on other images,
            with the random numbers of the item's map. An item without boxes or a mask is left out, unless the
            parameter has a default. Other options need defaults.
        name: by default the function's.
        title: for headings, and `short` for the heads of tables; by default the name.
        short: see `title`.
        higher_is_better: whether higher values are better; None: unknown, and no method is called better.
        explanation: one sentence; by default the first of the docstring.
        curve: the labels of the two axes of its curve, if that is to be drawn.
        jit: compile it; for a metric that is written in JAX throughout.

    Returns:
        The metric, so that it may stand above a function as a decorator.

    Raises:
        InputError: a name that is empty, or that the package uses or reserves, such as `"all"`; a signature
            that cannot be called.

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
    METRICS[made.name] = made._replace(untold=None)
    return metric


def _check_metric(name: str) -> None:
    """Raise `InputError` for an unknown name, with the metrics whose titles contain it as a hint."""
    called = {
        shown.title: one.name
        for one in METRICS.values()
        for shown in one.shown.values()
        if name.lower() in shown.title.lower()
    }
    if name not in METRICS and called:
        hints = ", ".join(f"{title} is {of!r}" for title, of in called.items())
        raise InputError(f"unknown metric {name!r}: {hints}")
    check_choice("metric", name, METRICS)


def choose_metrics(chosen: Iterable[str | MetricFunction]) -> tuple[Metric, ...]:
    """The metrics of those names and functions, each once.

    Raises `InputError` for an unknown name, and a function with the name of another metric.

    >>> [metric.name for metric in choose_metrics(["insertion", "deletion", "insertion"])]
    ['insertion', 'deletion']
    """
    found: dict[str, Metric] = {}
    for one in chosen:
        if isinstance(one, str):
            _check_metric(one)
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
    for metric in _OURS:
        if name in (metric.name, *metric.shown):
            raise InputError(f"there is a metric {name!r} in the package: give name= another one")


def check_metrics(
    chosen: Sequence[Metric], dataset: Dataset, *, classes: int, maps_only: Sequence[str] = ()
) -> None:
    """Raise `InputError` for a metric that needs data that no sample has, more than the network's `classes`,
    or further explanations of methods read from a folder, whose names are `maps_only`."""
    for metric in chosen:
        for need in metric.needs:
            if not NEEDS[need].has(dataset):
                raise InputError(f"{metric.name} needs {NEEDS[need].text}")
        if classes < metric.classes:
            raise InputError(
                f"{metric.name} needs a network of at least {metric.classes} classes, and this one has "
                f"{classes}"
            )
        if metric.explains and maps_only:
            raise InputError(
                f"{metric.name} needs new explanations, which {maps_only[0]} cannot compute: measure "
                "the other methods in a separate run"
            )
