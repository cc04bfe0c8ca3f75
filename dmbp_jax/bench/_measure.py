"""What is measured: times, memory, the device, and what it could do."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmbp_jax._calls.chunks import program_bytes
from dmbp_jax._checks import check_choice, check_whole
from dmbp_jax._explain import explain
from dmbp_jax.bench._counts import NetworkCounts
from dmbp_jax.dmbp import DMBPConfig
from dmbp_jax.dmbp._config import configure
from dmbp_jax.dmbp._method import masked_sites
from dmbp_jax.rules import find_sites
from dmbp_jax.typing import Apply, Params

# What the device at hand is and can do, as far as it lets itself be asked.


def describe_device() -> dict[str, Any]:
    """The default device and the versions that matter, for the head of a table."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
        "host": platform.machine(),
        "host_cores": cores,
        "jax": jax.__version__,
        # A program that comes from there was not compiled, whatever the clock says.
        "compilation_cache": jax.config.values["jax_compilation_cache_dir"],
    }


def peak_bytes() -> int | None:
    """The most memory that the device's allocator ever held in this process; None where it does not count.

    CPUs do not count.
    """
    statistics = jax.devices()[0].memory_stats()
    return None if statistics is None else statistics.get("peak_bytes_in_use")


def matrix_product(dtype: str) -> tuple[Callable[[], object], int]:
    """A product of two large square matrices, to measure what the device can do, and its operations.

    The precision is JAX's default, which is also that of the networks: on GPUs and TPUs lower than float32.
    """
    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(matrix, matrix)), 2 * size**3


# What DMBP keeps in memory for each image: masks, their optimiser's state, and everything together.


class Memory(NamedTuple):
    """What one image more in a chunk costs, in bytes where nothing else is said."""

    masked: int
    """Activations that have a mask: how many."""
    masks: int
    """Their `theta`, float32."""
    optimiser: int
    """RMSProp's running mean of squares, float32; the preset `fast` has none."""
    total: int
    """Everything that XLA keeps at its peak: the two above, their gradients and both branches' masks, gates,
    activations, the image and the results."""
    parameters: int
    """The network's, once for all images."""


def count_memory(
    apply: Apply, params: Params, size: tuple[int, int, int], *, preset: str = "paper", **options: Any
) -> Memory:
    """Count the memory that DMBP takes for an image of `size` `(h, w, c)`; nothing is computed.

    Compiles the program for one image and for two: what the second adds is what each further one adds.
    `params` may be `jax.ShapeDtypeStruct`s.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, images, *, rule=PLAIN):
    ...     z = rule.affine("scale", images * params["scale"], "filter")
    ...     return rule.relu("relu", z).mean(axis=(1, 2))
    >>> memory = count_memory(apply, {"scale": jnp.ones(())}, (8, 8, 3), preset="fast")
    >>> memory.masked, memory.masks, memory.optimiser, memory.parameters
    (192, 768, 0, 4)
    >>> memory.total > memory.masks + memory.optimiser
    True
    """
    config = configure(preset, **options)
    image = jax.ShapeDtypeStruct(size, jnp.float32)
    sites = masked_sites(find_sites(apply, params, image), config.mask_sites)
    masked = sum(math.prod(site.shape) for site in sites)
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))

    def explain_all(params: Params, images: jax.Array, targets: jax.Array) -> Any:
        return explain(apply, params, images, targets, preset=preset, **options)

    def needed(chunk: int) -> int:
        images = jax.ShapeDtypeStruct((chunk, *size), jnp.float32)
        targets = jax.ShapeDtypeStruct((chunk,), jnp.int32)
        return sum(program_bytes(jax.jit(explain_all).lower(params, images, targets).compile()))

    each = needed(2) - needed(1)
    optimiser = 4 * masked if isinstance(config, DMBPConfig) else 0
    return Memory(masked, 4 * masked, optimiser, each, parameters)


# Wall-clock times that can be compared: everything takes its turn in every round, so that noise hits all.

SETTLE_SECONDS = 0.02
"""Waited before each measurement: idle worker threads spin for some milliseconds before they sleep, and those
of one library take the cores from the other."""


class Spread(NamedTuple):
    """What several measurements of one thing say: its median, and from where to where they lie."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """The median and the range of at least one value.

    >>> spread([3.0, 1.0, 2.0, 10.0])
    Spread(median=2.5, lowest=1.0, highest=10.0)
    """
    return Spread(statistics.median(values), min(values), max(values))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratio of two things that were measured in the same rounds.

    A ratio is taken in each round, where both saw the same machine, and not of two medians.

    >>> ratios([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    Spread(median=2.0, lowest=2.0, highest=3.0)
    """
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def measure_rounds(
    runs: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, float]]:
    """The seconds that each of `runs` took, round after round.

    A run must have finished when it returns. Each round starts with another one, since whoever comes first
    finds other caches than whoever comes last. Nothing is run beforehand: warm up yourself.

    >>> ticks = iter([0.0, 1.0, 1.0, 4.0])
    >>> list(measure_rounds({"a": int, "b": int}, 1, clock=ticks.__next__))
    [{'a': 1.0, 'b': 3.0}]
    """
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        seconds = {}
        for name in (*names[first:], *names[:first]):
            time.sleep(SETTLE_SECONDS)
            began = clock()
            runs[name]()
            seconds[name] = clock() - began
        yield {name: seconds[name] for name in names}


# How fast a step could be at most: the roofline (Williams, Waterman, Patterson, CACM 2009).
#
# What comes out is a projection from data sheets, not a measurement: no program reaches the peak of its
# device, and convolutions at batch one stay far below it.

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
    check_whole("batch_size", batch_size, least=1)
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
    check_whole("chips", chips, least=1)
    return seconds * float(np.ceil(images / chips))
