"""Measurements of times and memory, the device's properties, and the roofline."""

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
from dmbp_jax._checks import check_choice
from dmbp_jax._explain import explain
from dmbp_jax._ranges import check_whole
from dmbp_jax.bench._counts import NetworkCounts
from dmbp_jax.dmbp import DMBPConfig
from dmbp_jax.dmbp._config import configure
from dmbp_jax.dmbp._method import masked_sites
from dmbp_jax.rules import find_sites
from dmbp_jax.typing import Apply, Params

# The properties of the device.


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
        # A program from this cache was not compiled, whatever the time.
        "compilation_cache": jax.config.values["jax_compilation_cache_dir"],
    }


def peak_bytes() -> int | None:
    """The peak memory of the device's allocator in this process, in bytes; None on CPUs."""
    statistics = jax.devices()[0].memory_stats()
    return None if statistics is None else statistics.get("peak_bytes_in_use")


def matrix_product(dtype: str) -> tuple[Callable[[], object], int]:
    """A product of two large square matrices, to measure the device's speed, and its number of operations.

    The precision is JAX's default, which is also that of the networks: on GPUs and TPUs lower than float32.
    """
    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(matrix, matrix)), 2 * size**3


# DMBP's memory for each image: masks, the optimiser's state, and the total.


class Memory(NamedTuple):
    """The memory of each further image in a chunk, in bytes."""

    masked: int
    """The number of activations with a mask."""
    masks: int
    """Their `theta`, float32."""
    optimiser: int
    """RMSProp's running mean of squares, float32; the preset `fast` has none."""
    total: int
    """XLA's peak: the two above, their gradients and both branches' masks, gates, activations, the image and
    the results."""
    parameters: int
    """The network's, once for all images."""


def count_memory(
    apply: Apply, params: Params, size: tuple[int, int, int], *, preset: str = "paper", **options: Any
) -> Memory:
    """Count the memory that DMBP takes for an image of `size` `(h, w, c)`; nothing is computed.

    Compiles the program for one image and for two; the difference is the memory of each further image.
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


# Comparable wall-clock times: every round measures each program once, so that noise affects all alike.

SETTLE_SECONDS = 0.02
"""Seconds of pause before each measurement: idle worker threads spin for some milliseconds before they sleep,
and those of one library would occupy the cores of the other."""


class Spread(NamedTuple):
    """The median and the range of several measurements."""

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
    """The spread of the ratio of two programs' times from the same rounds.

    A ratio is taken in each round, under the same load of the machine, not between two medians.

    >>> ratios([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    Spread(median=2.0, lowest=2.0, highest=3.0)
    """
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def measure_rounds(
    runs: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, float]]:
    """The seconds that each of `runs` took, round after round.

    A run must have finished when it returns. The order rotates from round to round, since the first run finds
    other caches than the last. Nothing is run beforehand: the caller warms up.

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


# The upper bound of a step's speed: the roofline (Williams, Waterman, Patterson, CACM 2009).
#
# The result is a projection from data sheets, not a measurement: no program reaches the peak of its device,
# and convolutions at batch size 1 stay far below it.

Precision = Literal["float32", "tf32", "bfloat16"]
BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2}
"""Bytes per activation; masks and the optimiser's state always have four."""


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
    """The least time of a computation, and its limit: arithmetic or memory."""

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
    """The least bytes that a step of DMBP moves, per image, with every elementwise operation fused.

    For every activation: in each branch, written and read in the forward pass, and read again for the masks'
    gradient; in the one backward pass, a cotangent written and read. The optimiser reads and writes `theta`
    and `v`; all three passes read the masks, from one `theta`, and the gates, a byte each. Weights are read
    twice, forward with both branches and all images of a batch at once.

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
    """Seconds for many images on a slice of chips without communication, since images are independent.

    >>> slice_seconds(2.0, chips=4, images=9)
    6.0
    """
    check_whole("chips", chips, least=1)
    return seconds * float(np.ceil(images / chips))
