"""The tables of a report, compared with the paper's."""

import functools
import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dmbp_jax.evaluation._page import Cell, Column, Table
from dmbp_jax.evaluation._summary import Comparison, Interval, Key, Summary, Titles

# The paper's published figures, by the names of this package.

SETUPS: dict[str, tuple[str, str]] = {
    "voc_vgg16": ("voc2012", "vgg16_caffe"),
    "voc_resnet50": ("voc2012", "resnet50_caffe"),
    "imagenet_vgg16": ("imagenet", "vgg16"),
    "imagenet_resnet50": ("imagenet", "resnet50"),
}
"""The paper's four pairs of data and network, as dataset kind and architecture."""

SETUP_TITLES: dict[str, str] = {
    "voc_vgg16": "VOC\u00a02012 VGG\u201116",
    "voc_resnet50": "VOC\u00a02012 ResNet\u201150",
    "imagenet_vgg16": "ImageNet VGG\u201116",
    "imagenet_resnet50": "ImageNet ResNet\u201150",
}
"""Titles that break into two lines in a narrow column; other spaces and hyphens do not break."""

METHOD_NAMES: dict[str, str] = {"dmbp_all": "dmbp", "nd": "gradient_x_input"}
"""Methods whose names in the paper differ."""


class Published(NamedTuple):
    """One published number."""

    table: int
    setup: str
    """A key of `SETUPS`, or `average`: Table 2's mean of its six rows."""
    metric: str
    """`insertion`, `complementary_insertion` or `sanity`; for the average `average`."""
    method: str
    value: float


@functools.cache
def published() -> tuple[Published, ...]:
    """Every published number of Tables 1 to 3, in the paper's order.

    Source: Ruiz, Agudo, Moreno-Noguer, ICCV 2021.

    >>> next(p for p in published() if p.table == 2 and p.setup == "imagenet_resnet50" and p.method == "dmbp")
    Published(table=2, setup='imagenet_resnet50', metric='insertion', method='dmbp', value=0.56)
    """
    text = importlib.resources.files("dmbp_jax.evaluation").joinpath("paper_tables.toml").read_text("utf-8")
    numbers = []
    for name, table in tomllib.loads(text).items():
        columns = table.pop("columns")
        for row, values in table.items():
            for column, value in zip(columns, values, strict=True):
                if name == "table3":  # its rows are methods
                    setup, metric, method = column, "sanity", row
                elif row == "average":
                    setup, metric, method = row, row, column
                else:
                    (setup, _, short), method = row.rpartition("_"), column
                    metric = _METRIC_NAMES[short]
                number = int(name.removeprefix("table"))
                numbers.append(Published(number, setup, metric, METHOD_NAMES.get(method, method), value))
    return tuple(numbers)


def published_setup(dataset: str, architecture: str) -> str | None:
    """The paper's setup with that dataset kind and architecture, if it has one.

    >>> published_setup("voc2012", "vgg16_caffe"), published_setup("folder", "squeezenet1_1")
    ('voc_vgg16', None)
    """
    return next((setup for setup, pair in SETUPS.items() if pair == (dataset, architecture)), None)


def published_columns(table: int, metric: str) -> dict[str, dict[str, float]]:
    """A table's numbers for a metric: by setup, then by method.

    >>> published_columns(3, "sanity")["voc_vgg16"]
    {'guided_backprop': 0.99, 'guided_grad_cam': 0.25, 'dmbp': 0.02}
    """
    columns: dict[str, dict[str, float]] = {}
    for one in published():
        if (one.table, one.metric) == (table, metric):
            columns.setdefault(one.setup, {})[one.method] = one.value
    return columns


# The tables of a run's report: the paper's three with its published figures, and every metric.

NOTHING = Cell("\u2013", muted=True)
INTERVAL = "95\u00a0%\u00a0interval"
_METRIC_NAMES = {"im": "insertion", "cim": "complementary_insertion"}
"""The paper's short names of metrics."""
_PAPER_METRICS = {
    1: ("insertion", "complementary_insertion"),
    2: ("insertion", "complementary_insertion"),
    3: ("sanity",),
}
_CAPTIONS = {
    1: "Table 1. What the parts of DMBP's objective contribute.",
    2: "Table 2. DMBP and other methods.",
    3: "Table 3. Sanity check: rank correlation with the maps after the last layer is randomised.",
}


class Setup(NamedTuple):
    """The data and the network of a run."""

    dataset: str
    """A dataset kind, such as `imagenet`."""
    architecture: str


def paper_table(
    number: int, summaries: Mapping[Key, Summary], methods: Sequence[str], setup: Setup, titles: Titles
) -> Table | None:
    """The run's numbers in the layout of one of the paper's Tables 1 to 3, the published ones beside them.

    If the paper does not have this data and network, all its columns are shown as context, labelled so. None
    if the run measured no metric of the table.
    """
    metrics = [m for m in _PAPER_METRICS[number] if any((m, method) in summaries for method in methods)]
    rows = [m for m in _paper_methods(number, methods) if any((metric, m) in summaries for metric in metrics)]
    if not rows or (number == 1 and not {"dmbp_positive", "dmbp_posneg"} & set(rows)):
        return None
    columns = [Column("Method", numeric=False)]
    cells: dict[str, list[Cell]] = {method: [Cell(titles.method(method))] for method in rows}
    own = published_setup(setup.dataset, setup.architecture)
    for metric in metrics:
        published = published_columns(number, metric)
        shown = titles.metric(metric)
        group = f"{shown.short}, {shown.direction}"
        columns += [Column("this\u00a0run", group), Column(INTERVAL, group)]
        same = [own] if own in published else []
        columns += [Column("published", group) for _ in same]
        best = _best({m: s.mean for m in rows if (s := summaries.get((metric, m)))}, shown.higher_is_better)
        for method in rows:
            summary = summaries.get((metric, method))
            cells[method] += [
                Cell(decimal(summary.mean), strong=method in best) if summary else NOTHING,
                Cell(interval_text(summary.interval), muted=True) if summary else NOTHING,
            ]
            cells[method] += [_published(published[one].get(method)) for one in same]
    columns.append(Column("seconds", "Time"))
    for method in rows:
        cells[method].append(_seconds(summaries, method, metrics))
    if own is None:
        for metric in metrics:
            published = published_columns(number, metric)
            group = f"{titles.metric(metric).short} published for other networks and images"
            columns += [Column(SETUP_TITLES[one], group) for one in published]
            for method in rows:
                cells[method] += [_published(values.get(method)) for values in published.values()]
        for values in published_columns(number, "average").values():
            columns.append(Column("average of\u00a0both", "Published"))
            for method in rows:
                cells[method].append(_published(values.get(method)))
    return Table(
        name=f"paper{number}",
        caption=_CAPTIONS[number],
        columns=columns,
        rows=list(cells.values()),
        strong_row=rows.index("dmbp") if "dmbp" in rows else None,
    )


def overview_table(
    summaries: Mapping[Key, Summary], methods: Sequence[str], titles: Titles, *, compiling: float
) -> Table:
    """The mean of every metric of every method: a row for each method; `compiling` in seconds."""
    metrics = list(dict.fromkeys(metric for metric, _ in summaries))
    best = {
        metric: _best(
            {m: s.mean for (k, m), s in summaries.items() if k == metric},
            titles.metric(metric).higher_is_better,
        )
        for metric in metrics
    }
    rows = []
    for method in methods:
        row = [Cell(titles.method(method), titles.method(method))]
        for metric in metrics:
            one = summaries.get((metric, method))
            row.append(Cell(decimal(one.mean), one.mean, strong=method in best[metric]) if one else NOTHING)
        known = [s.seconds for (_, m), s in summaries.items() if m == method]
        rows.append([*row, Cell(duration(known[0]), known[0]) if known else NOTHING])
    return Table(
        name="overview",
        caption="Means of every metric. Choose a column's head to sort by it.",
        columns=[
            Column("Method", numeric=False),
            *(Column(titles.metric(metric).short, titles.metric(metric).direction) for metric in metrics),
            Column("Seconds"),
        ],
        rows=rows,
        note="The best of each column is bold. Seconds: median per explained target, without the "
        f"{duration(compiling)} seconds of compiling in all.",
        sortable=True,
        strong_row=methods.index("dmbp") if "dmbp" in methods else None,
    )


def metric_table(
    metric: str,
    summaries: Mapping[Key, Summary],
    comparisons: Mapping[Key, Comparison],
    reference: str,
    titles: Titles,
) -> Table:
    """One metric in full, with the methods' differences to the reference where there are any."""
    shown = titles.metric(metric)
    here = {method: one for (name, method), one in summaries.items() if name == metric}
    compared = any(name == metric for name, _ in comparisons)
    best = _best({method: one.mean for method, one in here.items()}, shown.higher_is_better)
    rows = []
    for method, one in here.items():
        row = [
            Cell(titles.method(method), titles.method(method)),
            Cell(decimal(one.mean), one.mean, strong=method in best),
            Cell(interval_text(one.interval), one.interval and one.interval[0], muted=True),
            Cell(f"{one.targets:,}", one.targets),
            Cell(f"{one.images:,}", one.images),
            Cell(f"{one.undefined:,}", one.undefined, muted=not one.undefined),
        ]
        rows.append(row + (_compared(comparisons.get((metric, method))) if compared else []))
    group = f"Method minus {titles.method(reference)}, on common targets"
    heads = ["Difference", INTERVAL, "Better", "Worse", "Wilcoxon\u00a0p"] if compared else []
    return Table(
        name="metric" + metric.replace("_", ""),
        caption=f"{shown.title}, {shown.direction}. {shown.explanation}",
        columns=[
            Column("Method", numeric=False),
            *(Column(title) for title in ("Mean", INTERVAL, "Targets", "Images", "Undefined")),
            *(Column(head, group) for head in heads),
        ],
        rows=rows,
        sortable=True,
        strong_row=list(here).index(reference) if reference in here else None,
    )


def _compared(one: Comparison | None) -> list[Cell]:
    if one is None:
        return [NOTHING] * 5
    return [
        Cell(decimal(one.difference, signed=True), one.difference),
        Cell(interval_text(one.interval, signed=True), one.interval and one.interval[0], muted=True),
        _share(one.better),
        _share(one.worse),
        Cell(_probability(one.p), one.p),
    ]


def _share(value: float | None) -> Cell:
    return NOTHING if value is None else Cell(f"{value:.0%}".replace("%", "\u00a0%"), value)


def decimal(value: float | None, *, signed: bool = False) -> str:
    """Three decimals with a true minus sign; a dash for None.

    >>> decimal(0.12345, signed=True), decimal(-0.0001), decimal(None) == NOTHING.text
    ('+0.123', '0.000', True)
    """
    if value is None:
        return NOTHING.text
    # z: no minus sign before zero.
    text = f"{value:{'+' if signed else ''}z.3f}".replace("-", "\u2212")
    return "0.000" if text == "+0.000" else text


def interval_text(interval: Interval | None, *, signed: bool = False) -> str:
    """An interval in brackets; a dash for None.

    >>> interval_text((0.25, 0.5))
    '[0.250, 0.500]'
    """
    if interval is None:
        return NOTHING.text
    return f"[{decimal(interval[0], signed=signed)}, {decimal(interval[1], signed=signed)}]"


def duration(seconds: float | None) -> str:
    """Seconds to a hundredth, so that points align; a dash for None.

    >>> duration(0.001), duration(12.346), duration(1234.5)
    ('<0.01', '12.35', '1,234.50')
    """
    if seconds is None:
        return NOTHING.text
    return f"{seconds:,.2f}" if seconds >= 0.01 else "<0.01"


def _paper_methods(number: int, methods: Sequence[str]) -> list[str]:
    """The run's methods in a table: in the paper's order, then those that are not in the paper."""
    columns = [c for metric in _PAPER_METRICS[number] for c in published_columns(number, metric).values()]
    paper = list(dict.fromkeys(method for column in columns for method in column))
    ours = [m for m in methods if m not in paper and m not in ("dmbp_positive", "dmbp_posneg")]
    return [m for m in paper if m in methods] + ([] if number == 1 else ours)


def _best(means: Mapping[str, float | None], higher_is_better: bool | None) -> set[str]:
    """The methods with the best displayed mean; empty for a single method, or if the better direction is
    unknown."""
    shown = {method: round(mean, 3) for method, mean in means.items() if mean is not None}
    if len(shown) < 2 or higher_is_better is None:
        return set()
    best = (max if higher_is_better else min)(shown.values())
    return {method for method, mean in shown.items() if mean == best}


def _published(value: float | None) -> Cell:
    return NOTHING if value is None else Cell(f"{value:.2f}".replace("-", "\u2212"))


def _seconds(summaries: Mapping[Key, Summary], method: str, metrics: Sequence[str]) -> Cell:
    known = [s.seconds for metric in metrics if (s := summaries.get((metric, method)))]
    return Cell(duration(known[0] if known else None))


def _probability(p: float | None) -> str:
    if p is None:
        return NOTHING.text
    return "<0.001" if p < 0.001 else f"{p:.3f}"
