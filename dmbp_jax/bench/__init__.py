"""Benchmarks: comparable times, memory, and operation counts without running."""

from dmbp_jax.bench._measure import Memory, count_memory

__all__ = ["Memory", "count_memory"]
