"""What the device at hand is and can do, as far as it lets itself be asked."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

COMPILE_EVENT = "backend_compile_duration"


class Compilations(NamedTuple):
    """What was compiled in a `with compilations():` block, complete when the block has ended."""

    seconds: list[float]
    """Of XLA, one number for each program; tracing in Python is not among them."""
    bytes: list[int]
    """Of each program: arguments, results and temporary memory at once. Empty where the backend hides it."""


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


@contextlib.contextmanager
def compilations() -> Iterator[Compilations]:
    """Note what is compiled in a `with` block.

    >>> with compilations() as noted:
    ...     jax.jit(lambda x: x * 3)(jnp.ones(5)).block_until_ready().shape
    (5,)
    >>> len(noted.seconds) >= 1
    True
    """
    noted = Compilations([], [])

    def note(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith(COMPILE_EVENT):
            noted.seconds.append(duration_secs)

    before = _programs()
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield noted
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
        known = {id(program) for program in before}
        for program in _programs():
            if id(program) not in known:
                noted.bytes.extend(_bytes(program))


def _programs() -> list[Any]:
    """The compiled programs that this process holds; not every backend lists them."""
    try:
        return list(jax.devices()[0].client.live_executables())
    except (AttributeError, jax.errors.JaxRuntimeError):
        return []


def _bytes(program: Any) -> Iterator[int]:
    try:
        memory = program.get_compiled_memory_stats()
    except (AttributeError, jax.errors.JaxRuntimeError):
        return
    # What an output shares with an argument is there once.
    yield (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
