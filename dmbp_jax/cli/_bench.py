"""`dmbp-jax bench`: speed, compared with plain forward passes and with PyTorch."""

import itertools
import json
import sys
from pathlib import Path
from typing import Annotated

import rich.console
import typer

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.bench._measure import describe_device
from dmbp_jax.bench._methods import TIMED
from dmbp_jax.bench._results import BenchRow, Case, bench_table, to_json
from dmbp_jax.bench._run import measure_all
from dmbp_jax.cli._options import split_names
from dmbp_jax.images._files import atomic_path, check_writable


def bench(
    *,
    model: Annotated[str, typer.Option(help="Networks, separated by commas.")] = "squeezenet1_1",
    batch_size: Annotated[str, typer.Option(help="Images at once, separated by commas.")] = "1",
    dtype: Annotated[str, typer.Option(help="Of the activations: float32, bfloat16, or both.")] = "float32",
    method: Annotated[str, typer.Option(help=f"Separated by commas, of: {', '.join(TIMED)}.")] = "dmbp",
    steps: Annotated[
        int | None,
        typer.Option(
            help="DMBP's and Integrated Gradients' steps, SmoothGrad's samples, RISE's masks. Default: "
            + ", ".join(f"{timed.default} of {timed.name}" for timed in TIMED.values() if timed.option)
            + "."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Rounds in which everything is measured once.")] = 5,
    size: Annotated[int, typer.Option(help="Height and width of the images, in pixels.")] = 224,
    against: Annotated[
        str | None,
        typer.Option(help="torch: also a PyTorch program that does the same, in the same rounds."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write every number: a .json file.")
    ] = None,
) -> None:
    """Measure how fast a method is on this machine, with random weights and images."""
    if against is not None:
        check_choice("program to compare with", against, ["torch"])
    if output is not None:
        if output.suffix.lower() != ".json":
            raise InputError(f"cannot write {output}: its ending must be .json")
        check_writable(output)
    cases = [
        Case(
            model=network,
            batch_size=count,
            dtype=kind,
            method=name,
            steps=steps,
            repeats=repeats,
            size=size,
            against_torch=against == "torch",
        )
        for name, network, count, kind in itertools.product(
            split_names("method", method),
            split_names("model", model),
            _counts(batch_size),
            split_names("dtype", dtype),
        )
    ]
    measurements: list[BenchRow] = []
    for measurement in measure_all(cases):
        measurements.append(measurement)
        # After each row, so that an interrupted run has written its rows.
        if output is not None:
            _write(output, measurements)
    # A pipe has no width, and the table must not be cut.
    console = rich.console.Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 240)
    device = describe_device()
    console.print(
        f"{device['platform']} ({device['kind']}), {device['host_cores']} host cores, JAX {device['jax']}; "
        f"{size} x {size} pixels, medians of {repeats} rounds",
        markup=False,
    )
    console.print(bench_table(measurements))
    noisy = [row.case.title for row in measurements if row.ours.step.lowest <= 0]
    noisy += [
        f"{row.case.title}, torch"
        for row in measurements
        if row.against and row.against.torch.step.lowest <= 0
    ]
    for title in noisy:
        console.print(
            f"{title}: too noisy, a long call was faster than a short one; take more --steps",
            markup=False,
            soft_wrap=True,
        )
    for row in measurements:
        if row.against is not None and row.against.agreement is not None:
            console.print(
                f"{row.case.title}: the two programs' maps correlate with {row.against.agreement:.4f}",
                markup=False,
            )
    if output is not None:
        console.print(f"wrote {output}", markup=False, soft_wrap=True)


def _write(path: Path, measurements: list[BenchRow]) -> None:
    run = {"device": describe_device(), "measurements": [to_json(row) for row in measurements]}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def _counts(numbers: str) -> list[int]:
    counts = []
    for part in split_names("batch size", numbers):
        try:
            counts.append(int(part))
        except ValueError:
            raise InputError(f"batch size must be whole numbers, separated by commas, got {part!r}") from None
    return counts
