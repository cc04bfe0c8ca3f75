"""The command's compilation cache: the second run compiles nothing, and nothing depends on the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PROGRAM = """
import json, sys
from dmbp_jax import cli
from dmbp_jax._compile_time import count_compile_time

count = sys.argv.pop(1)
with count_compile_time() as spent:
    try:
        cli.main()
    finally:
        with open(count, "w") as file:
            json.dump({"programs": spent.programs, "compiled": spent.compiled}, file)
"""
EXPLAIN = ("explain", "--example", "--method", "grad_cam", "-o", "cat.png")
ENDS_EARLY = ("--contrast", "Egyptian cat")
"""Known to be the most likely class, and so refused, once the photograph is classified."""


class Counted(NamedTuple):
    code: int
    err: str
    programs: list[str]
    compiled: int


def command(folder: Path, *arguments: str, **environment: str) -> Counted:
    """The command in a process of its own, with the cache of its own accord, and what it compiled."""
    unset = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "DMBP_JAX_CACHE")
    unset += ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",)
    given = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "count.json", *arguments],
        cwd=folder,
        env=given | {"XDG_CACHE_HOME": str(folder / "cache")} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Counted(done.returncode, done.stderr, **json.loads((folder / "count.json").read_text()))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    run = command(folder, *EXPLAIN)
    assert run.code == 0, run.err
    return folder, run


@pytest.mark.long
def test_the_second_run_of_a_command_compiles_nothing(first):
    folder, run = first
    assert run.compiled == len(run.programs)
    assert "jit(explain_batch)" in run.programs
    again = command(folder, *EXPLAIN)
    assert (again.code, again.programs, again.compiled) == (0, run.programs, 0)


@pytest.mark.long
def test_the_cache_is_the_users_alone(first):
    folder, _ = first
    kept = folder / "cache" / "dmbp_jax" / "compiled"
    assert kept.stat().st_mode & 0o077 == 0
    assert any(path.name.startswith("jit_explain_batch") for path in kept.iterdir())


@pytest.mark.parametrize(
    ("before", "environment", "kept"),
    [
        (["--no-compilation-cache"], {}, None),
        pytest.param([], {"JAX_ENABLE_COMPILATION_CACHE": "false"}, None, marks=pytest.mark.long),
        pytest.param(
            ["--no-compilation-cache"], {"JAX_COMPILATION_CACHE_DIR": "other"}, None, marks=pytest.mark.long
        ),
        pytest.param([], {"JAX_COMPILATION_CACHE_DIR": "other"}, "other", marks=pytest.mark.long),
        ([], {"DMBP_JAX_CACHE": "own"}, "own/compiled"),
    ],
)
def test_another_cache_or_none(tmp_path, before, environment, kept):
    run = command(tmp_path, *before, *EXPLAIN, *ENDS_EARLY, **environment)
    assert run.code == 2
    assert run.programs
    folders = [name for name in ("other", "own", "cache") if any((tmp_path / name).rglob("*-cache"))]
    assert folders == ([] if kept is None else [kept.split("/")[0]])
    if kept is not None:
        assert any((tmp_path / kept).glob("*-cache"))


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path):
    (tmp_path / "file").touch()
    run = command(tmp_path, *EXPLAIN, *ENDS_EARLY, DMBP_JAX_CACHE="file")
    warning, *rest = run.err.splitlines()
    assert warning.startswith(
        "warning: compiled programs are not kept, file/compiled cannot be written: Not a"
    )
    assert rest[0].startswith("error: ")
    assert run.compiled == len(run.programs) > 0


def test_commands_that_compile_nothing_make_no_folder(tmp_path):
    assert command(tmp_path, "weights", "list").code == 0
    assert not (tmp_path / "cache" / "dmbp_jax").exists()
