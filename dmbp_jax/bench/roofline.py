"""How fast a step could be at most: the roofline (Williams, Waterman, Patterson, CACM 2009).

What comes out is a projection from data sheets, not a measurement: no program reaches the peak of its device,
and convolutions at batch one stay far below it.
"""

from typing import Literal, NamedTuple

import numpy as np

from dmbp_jax.bench.counts import NetworkCounts
from dmbp_jax.checks import InputError, check_choice

Precision = Literal["float32", "tf32", "bfloat16"]
BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2}
"""Per activation; masks and the optimiser's state have four in every case."""


class Accelerator(NamedTuple):
    """A device, by its maker's data sheet."""

    name: str
    peaks: dict[str, float]
    """Dense operations per second by precision."""
    bandwidth: float
    """Bytes per second between the device and its own memory."""


ACCELERATORS = {
    "a100": Accelerator("A100 80 GB SXM", {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}, 2.039e12),
    "a100_40gb": Accelerator(
        "A100 40 GB SXM", {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}, 1.555e12
    ),
    "h100": Accelerator("H100 SXM", {"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12}, 3.35e12),
    "tpu_v5e": Accelerator("TPU v5e", {"bfloat16": 197e12}, 819e9),
}
"""A TPU v5e multiplies in bfloat16 only; JAX's default precision there rounds float32 operands to it."""


class Projection(NamedTuple):
    """The least time that something takes, and what it waits for."""

    seconds: float
    bound: Literal["arithmetic", "memory"]


def project(
    flops: float | int, bytes_moved: float | int, device: Accelerator, precision: Precision
) -> Projection:
    """`max(flops / peak, bytes / bandwidth)`: arithmetic and memory traffic overlap perfectly.

    Raises `InputError` for a precision in which the device does not multiply.

    >>> device = Accelerator("toy", {"float32": 100.0}, bandwidth=10.0)
    >>> project(200.0, 50.0, device, "float32")
    Projection(seconds=5.0, bound='memory')
    """
    check_choice(f"precision of {device.name}", precision, device.peaks)
    arithmetic, memory = flops / device.peaks[precision], bytes_moved / device.bandwidth
    return Projection(arithmetic, "arithmetic") if arithmetic >= memory else Projection(memory, "memory")


def step_bytes(counts: NetworkCounts, *, batch_size: int = 1, precision: Precision = "float32") -> int:
    """Bytes that a step of DMBP moves at least, per image, with every elementwise operation fused.

    For every activation: of each branch, written and read on the way forward, and read again for the masks'
    gradient; of the one branch that goes back, a cotangent written and read. The optimiser reads and writes
    `theta` and `v`; all three passes read the masks, from one `theta`, and the gates, a byte each. Weights
    are read twice, forward with both branches and all images of a batch at once.

    >>> step_bytes(NetworkCounts(0, 0, weights=100, activations=10, gates=10, masks=10), batch_size=2)
    1030
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    check_choice("precision", precision, BYTES)
    size = BYTES[precision]
    activations = (2 * 3 + 2) * size * counts.activations
    masks = (4 + 3) * 4 * counts.masks
    gates = 3 * counts.gates
    return activations + masks + gates + 2 * size * counts.weights // batch_size


def slice_seconds(seconds: float, chips: int, images: int) -> float:
    """Seconds for many images on a slice of chips that need nothing of each other: images are independent.

    >>> slice_seconds(2.0, chips=4, images=9)
    6.0
    """
    if chips < 1:
        raise InputError(f"chips must be at least 1, got {chips}")
    return seconds * float(np.ceil(images / chips))
