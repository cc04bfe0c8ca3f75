"""The command `dmbp-jax`, run in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_evaluation import tiny_model

from dmbp_jax import cli
from dmbp_jax.evaluation import _plan as plan
from dmbp_jax.evaluation._store import Row, open_store

COMMAND = Path(sys.executable).with_name("dmbp-jax")
TINY = (sys.executable, Path(__file__).with_name("tiny_evaluation.py"))
"""The command with a network of three layers, as a program of its own."""


class Run(NamedTuple):
    """A finished command and the folder it wrote to."""

    code: int
    out: str
    err: str
    folder: Path


def run_here(folder: Path, *arguments: str | Path) -> Run:
    """The command in this process, where warnings are errors and array annotations are checked."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["dmbp-jax", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return Run(code, out.getvalue(), err.getvalue(), folder)


def run_tiny_here(folder: Path, *arguments: str | Path) -> Run:
    """`run_here` with a network of three layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "load_model", lambda name, weights: tiny_model())
        return run_here(folder, *arguments)


def run_process(folder: Path, *arguments: str | Path, **environment: str) -> Run:
    """The command in a process of its own."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, folder)


def rows_of(run: Path) -> list[Row]:
    """Every row of an evaluation but for its seconds, which no two share."""
    with open_store(run) as store:
        return sorted(row._replace(seconds=0.0) for row in store.rows())
