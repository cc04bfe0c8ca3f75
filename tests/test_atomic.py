"""Writing: files appear whole or not at all."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from dmbp_jax._checks import InputError
from dmbp_jax.images._files import atomic_path, check_writable


def write(path: Path, text: str = "new") -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_whole_and_alone(tmp_path):
    write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert inside(tmp_path) == ["a.txt"]


def test_missing_folders_are_made(tmp_path):
    write(tmp_path / "one" / "two" / "a.txt")
    assert (tmp_path / "one" / "two" / "a.txt").read_text() == "new"


def test_nothing_is_seen_before_the_block_ends(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_temporary_file_is_beside_with_the_same_ending(tmp_path):
    with atomic_path(tmp_path / "a.png") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        assert temporary.name != "a.png"


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("earlier", [None, "old"])
def test_block_that_raises_leaves_everything_as_it_was(tmp_path, error, earlier):
    if earlier is not None:
        (tmp_path / "a.txt").write_text(earlier)
    before = inside(tmp_path)
    with pytest.raises(error, match="half way"):
        write_half(tmp_path / "a.txt", error("half way"))
    assert inside(tmp_path) == before
    assert earlier is None or (tmp_path / "a.txt").read_text() == earlier


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_file_has_the_permissions_of_any_new_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write(tmp_path / "a.txt")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("old")
    return folder / "file" / "a.txt"


def deep_below_a_file(folder: Path) -> Path:
    return below_a_file(folder) / "deeper" / "a.txt"


def a_folder(folder: Path) -> Path:
    (folder / "a.txt").mkdir()
    return folder / "a.txt"


def too_long(folder: Path) -> Path:
    return folder / f"{'a' * 300}.txt"


def test_a_writer_that_makes_the_file_anew_does_not_change_who_may_read_it(tmp_path):
    write(tmp_path / "plain.txt")
    with atomic_path(tmp_path / "a.safetensors") as temporary:
        safetensors.numpy.save_file({"a": np.zeros(3)}, temporary)
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("act", [write, check_writable])
@pytest.mark.parametrize("place", [below_a_file, deep_below_a_file, a_folder, too_long])
def test_place_that_cannot_be_written_is_refused_by_name(tmp_path, act, place):
    path = place(tmp_path)
    before = inside(tmp_path)
    with pytest.raises(InputError, match="^cannot write " + re.escape(str(path))):
        act(path)
    assert inside(tmp_path) == before


def test_checking_leaves_no_file_and_keeps_an_earlier_one(tmp_path):
    check_writable(tmp_path / "new.txt")
    assert inside(tmp_path) == []
    (tmp_path / "old.txt").write_text("old")
    check_writable(tmp_path / "old.txt")
    assert inside(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"
