"""The benchmark: what it reports belongs together. No test asserts a time."""

import json
import re

import numpy as np
import pytest
from commands import run_here
from small import TINY_LAYERS, tiny_apply, tiny_network

from dmbp_jax import InputError
from dmbp_jax.bench._counts import count_network
from dmbp_jax.bench._measure import measure_rounds, ratios, spread, step_bytes
from dmbp_jax.bench._results import Case
from dmbp_jax.models import ARCHITECTURES, Architecture

MODEL = "tiny"


def test_every_round_runs_everything_once_and_starts_elsewhere():
    ran, ticks = [], iter(range(100))
    runs = {name: (lambda name=name: ran.append(name)) for name in ("a", "b", "c")}
    rounds = list(measure_rounds(runs, 4, clock=lambda: next(ticks)))
    assert rounds == [{"a": 1, "b": 1, "c": 1}] * 4
    assert "".join(ran) == "abcbcacababc"


def test_ratios_are_taken_round_by_round():
    assert spread([1.0, 5.0, 2.0]) == (2.0, 1.0, 5.0)
    assert ratios([1.0, 10.0, 3.0], [2.0, 20.0, 3.0]) == (0.5, 0.5, 1.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a network that compiles in a moment."""
    folder = tmp_path_factory.mktemp("bench")
    tiny = Architecture(MODEL, tiny_apply, lambda classes: iter(TINY_LAYERS))
    arguments = ("--model", MODEL, "--size", "8", "--repeats", "2", "--steps", "3", "-o", "bench.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, MODEL, tiny)
        run = run_here(folder, "bench", *arguments, "--method", "dmbp,fullgrad,fast", "--batch-size", "2")
    assert run.code == 0, run.err
    return run, json.loads((folder / "bench.json").read_text())


@pytest.mark.long
def test_the_table_has_a_row_for_each_case_and_progress_a_line_for_each_unit(finished):
    run, _ = finished
    rows = re.findall(r"^ (dmbp|fullgrad|fast) +tiny +2 +float32 +(\d) ", run.out, re.MULTILINE)
    assert rows == [("dmbp", "3"), ("fullgrad", "1"), ("fast", "1")]
    assert "torch" not in run.out
    assert run.out.endswith("wrote bench.json\n")
    assert re.findall(r"^\[(\d) of 9\] ", run.err, re.MULTILINE) == list("123456789")


def test_the_device_is_named(finished):
    assert {"platform", "kind", "host_cores", "jax"} <= set(finished[1]["device"])


def test_numbers_of_a_row_belong_together(finished):
    for row, steps in zip(finished[1]["measurements"], (3, 1, 1), strict=True):
        assert row["case"]["steps"] == steps
        achieved = row["flops_per_step"] / row["ours"]["step"]["median"]
        np.testing.assert_allclose(row["flops_per_second"], achieved)
        np.testing.assert_allclose(row["share_of_matmul"], achieved / row["matmul_flops_per_second"])
        for name in ("call", "step", "forward", "step_over_four_forwards"):
            lowest, median, highest = (row["ours"][name][k] for k in ("lowest", "median", "highest"))
            assert lowest <= median <= highest
        assert row["ours"]["forward"]["lowest"] > 0
        assert 0 < row["compile_seconds"] < row["first_call_seconds"]
        assert row["against"] is None


def test_operations_and_memory_are_counted(finished):
    apply, params, images = tiny_network()
    counts = count_network(apply, params, images[0])
    dmbp, fullgrad, fast = finished[1]["measurements"]
    assert fast["flops_per_step"] == 4 * counts.forward_flops
    assert dmbp["call_over_gradient"] is None
    for single in (fullgrad, fast):
        ratio = single["call_over_gradient"]
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"]
    assert dmbp["flops_per_step"] == counts.step_flops
    assert fullgrad["flops_per_step"] == 2 * counts.forward_flops
    # At least the parameters are an argument of the program.
    assert dmbp["program_bytes"] >= 4 * counts.weights
    assert dmbp["bytes_per_step_at_least"] == step_bytes(counts, batch_size=2)
    assert fullgrad["bytes_per_step_at_least"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "squeezenet"), ["'squeezenet'", "did you mean 'squeezenet1_"]),
        (("--model", ","), ["model names nothing"]),
        (("--batch-size", "0"), ["batch size must be at least 1, got 0"]),
        (("--batch-size", "1,two"), ["whole numbers", "'two'"]),
        (("--dtype", "float16"), ["unknown dtype 'float16'", "bfloat16, float32"]),
        (("--method", "grad_cam"), ["unknown method to time 'grad_cam'", "fullgrad"]),
        (("--steps", "1"), ["steps must be at least 2, since a step is", "got 1"]),
        (("--method", "rise", "--steps", "0"), ["steps must be at least 1, got 0"]),
        (("--repeats", "0"), ["repeats must be at least 1, got 0"]),
        (("--size", "-1"), ["size must be at least 1, got -1"]),
        (("--method", "fast", "--against", "torch"), ["fast has no PyTorch program"]),
        (("--against", "tensorflow"), ["unknown program to compare with 'tensorflow'"]),
        (("-o", "bench.txt"), ["bench.txt", ".json"]),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(tmp_path, arguments, said):
    run = run_here(tmp_path, "bench", *arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("error: ")
    assert [part for part in said if part not in run.err] == []
    assert list(tmp_path.iterdir()) == []


def test_an_absent_pytorch_is_said_with_the_remedy(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run = run_here(tmp_path, "bench", "--against", "torch", "--method", "smoothgrad")
    assert run.code == 2
    assert run.err.endswith("needs torch, torchvision, captum: pip install torch torchvision captum\n")


def test_a_case_knows_its_number_of_steps():
    assert Case().count == 10
    assert Case(steps=7).count == 7
    assert Case(method="fullgrad", steps=7).count == 1
    with pytest.raises(InputError, match="difference of two calls"):
        Case(steps=1)


@pytest.mark.parity
def test_the_command_compares(tmp_path):
    run = run_here(
        tmp_path,
        *("bench", "--method", "fullgrad", "--size", "32", "--repeats", "2"),
        *("--against", "torch", "-o", "b.json"),
    )
    assert run.code == 0, run.err
    assert "step ratio" in run.out
    (row,) = json.loads((tmp_path / "b.json").read_text())["measurements"]
    assert row["against"]["agreement"] > 0.99
    for name in ("call_ratio", "step_ratio", "forward_ratio"):
        ratio = row["against"][name]
        assert ratio["lowest"] <= ratio["median"] <= ratio["highest"]
