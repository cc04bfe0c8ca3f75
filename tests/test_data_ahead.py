"""Reading ahead: in order, within bounds, and gone when it is done."""

import functools
import itertools
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from datasets import save_photo

from dmbp_jax._checks import InputError
from dmbp_jax.images import Preprocess, Sample, read_sample
from dmbp_jax.images._samples import read_ahead

PATIENCE = 10.0
"""Seconds after which something that should happen counts as never happening."""


def numbered(count: int | None = None) -> Iterator[Sample]:
    numbers = itertools.count() if count is None else range(count)
    return (Sample(str(number), (Path("none"),), ("1",)) for number in numbers)


def wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_results_come_in_order_however_long_each_takes(workers, ahead):
    def read(sample: Sample) -> int:
        time.sleep(int(sample.name) * 7 % 5 / 1000)
        return int(sample.name)

    got = list(read_ahead(numbered(20), read, workers=workers, ahead=ahead))
    assert [(sample.name, number) for sample, number in got] == [(str(i), i) for i in range(20)]


def test_nothing_gives_nothing():
    assert list(read_ahead([], lambda sample: sample)) == []


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 4), (8, 3)])
def test_no_more_than_ahead_are_begun_beyond_what_was_taken(workers, ahead):
    begun: list[str] = []

    def read(sample: Sample) -> None:
        begun.append(sample.name)

    stream = read_ahead(numbered(), read, workers=workers, ahead=ahead)
    assert begun == []
    for taken in range(1, 30):
        next(stream)
        assert wait_until(lambda taken=taken: len(begun) == taken + ahead)
        time.sleep(0.002)
        assert len(begun) == taken + ahead
    stream.close()


def test_reading_goes_on_while_a_result_is_made_use_of():
    meeting = threading.Barrier(2)

    def read(sample: Sample) -> None:
        if sample.name == "1":
            meeting.wait(PATIENCE)

    stream = read_ahead(numbered(2), read, workers=1, ahead=1)
    next(stream)
    meeting.wait(PATIENCE)
    assert len(list(stream)) == 1


def test_workers_read_at_the_same_time():
    meeting = threading.Barrier(3)
    got = list(read_ahead(numbered(6), lambda sample: meeting.wait(PATIENCE), workers=3, ahead=6))
    assert len(got) == 6


def test_input_error_takes_the_place_of_its_result():
    def read(sample: Sample) -> int:
        if sample.name in ("0", "3"):
            raise InputError(f"{sample.name} is damaged")
        return int(sample.name)

    got = {sample.name: one for sample, one in read_ahead(numbered(5), read)}
    assert {name: one for name, one in got.items() if isinstance(one, int)} == {"1": 1, "2": 2, "4": 4}
    assert isinstance(got["0"], InputError)
    assert (str(got["3"]), got["3"].__traceback__) == ("3 is damaged", None)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError, KeyboardInterrupt])
def test_any_other_error_comes_out_in_its_turn(error):
    def read(sample: Sample) -> None:
        if sample.name == "3":
            raise error("broken")

    stream = read_ahead(numbered(), read)
    assert [next(stream)[0].name for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(error, match="broken"):
        next(stream)
    assert next(stream, None) is None


def test_error_of_the_samples_themselves_comes_out():
    def samples() -> Iterator[Sample]:
        yield from numbered(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(read_ahead(samples(), lambda sample: None, ahead=2))


@pytest.mark.parametrize("how", ["close", "delete", "raise"])
def test_stopping_drops_what_has_not_begun(how):
    begun: list[str] = []

    def read(sample: Sample) -> None:
        begun.append(sample.name)
        if len(begun) > 1:
            time.sleep(0.05)

    stream = read_ahead(numbered(), read, workers=2, ahead=100)
    next(stream)
    start = time.monotonic()
    if how == "close":
        stream.close()
    elif how == "raise":
        with pytest.raises(ZeroDivisionError):
            stream.throw(ZeroDivisionError())
    del stream
    assert time.monotonic() - start < 2
    count = len(begun)
    assert count < 10
    time.sleep(0.1)
    assert len(begun) == count


@pytest.mark.parametrize("option", ["workers", "ahead"])
def test_no_worker_and_nothing_ahead_are_refused_at_once(option):
    with pytest.raises(InputError, match=f"{option} must be at least 1, got 0"):
        read_ahead(numbered(3), lambda sample: None, **{option: 0})


def test_photographs_are_read_as_without_threads_and_warnings_stay_as_they_were(tmp_path):
    """Damaged metadata makes Pillow warn, from several threads at once, where warnings are errors."""
    header = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 9)
    samples = []
    for number in range(24):
        path = save_photo(tmp_path / f"{number}.jpg", size=(60 + number, 50))
        if number % 3 == 0:
            PIL.Image.open(path).save(path, exif=header)
        if number % 5 == 4:
            path.write_bytes(path.read_bytes()[:300])
        samples.append(Sample(path.name, (path,), ("1",)))
    read = functools.partial(read_sample, preprocess=Preprocess(resize=40, crop=32))
    for sample, one in read_ahead(samples, read, workers=4):
        if int(sample.paths[0].stem) % 5 == 4:
            assert isinstance(one, InputError)
            assert str(sample.paths[0]) in str(one)
        else:
            assert not isinstance(one, InputError)
            np.testing.assert_array_equal(one.rgb, read(sample).rgb)
    with pytest.raises(UserWarning, match="still an error"):
        warnings.warn("still an error", stacklevel=1)
