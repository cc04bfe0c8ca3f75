"""How many images at once: what a device's free memory holds, and no more than brings anything.

Peak memory grows linearly in the chunk, and not at all in the number of images. So the program is asked
once, at the chunk that one would like to run: XLA counts its buffers when it compiles, and since that is the
program that then runs, asking costs nothing where it fits. Only where it does not, a second one is compiled,
at the largest power of two that the straight line through the first allows.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dmbp_jax.checks import InputError

MOST_ON_CPU = 8
"""Per device. Each image has its own masks, so that a chunk shares nothing but the weights: on two cores a
step of SqueezeNet took 22, 20, 20, 22, 23 and 25 ms per image for 1, 2, 4, 8, 16 and 32 images, and more of
them cost more memory and more to fill up at the end."""
MOST_ON_ACCELERATOR = 32
"""Per device; an accelerator should be busy by then, but none was at hand to measure it."""
SHARE_ON_CPU = 0.5
"""The share of the free memory that is made use of: on a host there are others."""
SHARE_ON_ACCELERATOR = 0.8
"""What is free there is not one piece."""


class ProgramBytes(NamedTuple):
    """What a compiled program needs on each of its devices."""

    per_chunk: int
    """Grows with the chunk: activations, masks, optimiser state, results."""
    fixed: int
    """Does not: the network's parameters."""


def program_bytes(compiled: jax.stages.Compiled, fixed: int = 0) -> ProgramBytes:
    """What XLA counted when it compiled: temporaries, arguments and results, buffers shared by two once.

    `fixed` is the part of the arguments that does not grow with the chunk.
    """
    counted: Any = compiled.memory_analysis()
    total = (
        counted.temp_size_in_bytes
        + counted.argument_size_in_bytes
        + counted.output_size_in_bytes
        - counted.alias_size_in_bytes
    )
    return ProgramBytes(total - fixed, fixed)


def free_bytes(device: Any) -> int:
    """The memory that a program may take on `device`: what the backend says is free, else the host's.

    The devices of one host share its memory, and half of what is free is left to others; of an accelerator's
    a fifth is, since it is not one piece.
    """
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        free = statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
        return int(SHARE_ON_ACCELERATOR * free)
    return int(SHARE_ON_CPU * host_free_bytes() / jax.local_device_count())


def host_free_bytes(root: Path = Path("/")) -> int:
    """What the host has free, or the control group that this process lives in, whichever is less."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        known = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        known = []
    if not known and hasattr(os, "sysconf"):
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    groups = root / "sys/fs/cgroup"
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            known.append(int((groups / limit).read_text()) - int((groups / used).read_text()))
        except (OSError, ValueError):
            # Not this version of control groups, or "max": no limit.
            continue
    return max(0, min(known, default=2**31))


def even_chunk(count: int, most: int, devices: int = 1) -> int:
    """The chunk for `count` images: a power of two, times `devices`, of at most `most`.

    Each power of two is a program of its own, so that there are few, whatever the numbers of images: up to 8,
    four. The largest one is taken that fills the last chunk up by no more than a third of the images: filling
    up costs time, for each image as much as one that is wanted.

    >>> [even_chunk(count, 8) for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 100)]
    [1, 2, 4, 4, 2, 8, 8, 8, 4, 8]
    >>> even_chunk(100, 20, devices=3)
    12
    """
    chunk = devices
    while 2 * chunk <= most:
        chunk *= 2
    while chunk > devices and 3 * (-count % chunk) > count:
        chunk //= 2
    return chunk


def fitting_chunk(
    bytes_of: Callable[[int], ProgramBytes], *, count: int, free: int, most: int, devices: int = 1
) -> int:
    """The largest chunk that `even_chunk` would take and that fits into `free` bytes on each device.

    Args:
        bytes_of: what the program for a chunk needs on each device; compiles it.
        count: images that there are to explain.
        free: bytes, on each device.
        most: the largest chunk that brings anything.
        devices: over which the chunk is divided.

    Raises:
        InputError: not even one image fits.

    >>> fitting_chunk(lambda chunk: ProgramBytes(100 * chunk, 50), count=64, free=1000, most=32)
    8
    """
    chunk = even_chunk(count, max(most, devices), devices)
    while True:
        needed = bytes_of(chunk)
        if sum(needed) <= free:
            return chunk
        if chunk == devices:
            raise InputError(
                f"one image needs {_readable(sum(needed))}, and {_readable(free)} can be had: take a smaller "
                "network or image, or the method's option that takes less at once; batch_size=1 tries all "
                "the same"
            )
        # At least halved, should the line not be quite straight.
        each = needed.per_chunk / chunk
        most = min(chunk // 2, int(max(0, free - needed.fixed) / each))
        chunk = even_chunk(count, max(most, devices), devices)


def most_at_once(device: jax.Device) -> int:
    """The chunk per device beyond which nothing is gained."""
    return MOST_ON_CPU if device.platform == "cpu" else MOST_ON_ACCELERATOR


def _readable(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
