"""`dmbp-jax evaluate`, `rows` and `report` as a user types them, with a network of three layers."""

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from commands import TINY, rows_of, run_here, run_tiny_here
from datasets import make_folder, shared_photos

from dmbp_jax.evaluation._store import FILE, open_store
from dmbp_jax.evaluation._store_files import make_file

PHOTOS = 24
CHEAP = ("--methods", "random,gradient_x_input", "--batch-size", "1", "--gallery", "6")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Of an evaluation of a folder of photographs, into the folder `run`."""
    photos = make_folder(tmp_path_factory.mktemp("photographs"), PHOTOS)
    return ("evaluate", "--data", f"folder:{photos}", *CHEAP, "-o", "run")


@pytest.fixture(scope="module")
def undisturbed(arguments, tmp_path_factory):
    """A run that nothing disturbed."""
    done = run_tiny_here(tmp_path_factory.mktemp("undisturbed"), *arguments)
    assert done.code == 0, done.err
    return done


def test_progress_is_told_and_the_result_summed_up(undisturbed):
    assert f"[1 of {2 * PHOTOS}] random, images 1 to 1 of {PHOTOS}\n" in undisturbed.err
    assert re.search(r"\[10 of 48\] gradient_x_input, images 5 to 5 of 24, \d+ s left\n", undisturbed.err)
    assert "Insertion (IM), higher is better" in undisturbed.out
    assert re.search(r"gradient_x_input +0\.\d{3} +0\.\d{3} to 0\.\d{3}", undisturbed.out)
    # What a pipe gets must be whole.
    assert "…" not in undisturbed.out


def test_rows_are_exported_one_by_one(undisturbed):
    done = run_here(undisturbed.folder, "rows", "run", "-o", "rows.csv")
    assert done.code == 0, done.err
    assert "wrote 48 rows to rows.csv" in done.out
    rows = read_csv(undisturbed.folder / "rows.csv")
    assert list(rows[0]) == ["image", "target", "method", "metric", "value", "seconds"]
    stored = rows_of(undisturbed.folder / "run")
    assert sorted((r["image"], int(r["target"]), r["method"], r["metric"]) for r in rows) == [
        row[:4] for row in stored
    ]
    assert sorted(float(row["value"]) for row in rows) == sorted(row.value for row in stored)


def test_report_is_one_page(undisturbed):
    done = run_here(undisturbed.folder, "report", "run")
    assert done.code == 0, done.err
    assert "wrote run/report.html" in done.out
    page = (undisturbed.folder / "run" / "report.html").read_text("utf-8")
    assert "<title>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.long
def test_killed_ten_times_at_random_moments_the_rows_are_those_of_an_undisturbed_run(
    arguments, undisturbed, tmp_path
):
    """`kill -9` after a random number of units, at a random moment of the next, or before the first."""
    draw = random.Random(0)
    units = 0
    for _ in range(10):
        process = subprocess.Popen(
            [*TINY, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for _ in range(draw.choice([1, 1, 2, 3])):
            process.stderr.readline()
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.stderr.close()
        assert process.wait() in (-signal.SIGKILL, 0)
        if (tmp_path / "run" / FILE).exists():
            with open_store(tmp_path / "run") as store:
                # What was finished before is still there.
                assert len(store.done()) >= units
                units = len(store.done())
    assert units > 0
    done = run_tiny_here(tmp_path, *arguments)
    assert done.code == 0, done.err
    assert rows_of(tmp_path / "run") == rows_of(undisturbed.folder / "run")


def test_killed_once_the_rows_are_those_of_an_undisturbed_run(arguments, undisturbed, tmp_path):
    killed = subprocess.run(
        [*TINY, *arguments], cwd=tmp_path, env=os.environ | {"KILL_AFTER": "7"}, check=False, timeout=600
    )
    assert killed.returncode == -signal.SIGKILL
    with open_store(tmp_path / "run") as store:
        assert len(store.done()) == 7
    done = run_tiny_here(tmp_path, *arguments)
    assert done.code == 0, done.err
    # Seven are there: three whole photographs, and one of two methods of the fourth.
    assert "[8 of 48] gradient_x_input, images 4 to 4 of 24" in done.err
    assert "[7 of 48]" not in done.err
    assert rows_of(tmp_path / "run") == rows_of(undisturbed.folder / "run")


@pytest.mark.long
def test_a_disk_that_is_full_costs_nothing_that_was_finished(arguments, undisturbed, tmp_path):
    """A limit on the size of files stands for the disk: writing beyond it fails in the same place."""
    make_file(tmp_path / "empty", {}, {})
    sizes = [path.stat().st_size for path in (tmp_path / "empty", undisturbed.folder / "run" / FILE)]
    limited = ["bash", "-c", f'ulimit -f {sum(sizes) // 2048} && exec "$@"', "bash", *TINY, *arguments]
    process = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert process.returncode == 2
    assert re.fullmatch(
        r"error: cannot write .*results\.sqlite: .*\. What was finished is kept: free disk space .*",
        process.stderr.splitlines()[-1],
    )
    assert "Traceback" not in process.stderr
    with open_store(tmp_path / "run") as store:
        assert 0 < len(store.done()) < 2 * PHOTOS
    done = run_tiny_here(tmp_path, *arguments)
    assert done.code == 0, done.err
    assert rows_of(tmp_path / "run") == rows_of(undisturbed.folder / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "photos"), "KIND:PATH"),
        (("--data", "folder:empty"), "empty"),
        (("--data", "folder:unknown"), "the label 'unicorn' is no class of squeezenet1_1.caffe"),
        (("--data", "folder:unknown", "--methods", "grad"), "unknown method 'grad'"),
        (("--data", "folder:unknown", "--methods", ", ,"), "methods names nothing; give one or several"),
        (("--data", "folder:unknown", "--metrics", "insertion,aim"), "unknown metric 'aim'"),
        (("--data", "folder:unknown", "--target", "true"), "unknown target 'true'"),
        (("--data", "folder:unknown", "--limit", "0"), "limit must be at least 1"),
        (("--data", "folder:unknown", "--model", "resnet"), "unknown model 'resnet'"),
    ],
)
def test_bad_input_ends_with_one_message_and_nothing_written(tmp_path, shared, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "unknown").mkdir()
    shutil.copy(shared_photos(shared, 1)[0][1], tmp_path / "unknown" / "a.jpg")
    (tmp_path / "unknown" / "labels.csv").write_text("file,class_name\na.jpg,unicorn\n")
    done = run_here(tmp_path, "evaluate", *arguments, "-o", "run")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert message in done.err
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused(undisturbed, arguments):
    done = run_tiny_here(undisturbed.folder, *arguments, "--seed", "1")
    assert done.code == 2
    assert "seed: there 0, now 1" in done.err


@pytest.mark.parametrize("command", [("rows", "here", "-o", "rows.csv"), ("report", "here")])
def test_a_folder_that_holds_no_run_is_named(tmp_path, command):
    (tmp_path / "here").mkdir()
    done = run_here(tmp_path, *command)
    assert done.code == 2
    assert "here holds no evaluation" in done.err
    assert list((tmp_path / "here").iterdir()) == []
    assert not (tmp_path / "rows.csv").exists()


def test_nothing_that_can_be_read_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(25):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(b"no picture")
    lines = "".join(f"{number}.jpg,281\n" for number in range(25))
    (tmp_path / "photos" / "labels.csv").write_text("file,class_index\n" + lines)
    done = run_here(tmp_path, "evaluate", "--data", "folder:photos", "--methods", "random", "-o", "run")
    assert done.code == 2
    assert "error: nothing was measured: no image of folder:photos could be used" in done.err
    assert "25 left out:" in done.out
    assert "and 5 more, all in the report" in done.out
