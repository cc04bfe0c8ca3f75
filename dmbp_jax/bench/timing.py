"""Wall-clock times that can be compared: everything takes its turn in every round, so that noise hits all."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

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
