"""What the device at hand is and can do, as far as it lets itself be asked."""

import os
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


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
