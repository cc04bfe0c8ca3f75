"""The commands `evaluate`, `report` and `rows`."""

import contextlib
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import rich.console
import typer
from rich.table import Column, Table

from dmbp_jax._checks import InputError
from dmbp_jax._plugins import load_plugin
from dmbp_jax.cli._options import (
    Activation,
    BatchSize,
    Network,
    options_of,
    read_activation,
    read_batch_size,
    split_names,
    use_compilation_cache,
)
from dmbp_jax.evaluation._evaluate import Evaluation
from dmbp_jax.evaluation._evaluate import evaluate as run
from dmbp_jax.evaluation._methods import CHEAP, GROUPS, known_methods
from dmbp_jax.evaluation._processes import join_processes
from dmbp_jax.evaluation._registry import METRICS
from dmbp_jax.evaluation._report import write_report
from dmbp_jax.evaluation._store import Row, Store, open_store
from dmbp_jax.evaluation._summary import (
    REFERENCE,
    Comparison,
    Summary,
    collect,
    compare,
    summarize,
    titles_of,
)
from dmbp_jax.images._files import atomic_path

# The numbers of a run as tables for a terminal.


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


# `dmbp-jax evaluate`, `report` and `rows`: run an evaluation, show it, export its rows.

_RUN = typer.Argument(help="The folder of an evaluation.")
ONLY_IN_PYTHON = frozenset(
    {"network", "samples", "folder", "name", "classes", "preprocess", "progress", "processes"}
)
"""Options of `evaluate` that the command does not have, or calls `--model`, `--data` and `--output`."""
COLUMNS = Row._fields[:6]
SHOWN = 20
"""The most left-out samples that are printed."""


@options_of(Evaluation, run, but=ONLY_IN_PYTHON, before="plugin")
def evaluate(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="imagenet:PATH, voc2007:PATH, voc2012:PATH, folder:PATH (with a labels.csv), grid:PATH, "
            "composites of several photographs, pairs:PATH, two side by side that the network gets right, or "
            "a kind of a plugin."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the run.")],
    model: Network = "squeezenet1_1",
    activation: Activation = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Separated by commas, by default {', '.join(CHEAP)}: {', '.join([*GROUPS, 'all'])}, or of: "
            f"{', '.join(known_methods())}; maps:FOLDER for maps that are there, NAME.npy for each image, or "
            "NAME.TARGET.npy; or of a plugin."
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Separated by commas, of: {', '.join(METRICS)}, or of a plugin. Default: insertion, and "
            "complementary_insertion where images have several classes. More may be added to a run later."
        ),
    ] = None,
    batch_size: BatchSize = "auto",
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            help="A file or a module that registers methods, metrics, networks or kinds of data of your own."
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of process 0, to share the run with other processes, here or elsewhere, that see "
            "the same folder; auto asks the cluster, as jax.distributed does."
        ),
    ] = None,
    num_processes: Annotated[int | None, typer.Option(help="How many share the run.")] = None,
    process_id: Annotated[int | None, typer.Option(help="Which one this is, from 0.")] = None,
    lost_after: Annotated[
        int, typer.Option(min=1, help="Seconds without a heartbeat after which a process counts as dead.")
    ] = 60,
    **options: Any,
) -> None:
    """Measure how good the maps of several methods are; an interrupted run is resumed."""
    for name in plugin or ():
        load_plugin(name)
    use_compilation_cache()
    joined = join_processes(output, coordinator, count=num_processes, index=process_id, lost_after=lost_after)
    with joined as processes, _that_goes_on():
        run(
            model,
            data,
            methods=split_names("methods", *methods) if methods else CHEAP,
            metrics=split_names("metrics", *metrics) if metrics else None,
            folder=output,
            output=read_activation(activation),
            batch_size=read_batch_size(batch_size),
            **options,
            processes=processes,
        )
    if processes.index > 0:
        typer.echo(f"process {processes.index} is done; process 0 prints the summary")
        return
    # A pipe has no width, and the table must not be cut.
    console = rich.console.Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)
    with open_store(output) as store:
        for table in summary_table(store):
            console.print(table)
        console.print(f"s/target: without the {store.compiling():.1f} s of compiling in all", markup=False)
        problems = store.problems()
        measured = next(store.rows(), None) is not None
    if problems:
        console.print(f"{len(problems)} left out:", markup=False)
        for problem in problems[:SHOWN]:
            console.print(f"  {problem.name}: {problem.message}", markup=False, soft_wrap=True)
        if len(problems) > SHOWN:
            console.print(f"  and {len(problems) - SHOWN} more, all in the report", markup=False)
    if not measured:
        raise InputError(f"nothing was measured: no image of {data} could be used")
    console.print(f"every row: dmbp-jax rows {output} -o rows.csv", markup=False, soft_wrap=True)
    console.print(f"a page to look at: dmbp-jax report {output}", markup=False, soft_wrap=True)


def report(
    run: Annotated[Path, _RUN],
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: RUN/report.html.")] = None,
) -> None:
    """Write one HTML page with tables, curves and a gallery; also of a run that is not complete."""
    typer.echo(f"wrote {write_report(run, output)}")


def rows(
    run: Annotated[Path, _RUN],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .csv to write.")],
) -> None:
    """Export every row: image, target, method, metric, value, seconds."""
    with (
        open_store(run) as store,
        atomic_path(output) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        count = 0
        for row in store.rows():
            # An undefined value is an empty field.
            writer.writerow(row[: len(COLUMNS)])
            count += 1
    typer.echo(f"wrote {count} rows to {output}")


@contextlib.contextmanager
def _that_goes_on() -> Iterator[None]:
    """A `with` block whose interruption prints that the run can be resumed."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes the run") from None
