"""`dmbp-jax evaluate`, `rows` and `report` as a user types them: the embedded network, real photographs."""

import csv
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from commands import COMMAND, run_here
from datasets import VocImage, VocObject, make_imagenet, make_voc, shared_photos

from dmbp_jax import porting
from dmbp_jax.experiments.store import FILE, open_store

PHOTOS = 6
SPEC = porting.load_model("squeezenet1_1").spec
CHEAP = ("--methods", "random,gradient_x_input", "--batch-size", "1", "--gallery", "6")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(folder):
    """Every row but for its seconds, which no two runs share."""
    with open_store(folder) as store:
        return sorted(row._replace(seconds=0.0) for row in store.rows())


@pytest.fixture(scope="module")
def photos(tmp_path_factory, shared):
    """A folder of photographs with labels."""
    folder = tmp_path_factory.mktemp("photographs")
    lines = ["file,wnid\n"]
    for wnid, path in shared_photos(shared, PHOTOS):
        shutil.copy(path, folder)
        lines.append(f"{path.name},{wnid}\n")
    (folder / "labels.csv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_here(folder, "evaluate", "--data", f"folder:{photos}", *CHEAP, "-o", "run")
    assert done.code == 0, done.err
    return done


def test_progress_is_told_and_the_result_summed_up(undisturbed):
    assert f"[1 of {2 * PHOTOS}] random, images 1 to 1 of {PHOTOS}\n" in undisturbed.err
    assert re.search(r"\[10 of 12\] gradient_x_input, images 5 to 5 of 6, \d+ s left\n", undisturbed.err)
    assert "Insertion (IM), higher is better" in undisturbed.out
    assert re.search(r"gradient_x_input +0\.\d{3} +0\.\d{3} to 0\.\d{3}", undisturbed.out)
    # What a pipe gets must be whole.
    assert "…" not in undisturbed.out


def test_rows_are_exported_one_by_one(undisturbed):
    done = run_here(undisturbed.folder, "rows", "run", "-o", "rows.csv")
    assert done.code == 0, done.err
    assert "wrote 12 rows to rows.csv" in done.out
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


def test_killed_ten_times_at_random_moments_the_rows_are_those_of_an_undisturbed_run(
    photos, undisturbed, tmp_path
):
    """`kill -9` after a random number of units, at a random moment of the next, or before the first."""
    arguments = [COMMAND, "evaluate", "--data", f"folder:{photos}", *CHEAP, "-o", tmp_path / "run"]
    draw = random.Random(0)
    units = 0
    for _ in range(10):
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for _ in range(draw.choice([1, 1, 2, 3])):
            process.stderr.readline()
        time.sleep(draw.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.stderr.close()
        assert process.wait() in (-signal.SIGKILL, 0)
        if (tmp_path / "run" / FILE).exists():
            with open_store(tmp_path / "run") as store:
                # What was finished before is still there.
                assert len(store.done()) >= units
                units = len(store.done())
    done = run_here(tmp_path, "evaluate", *map(str, arguments[2:]))
    assert done.code == 0, done.err
    assert rows_of(tmp_path / "run") == rows_of(undisturbed.folder / "run")


def test_a_disk_that_is_full_costs_nothing_that_was_finished(photos, undisturbed, tmp_path):
    """A limit on the size of files stands for the disk: writing beyond it fails in the same place."""
    arguments = ["evaluate", "--data", f"folder:{photos}", *CHEAP, "-o", str(tmp_path / "run")]
    half = (undisturbed.folder / "run" / FILE).stat().st_size // 2048
    limited = ["bash", "-c", f'ulimit -f {half} && exec "$@"', "bash", COMMAND, *arguments]
    process = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=600)
    assert process.returncode == 2
    assert re.fullmatch(
        r"error: cannot write .*results\.sqlite: .*\. What was finished is kept: make room .*",
        process.stderr.splitlines()[-1],
    )
    assert "Traceback" not in process.stderr
    with open_store(tmp_path / "run") as store:
        assert 0 < len(store.done()) < 2 * PHOTOS
    done = run_here(tmp_path, *arguments)
    assert done.code == 0, done.err
    assert rows_of(tmp_path / "run") == rows_of(undisturbed.folder / "run")


def test_the_whole_path_on_a_dataset_in_the_shape_of_imagenet(shared, tmp_path):
    for layout in ("folders", "flat", "kaggle"):
        make_imagenet(tmp_path / layout, shared_photos(shared, 2), layout=layout)
    corrupt = next((tmp_path / "folders").rglob("*00000001.JPEG"))
    corrupt.write_bytes(corrupt.read_bytes()[:2000])
    values = {}
    for layout in ("folders", "flat", "kaggle"):
        done = run_here(
            tmp_path,
            *(
                "evaluate",
                "--data",
                f"imagenet:{layout}",
                "--methods",
                "gradient_x_input",
                "--preset",
                "paper",
            ),
            *("-o", f"{layout}-run"),
        )
        assert done.code == 0, done.err
        values[layout] = {row.image.split("/")[-1]: row.value for row in rows_of(tmp_path / f"{layout}-run")}
        assert ("1 left out:" in done.out) == (layout == "folders")
        assert run_here(tmp_path, "report", f"{layout}-run").code == 0
    assert len(values["flat"]) == 2
    assert values["flat"] == pytest.approx(values["kaggle"], rel=1e-5)
    # Image 1 could not be read; image 2 is alone in its batch here, and not there.
    assert values["folders"] == pytest.approx(
        {name: value for name, value in values["flat"].items() if "00000002" in name}, rel=1e-3
    )


def test_the_whole_path_on_a_dataset_in_the_shape_of_voc(shared, tmp_path):
    (first, cock), (second, ostrich) = shared_photos(shared, 2)
    names = [SPEC.classes[SPEC.label_index(wnid)] for wnid in (first, second)]
    everywhere = (1, 1, 5000, 5000)
    make_voc(
        tmp_path,
        [
            VocImage("2008_000001", (VocObject(names[0], everywhere), VocObject(names[1], everywhere)), cock),
            VocImage("2008_000002", (VocObject(names[1], everywhere, parts=("head",)),), ostrich),
            VocImage("2008_000003", (VocObject(names[1], everywhere),), ostrich),
        ],
    )
    (tmp_path / "VOCdevkit" / "VOC2012" / "Annotations" / "2008_000003.xml").unlink()
    done = run_here(
        tmp_path,
        *("evaluate", "--data", "voc2012:VOCdevkit", "--methods", "gradient_x_input"),
        *("--metrics", "im,cim,pointing", "-o", "run"),
    )
    assert done.code == 0, done.err
    assert "1 left out:" in done.out
    assert "2008_000003" in done.out
    rows = rows_of(tmp_path / "run")
    count = {metric: sum(row.metric == metric for row in rows) for metric in ("im", "cim", "pointing")}
    assert count == {"im": 3, "cim": 2, "pointing": 3}
    assert all(row.value == 1 for row in rows if row.metric == "pointing")
    assert run_here(tmp_path, "report", "run").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "photos"), "KIND:PATH"),
        (("--data", "folder:empty"), "empty"),
        (("--data", "folder:unknown"), "the label 'unicorn' is no class of squeezenet1_1.caffe"),
        (("--data", "folder:unknown", "--methods", "grad"), "unknown method 'grad'"),
        (("--data", "folder:unknown", "--metrics", "im,aim"), "unknown metric 'aim'"),
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


def test_another_configuration_is_refused(undisturbed, photos):
    done = run_here(
        undisturbed.folder, "evaluate", "--data", f"folder:{photos}", *CHEAP, "--seed", "1", "-o", "run"
    )
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
