"""Cases of a benchmark and their results, in a file and as a table."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.table import Column, Table

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax._ranges import check_whole
from dmbp_jax.bench._counts import NetworkCounts
from dmbp_jax.bench._measure import Spread
from dmbp_jax.bench._methods import TIMED, Timed
from dmbp_jax.models import get_architecture

# One row of a benchmark.

DTYPES = ("float32", "bfloat16")
SHORT = 1
"""Steps of the short call whose time is subtracted from the long one's, so that the work once per call
cancels: gates, the first convolution, the maps at the end. Not 0, which would be a program without a loop."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a benchmark. Raises `InputError` for a value outside its range."""

    model: str = "squeezenet1_1"
    batch_size: int = 1
    dtype: str = "float32"
    method: str = "dmbp"
    steps: int | None = None
    """Steps of DMBP and Integrated Gradients, samples of SmoothGrad, masks of RISE; None: see `TIMED`."""
    repeats: int = 5
    """Rounds in which everything is measured once."""
    size: int = 224
    """The side of the square images, in pixels."""
    against_torch: bool = False

    def __post_init__(self) -> None:
        get_architecture(self.model)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("method to time", self.method, TIMED)
        for name, value in (("batch size", self.batch_size), ("repeats", self.repeats), ("size", self.size)):
            check_whole(name, value, least=1)
        if self.method == "dmbp":
            why = ", since a step is measured as the difference of two calls"
            check_whole("steps", self.count, least=SHORT + 1, why=why)
        check_whole("steps", self.count, least=1)
        if self.against_torch and not self.timed.modules:
            raise InputError(f"{self.method} has no PyTorch program to compare with: leave it out")

    @property
    def timed(self) -> Timed:
        """The method."""
        return TIMED[self.method]

    @property
    def count(self) -> int:
        """The number of steps."""
        return self.timed.default if self.steps is None or self.timed.option is None else self.steps

    @property
    def title(self) -> str:
        """The row in a few words."""
        return f"{self.method}, {self.model}, batch {self.batch_size}, {self.dtype}"


# The results of a benchmark, as records that become JSON.


class Side(NamedTuple):
    """The times of one program, in seconds per image."""

    call: Spread
    """The whole call with all its steps."""
    step: Spread
    forward: Spread
    """One plain forward pass of a batch, per image."""
    step_over_four_forwards: Spread


class Against(NamedTuple):
    """PyTorch in the same rounds; ratios are ours over PyTorch's, below 1 where ours is faster."""

    torch: Side
    call_ratio: Spread
    step_ratio: Spread
    forward_ratio: Spread
    agreement: float | None
    """The correlation of the two maps, None where both draw at random."""


class BenchRow(NamedTuple):
    """A finished row."""

    case: Case
    ours: Side
    first_call_seconds: float
    """Tracing, compiling and the first run."""
    compile_seconds: float
    """XLA's part of that."""
    program_bytes: int | None
    """Memory of the largest compiled program: arguments, results and temporaries."""
    device_peak_bytes: int | None
    """The device's peak memory in this process, earlier rows included; None on CPUs."""
    counts: NetworkCounts
    flops_per_step: int
    """Per image: convolutions and matrix products only."""
    bytes_per_step_at_least: int | None
    """Per image, if everything else were fused (see `step_bytes`); DMBP only."""
    flops_per_second: float
    matmul_flops_per_second: float
    """Operations per second of a large square product in the same dtype, the best of the same rounds."""
    share_of_matmul: float
    call_over_gradient: Spread | None
    """A call over one of the method `gradient`, in the same rounds; None for methods of several steps."""
    against: Against | None


def to_json(value: Any) -> Any:
    """Records as dicts, for `json.dumps`.

    >>> to_json(Spread(1.0, 0.5, 2.0))
    {'median': 1.0, 'lowest': 0.5, 'highest': 2.0}
    """
    if isinstance(value, Case):
        return dataclasses.asdict(value) | {"steps": value.count}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_json(field) for name, field in value._asdict().items()}
    return value


# A benchmark as a table for a terminal.

COLUMNS = (
    "s/image",
    "ms/image and step",
    "4 forwards, ms",
    "step / 4 forwards",
    "call / gradient",
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
        "" if row.call_over_gradient is None else f"{row.call_over_gradient.median:.2f}",
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
