"""Waiting for others, and not for ever."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class GaveUpError(Exception):
    """Nothing came for as long as one waits."""


def wait_for(work: Callable[[], T], *, seconds: float, arrived: Callable[[], int] = lambda: 0) -> T:
    """What `work` returns or raises; `GaveUpError` once `arrived`, a count, has stood still for `seconds`.

    Work that is given up goes on by itself, in a thread that does not keep the process alive: no library of
    downloads can be interrupted from outside.

    >>> wait_for(lambda: "here", seconds=1.0)
    'here'
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="wait_for", daemon=True)
    thread.start()
    before, since = arrived(), time.monotonic()
    while thread.is_alive():
        thread.join(min(0.1, seconds))
        now = arrived()
        if now != before:
            before, since = now, time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > seconds:
            raise GaveUpError(f"nothing came in {seconds:g} s")
    if errors:
        # Out of the list: an error holds the frames that it passed, and these the list.
        raise errors.pop()
    return results.pop()
