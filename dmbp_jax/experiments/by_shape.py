"""Grouping: what has one shape goes through one compiled program."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def by_shape(things: Iterable[T], shape: Callable[[T], tuple[int, ...]]) -> list[list[T]]:
    """The things in groups of one shape, in order of first appearance.

    >>> by_shape(["a", "bc", "d"], lambda text: (len(text),))
    [['a', 'd'], ['bc']]
    """
    groups: dict[tuple[int, ...], list[T]] = {}
    for thing in things:
        groups.setdefault(shape(thing), []).append(thing)
    return list(groups.values())
