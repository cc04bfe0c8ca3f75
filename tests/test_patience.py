"""Waiting for others: what they give or raise comes through, and silence ends."""

import threading

import pytest

from dmbp_jax.models._fetch import GaveUpError, wait_for


def test_what_the_work_gives_or_raises_comes_through():
    assert wait_for(lambda: 3, seconds=5.0) == 3
    with pytest.raises(KeyError, match="lost"):
        wait_for(lambda: {}["lost"], seconds=5.0)


def test_silence_is_given_up_and_the_work_keeps_nobody():
    never = threading.Event()
    before = set(threading.enumerate())
    with pytest.raises(GaveUpError, match=r"nothing came in 0\.05 s"):
        wait_for(never.wait, seconds=0.05)
    (left,) = set(threading.enumerate()) - before
    assert left.daemon
    never.set()
    left.join()


def test_what_comes_forward_is_waited_for_however_long():
    """Fifty signs of life, each well within the patience that all together exceed."""
    steps = iter(range(50))
    done = threading.Event()

    def arrived() -> int:
        step = next(steps, None)
        if step is None:
            done.set()
            return 50
        return step

    assert wait_for(lambda: done.wait(60), seconds=0.15, arrived=arrived)
