"""Compilation: the number of programs, time and memory, and how many came from the persistent cache."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
STAGES = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    COMPILED,
)
"""JAX's events of tracing, lowering and compiling: the work of a first call only."""
FROM_CACHE = "/jax/compilation_cache/cache_hits"


class CompileTime:
    """What JAX has compiled since the counting began; see `count_compile_time`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Spent by XLA, and in fetching programs from the persistent cache. Tracing is not in it."""
        self.programs: list[str] = []
        """The name of every program, in order, whether compiled or fetched."""
        self.fetched = 0
        """How many of them came from the persistent cache."""
        self.bytes: list[int] = []
        """The bytes of each program once the block has ended: arguments, results and temporaries. Empty where
        the backend does not report them."""

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
    >>> len(spent.programs), spent.compiled + spent.fetched, spent.seconds > 0
    (1, 1, True)
    """
    spent = CompileTime()

    def lasted(event: str, duration_secs: float, **details: Any) -> None:
        if event == COMPILED:
            spent.seconds += duration_secs
            spent.programs.append(str(details.get("fun_name", "")))

    def happened(event: str, **_: Any) -> None:
        spent.fetched += event == FROM_CACHE

    before = _programs()
    jax.monitoring.register_event_duration_secs_listener(lasted)
    jax.monitoring.register_event_listener(happened)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(lasted)
        jax.monitoring.unregister_event_listener(happened)
        known = {id(program) for program in before}
        for program in _programs():
            if id(program) not in known:
                spent.bytes.extend(_bytes(program))


class Stopwatch:
    """The times of a `with` block of `stopwatch`, once it has ended."""

    def __init__(self) -> None:
        self.working = 0.0
        """Seconds without compiling: the time of the block once its programs are compiled."""
        self.compiling = 0.0
        """Seconds of tracing, lowering and compiling, or fetching from the persistent cache."""


@contextlib.contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a `with` block, and separately this thread's compiling within it.

    Stages can be nested, as the tracing of a function that compiles another; their union is counted.

    >>> with stopwatch() as first:
    ...     jax.jit(lambda x: 5 * x)(1.0).block_until_ready()
    Array(5., dtype=float32, weak_type=True)
    >>> first.compiling > 0, first.working > 0
    (True, True)
    """
    watch = Stopwatch()
    stages: list[tuple[float, float]] = []
    thread = threading.get_ident()

    def lasted(event: str, duration_secs: float, **_: Any) -> None:
        if event in STAGES and threading.get_ident() == thread:
            # The event is sent at the end of its stage.
            now = time.perf_counter()
            stages.append((max(now - duration_secs, start), now))

    start = time.perf_counter()
    jax.monitoring.register_event_duration_secs_listener(lasted)
    try:
        yield watch
    finally:
        jax.monitoring.unregister_event_duration_listener(lasted)
        watch.compiling = covered(stages)
        watch.working = max(time.perf_counter() - start - watch.compiling, 0.0)


def covered(intervals: list[tuple[float, float]]) -> float:
    """The length of the union of intervals.

    >>> covered([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (7.0, 8.0)])
    6.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


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
    # A buffer that an output shares with an argument counts once.
    yield (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
