"""What a benchmark finds, as records that become JSON."""

import dataclasses
from typing import Any, NamedTuple

from dmbp_jax.bench.case import Case
from dmbp_jax.bench.counts import NetworkCounts
from dmbp_jax.bench.timing import Spread


class Side(NamedTuple):
    """What one program takes; seconds are per image."""

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
    """What XLA took of that."""
    program_bytes: int | None
    """Memory of the largest compiled program: arguments, results and temporaries."""
    device_peak_bytes: int | None
    """The most that the device ever held in this process, earlier rows included; None on CPUs."""
    counts: NetworkCounts
    flops_per_step: int
    """Per image: convolutions and matrix products only."""
    bytes_per_step_at_least: int | None
    """Per image, if everything else were fused (see `step_bytes`); DMBP only."""
    flops_per_second: float
    matmul_flops_per_second: float
    """Operations per second of a large square product in the same dtype, the best of the same rounds."""
    share_of_matmul: float
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
