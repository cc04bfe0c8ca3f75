"""How fast, and how much memory: times that can be compared, and what is counted without running."""

from dmbp_jax.bench._measure import Memory, count_memory

__all__ = ["Memory", "count_memory"]
