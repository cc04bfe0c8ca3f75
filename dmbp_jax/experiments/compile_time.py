"""What compiling costs: how many programs, how long, and how many came out of the persistent cache."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
FROM_CACHE = "/jax/compilation_cache/cache_hits"


class CompileTime:
    """What JAX has compiled since the counting began; see `count_compile_time`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Spent by XLA, and in fetching programs from the persistent cache. Tracing is not in it."""
        self.programs: list[str] = []
        """The name of every program, in order, whether compiled or fetched."""
        self.fetched = 0
        """How many of them the persistent cache held."""

    @property
    def compiled(self) -> int:
        """How many programs XLA had to compile."""
        return len(self.programs) - self.fetched


@contextlib.contextmanager
def count_compile_time() -> Iterator[CompileTime]:
    """Count what JAX compiles in a `with` block, in all threads.

    >>> with count_compile_time() as spent:
    ...     jax.jit(lambda x: 3 * x)(1.0).block_until_ready()
    Array(3., dtype=float32, weak_type=True)
    >>> len(spent.programs), spent.compiled, spent.seconds > 0
    (1, 1, True)
    """
    spent = CompileTime()

    def lasted(event: str, duration_secs: float, **details: Any) -> None:
        if event == COMPILED:
            spent.seconds += duration_secs
            spent.programs.append(str(details.get("fun_name", "")))

    def happened(event: str, **_: Any) -> None:
        spent.fetched += event == FROM_CACHE

    jax.monitoring.register_event_duration_secs_listener(lasted)
    jax.monitoring.register_event_listener(happened)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(lasted)
        jax.monitoring.unregister_event_listener(happened)
