"""A benchmark as a table for a terminal."""

from collections.abc import Sequence

from rich.table import Column, Table

from dmbp_jax.bench.results import BenchRow
from dmbp_jax.bench.timing import Spread

COLUMNS = (
    "s/image",
    "ms/image and step",
    "4 forwards, ms",
    "step / 4 forwards",
    "compile s",
    "MiB",
    "GFLOP/s",
    "of matmul",
)
AGAINST = ("torch ms/step", "step ratio", "lowest to highest", "call ratio", "lowest to highest")


def bench_table(measurements: Sequence[BenchRow]) -> Table:
    """One row for each measurement: medians over the rounds, with the range of every ratio."""
    compared = any(row.against for row in measurements)
    headers = COLUMNS + (AGAINST if compared else ())
    table = Table(
        "method",
        "model",
        Column("batch", justify="right"),
        "dtype",
        Column("steps", justify="right"),
        *(Column(header, justify="right") for header in headers),
        box=None,
    )
    for row in measurements:
        case = row.case
        table.add_row(
            case.method,
            case.model,
            f"{case.batch_size}",
            case.dtype,
            f"{case.count}",
            *_ours(row),
            *(_against(row) if compared else ()),
        )
    return table


def _ours(row: BenchRow) -> tuple[str, ...]:
    return (
        f"{row.ours.call.median:.3g}",
        f"{1e3 * row.ours.step.median:.3g}",
        f"{1e3 * 4 * row.ours.forward.median:.3g}",
        f"{row.ours.step_over_four_forwards.median:.2f}",
        f"{row.compile_seconds:.1f}",
        "" if row.program_bytes is None else f"{row.program_bytes / 2**20:.0f}",
        f"{row.flops_per_second / 1e9:.3g}",
        f"{row.share_of_matmul:.0%}",
    )


def _against(row: BenchRow) -> tuple[str, ...]:
    if row.against is None:
        return ("",) * len(AGAINST)
    return (
        f"{1e3 * row.against.torch.step.median:.3g}",
        f"{row.against.step_ratio.median:.2f}",
        _range(row.against.step_ratio),
        f"{row.against.call_ratio.median:.2f}",
        _range(row.against.call_ratio),
    )


def _range(ratio: Spread) -> str:
    return f"{ratio.lowest:.2f} to {ratio.highest:.2f}"
