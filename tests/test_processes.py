"""Several processes at one evaluation: the rows of one process, each once, whoever is killed or fails."""

import contextlib
import importlib
import os
import signal
import socket
import subprocess
from collections import Counter

import pytest
from commands import TINY, rows_of, run_tiny_here
from datasets import make_folder

from dmbp_jax._checks import InputError
from dmbp_jax.evaluation._processes import NOTE, Alone, join_processes
from dmbp_jax.evaluation._store import open_store

PHOTOS = 10
OPTIONS = ("--methods", "random,gradient_x_input", "--batch-size", "2", "--lost-after", "10", "-o", "run")
UNITS = 10


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("photos"), PHOTOS)


def alone(folder, photos, *arguments):
    """The command in this process."""
    return run_tiny_here(folder, "evaluate", "--data", f"folder:{photos}", *OPTIONS, *arguments)


def start(folder, photos, *arguments, **environment):
    return subprocess.Popen(
        [*TINY, "evaluate", "--data", f"folder:{photos}", *OPTIONS, *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(*processes):
    """The exit codes, standard outputs and standard errors."""
    said = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, out, err) for process, (out, err) in zip(processes, said, strict=True)]


def start_both(folder, photos, *, options=((), ()), environments=({}, {})):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = ("--coordinator", address, "--num-processes", "2")
    return [
        start(folder, photos, *shared, "--process-id", str(index), *options[index], **environments[index])
        for index in range(2)
    ]


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    """The rows of a single process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = alone(folder, photos)
    assert done.code == 0, done.err
    rows = rows_of(folder / "run")
    assert len(rows) == 2 * PHOTOS
    return rows


@pytest.mark.long
def test_two_processes_share_a_run(photos, undisturbed, tmp_path):
    """Also where an earlier run, which was killed, has left its note."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NOTE).write_text("process 1 ended with: something long past")
    (code, out, err), (other_code, other_out, other_err) = end(*start_both(tmp_path, photos))
    assert (code, other_code) == (0, 0), err + other_err
    assert rows_of(tmp_path / "run") == undisturbed
    assert len({row[:4] for row in rows_of(tmp_path / "run")}) == len(undisturbed)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "results-1.sqlite",
        "results.sqlite",
    ]
    # Five chunks of two methods: three for the first process, two for the other.
    assert [sum(line.startswith("[") for line in said.splitlines()) for said in (err, other_err)] == [6, 4]
    assert "Insertion (IM), higher is better" in out
    assert other_out == "process 1 is done; process 0 prints the summary\n"
    # Both machines' devices are of one kind, and versions agree, so that one process may also look on alone.
    done = alone(tmp_path, photos)
    assert done.code == 0, done.err
    assert "[" not in done.err
    assert rows_of(tmp_path / "run") == undisturbed


@pytest.mark.long
def test_what_a_killed_process_leaves_the_other_does(photos, undisturbed, tmp_path):
    (code, out, err), (killed, _, _) = end(
        *start_both(tmp_path, photos, environments=({}, {"KILL_AFTER": "1"}))
    )
    assert killed == -signal.SIGKILL
    assert code == 0, err
    assert "process 1 is lost; the others compute its remaining units" in err
    assert "Insertion (IM), higher is better" in out
    assert rows_of(tmp_path / "run") == undisturbed
    with open_store(tmp_path / "run") as store:
        assert Counter(unit.method for unit in store.done()) == {"random": 5, "gradient_x_input": 5}


@pytest.mark.long
@pytest.mark.parametrize("again", [1, 2])
def test_when_process_0_is_killed_the_same_command_finishes_the_run(photos, undisturbed, tmp_path, again):
    (killed, _, _), (other, _, err) = end(
        *start_both(tmp_path, photos, environments=({"KILL_AFTER": "3"}, {}))
    )
    assert killed == -signal.SIGKILL
    # JAX's own runtime ends it, unless it was done before.
    assert other != 0, err
    with open_store(tmp_path / "run") as store:
        assert 3 <= len(store.done()) < UNITS
    ended = end(start(tmp_path, photos)) if again == 1 else end(*start_both(tmp_path, photos))
    assert [code for code, _, _ in ended] == [0] * again, ended
    assert rows_of(tmp_path / "run") == undisturbed


@pytest.mark.long
def test_bad_input_is_one_message_in_each_and_nobody_waits(photos, tmp_path):
    wrong = ("--metrics", "aim")
    for code, _, err in end(*start_both(tmp_path, photos, options=(wrong, wrong))):
        assert code == 2
        (line,) = (line for line in err.splitlines() if line.startswith("error: "))
        assert "unknown metric 'aim'" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_process_with_other_options_stops_all(photos, tmp_path):
    (code, _, err), (other_code, _, other_err) = end(
        *start_both(tmp_path, photos, options=((), ("--seed", "1")))
    )
    assert (code, other_code) == (2, 2)
    assert "seed: there 0, now 1" in other_err
    assert "error: stopped, since process 1 ended with: run holds a run of another configuration" in err
    assert "Traceback" not in err + other_err
    assert not (tmp_path / "run" / NOTE).exists()


class Told(Alone):
    """Process 0 of two, to which is told who is alive, meeting after meeting, and when to stop."""

    count = 2

    def __init__(self, alive, units=UNITS):
        self._alive = iter(alive)
        self._units = iter(range(units))

    def meet(self):
        return next(self._alive)

    def check(self):
        if next(self._units, None) is None:
            raise InputError("stopped, since process 1 ended with: a reason")


def join_as(processes, patch):
    # By its name the package holds the command.
    module = importlib.import_module("dmbp_jax.cli._evaluate")
    patch.setattr(module, "join_processes", lambda *_, **__: contextlib.nullcontext(processes))


def test_the_work_of_one_that_is_lost_is_done_in_the_next_round(photos, undisturbed, tmp_path, monkeypatch):
    both, one = [0, 1], [0]
    # Once when the file is there, then twice in each of three rounds, the last of which finds nothing to do.
    join_as(Told([both, both, both, one, one, one, one]), monkeypatch)
    done = alone(tmp_path, photos)
    assert done.code == 0, done.err
    before, after = done.err.split("process 1 is lost; the others compute its remaining units\n")
    assert (before.count("["), after.count("[")) == (6, 4)
    assert rows_of(tmp_path / "run") == undisturbed


def test_an_error_elsewhere_ends_the_work_before_the_next_unit(photos, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        join_as(Told([[0, 1]] * 3, units=3), patch)
        done = alone(tmp_path, photos)
    assert done.code == 2
    assert done.err.splitlines()[-1] == "error: stopped, since process 1 ended with: a reason"
    with open_store(tmp_path / "run") as store:
        assert len(store.done()) == 3
    assert alone(tmp_path, photos).code == 0
    assert rows_of(tmp_path / "run") == undisturbed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 2}, "says nothing without --coordinator"),
        ({"coordinator": "host", "count": 2, "index": 0}, "must be HOST:PORT"),
        ({"coordinator": "host:1", "count": 2}, "needs --num-processes and --process-id too"),
        (
            {"coordinator": "host:1", "count": 2, "index": 2},
            "must be from 0 to 1, one less than --num-processes, got 2",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message), join_processes(tmp_path, **options):
        pass


def test_one_process_waits_for_nobody(tmp_path):
    with join_processes(tmp_path) as processes:
        assert isinstance(processes, Alone)
        assert processes.meet() == [0]


def test_bad_options_of_the_command_end_with_one_message(tmp_path, photos):
    done = alone(tmp_path, photos, "--num-processes", "2")
    assert done.code == 2
    assert done.err.startswith("error: the number of processes says nothing without --coordinator")
