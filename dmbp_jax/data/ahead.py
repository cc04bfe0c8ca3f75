"""Reading ahead: photographs are decoded while the device computes.

A pool of threads, which Pillow lets run in parallel while it decodes and resizes. `grain` 0.2.18 was tried,
and is sound: its iterator goes on after an element that raised, and its threads end with it. But it does the
same with the same pool, for 10 packages more that we have no need of, and 1.1 s instead of 1 ms to import.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dmbp_jax.checks import InputError
from dmbp_jax.data.sample import Sample

T = TypeVar("T")


def read_ahead(
    samples: Iterable[Sample], read: Callable[[Sample], T], *, workers: int = 2, ahead: int = 16
) -> Generator[tuple[Sample, T | InputError], None, None]:
    """Each sample with what `read` makes of it, in order, read by `workers` threads before it is asked for.

    At most `ahead` samples are being read, or read and not yet taken. Where `read` raises `InputError`, the
    error takes the place of the result; anything else it raises comes out here. When the generator ends, is
    closed or raises, what has not begun is dropped, and no thread is left.

    Raises `InputError` for fewer than 1 worker or 1 ahead.

    >>> from pathlib import Path
    >>> samples = [Sample(name, (Path(name),), ("cat",)) for name in ("a.jpg", "b.jpg")]
    >>> [(sample.name, length) for sample, length in read_ahead(samples, lambda sample: len(sample.name))]
    [('a.jpg', 5), ('b.jpg', 5)]
    """
    for what, number in (("workers", workers), ("ahead", ahead)):
        if number < 1:
            raise InputError(f"{what} must be at least 1, got {number}")
    return _read_ahead(iter(samples), read, workers, ahead)


def _read_ahead(
    samples: Iterator[Sample], read: Callable[[Sample], T], workers: int, ahead: int
) -> Generator[tuple[Sample, T | InputError], None, None]:
    def attempt(sample: Sample) -> T | InputError:
        try:
            return read(sample)
        except InputError as error:
            # Tracebacks would keep the half-read photograph alive.
            error.__context__ = None
            return error.with_traceback(None)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    try:
        pending: deque[tuple[Sample, Future[T | InputError]]] = deque()
        for sample in itertools.islice(samples, ahead):
            pending.append((sample, pool.submit(attempt, sample)))
        while pending:
            sample, future = pending.popleft()
            result = future.result()
            # Before the result is handed over, so that the threads have work while it is made use of.
            for following in itertools.islice(samples, 1):
                pending.append((following, pool.submit(attempt, following)))
            yield sample, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
