"""The numbers of a run as tables for a terminal."""

from collections.abc import Iterator

from rich.table import Column, Table

from dmbp_jax.evaluation.store import Store
from dmbp_jax.report.summary import REFERENCE, Comparison, Summary, collect, compare, summarize
from dmbp_jax.report.titles import titles_of


def summary_table(store: Store) -> Iterator[Table]:
    """A table per metric: each method's mean, its interval, its difference from DMBP, seconds per target."""
    titles = titles_of(store)
    measurements = collect(store.rows(), titles)
    summaries = summarize(measurements)
    comparisons = compare(measurements, REFERENCE, titles=titles)
    for name in dict.fromkeys(metric for metric, _ in summaries):
        metric = titles.metric(name)
        table = Table(
            "method",
            *(
                Column(header, justify="right")
                for header in (
                    "mean",
                    "95 % interval",
                    f"minus {REFERENCE}",
                    "95 % interval",
                    "n",
                    "s/target",
                )
            ),
            title=f"{metric.title}, {metric.direction}",
            title_justify="left",
            box=None,
        )
        for (of, method), summary in summaries.items():
            if of == name:
                table.add_row(method, *_cells(summary, comparisons.get((name, method))))
        yield table


def _cells(summary: Summary, comparison: Comparison | None) -> Iterator[str]:
    yield "undefined" if summary.mean is None else f"{summary.mean:.3f}"
    yield _interval(summary.interval)
    yield "" if comparison is None else f"{comparison.difference:+.3f}"
    yield "" if comparison is None else _interval(comparison.interval, sign="+")
    yield f"{summary.targets}" + (f" ({summary.undefined} undefined)" if summary.undefined else "")
    yield "" if summary.seconds is None else f"{summary.seconds:.2f}"


def _interval(interval: tuple[float, float] | None, *, sign: str = "") -> str:
    return "" if interval is None else f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}"
