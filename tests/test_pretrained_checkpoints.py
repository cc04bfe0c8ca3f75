"""PyTorch's checkpoints: read as tensors and nothing else, and ported to safetensors files."""

import hashlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from state_dicts import TINY, random_state, refuse, run_command, same

from dmbp_jax import models
from dmbp_jax.models._checkpoints import find_state, plain, stand_ins, strip_prefix, tensor_names
from dmbp_jax.models._claims import ARCHITECTURE_KEY
from dmbp_jax.models._port import read_checkpoint, read_safetensors


@pytest.fixture
def save(tmp_path):
    """Save with PyTorch, under a name with the right, a wrong or no hash."""

    def save(content, digits: str | None = None, **options) -> Path:
        import torch

        path = tmp_path / "saved.pth"
        torch.save(content, path, **options)
        if digits is None:
            return path
        actual = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        return path.rename(tmp_path / f"saved-{actual if digits == 'right' else digits}.pth")

    return save


def torch_state(state: dict[str, np.ndarray]) -> dict:
    import torch

    return {name: torch.from_numpy(tensor) for name, tensor in state.items()}


@pytest.mark.parity
@pytest.mark.parametrize("digits", [None, "right"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_checkpoint_is_read_exactly(save, digits, nested, as_zip):
    state = random_state(TINY)
    content = torch_state(state)
    if nested:
        content = {"epoch": 3, "state_dict": content, "arch": "tiny"}
    path = save(content, digits, _use_new_zipfile_serialization=as_zip)
    assert same(read_checkpoint(path).state, state)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_a_checkpoints_floats_become_float32_and_its_counts_stay(save, kind):
    import torch

    content = {"w": torch.nn.Parameter(torch.tensor([1.5, -0.25], dtype=getattr(torch, kind)))}
    read = read_checkpoint(save(content | {"bn.num_batches_tracked": torch.tensor(7)})).state
    assert read["w"].dtype == np.float32
    assert read["w"].tolist() == [1.5, -0.25]
    assert read["bn.num_batches_tracked"].dtype == np.int64


@pytest.mark.parity
def test_a_checkpoint_with_other_digits_in_its_name_is_refused(save):
    path = save(torch_state(random_state(TINY)), "00000000")
    message = refuse(read_checkpoint, path)
    assert message.startswith(f"{path} has SHA-256 ")
    assert "00000000 is expected" in message


@pytest.mark.parity
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_truncated_checkpoint_is_refused(save, kept, as_zip):
    path = save(torch_state(random_state(TINY)), _use_new_zipfile_serialization=as_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    message = refuse(read_checkpoint, path)
    assert message.startswith(f"{path} is damaged")
    assert "\n" not in message


@pytest.mark.parity
@pytest.mark.parametrize("content", [b"hello, this is no checkpoint", b"\x80\x02.", b"\x00" * 1000])
def test_a_foreign_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert refuse(read_checkpoint, path).startswith(f"{path} is damaged")


class Malicious:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parity
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(save, tmp_path, as_zip):
    made = tmp_path / "made"
    content = torch_state(random_state(TINY)) | {"extra": Malicious(made)}
    path = save(content, _use_new_zipfile_serialization=as_zip)
    message = refuse(read_checkpoint, path)
    assert message == (
        f"{path} holds more than tensors, posix.mkdir, which is not loaded, since that may run code: save "
        "its tensors alone where it was made, torch.save(model.state_dict(), 'weights.pth')"
    )
    assert not made.exists()
    # The file would have run it.
    import torch

    torch.load(path, weights_only=False)
    assert made.is_dir()


@pytest.mark.parity
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"model": {}}, "model is not a tensor"),
        ({"state_dict": {"w": 3.0}}, "w is not a tensor"),
    ],
)
def test_a_checkpoint_without_a_state_dict_is_refused(save, content, message):
    path = save(content)
    assert refuse(read_checkpoint, path).startswith(f"{path} holds no state dict")
    assert message in refuse(read_checkpoint, path)


@pytest.mark.parity
def test_a_view_without_end_is_refused_before_it_is_filled(save):
    """Two bytes that a file repeats 10^12 times; as float32 they would be 4 TB."""
    import torch

    path = save({"x": torch.ones(1, dtype=torch.float16).expand(10**6, 10**6)})
    assert refuse(read_checkpoint, path).endswith("its tensors have more numbers than the file has bytes")


@pytest.mark.parity
def test_tensors_that_numpy_does_not_have_are_refused(save):
    import torch

    path = save({"x": torch.empty(2, device="meta")})
    assert "holds tensors that are no plain arrays" in refuse(read_checkpoint, path)


def test_without_pytorch_a_checkpoint_is_refused_with_the_remedy(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    path.write_bytes(b"never read")
    monkeypatch.setitem(sys.modules, "torch", None)
    message = refuse(read_checkpoint, path)
    assert message == f"reading {path} needs PyTorch; install it with: pip install 'dmbp_jax[port]'"


# What training scripts leave around a state dict; first on plain dicts of NumPy arrays.

STATE = random_state(TINY)
OPTIMIZER = {"state": {0: {"exp_avg": np.zeros(3), "step": np.array(1)}}, "param_groups": [{"lr": 0.1}]}


def prefixed(prefix: str, state: dict = STATE) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def find(content):
    return find_state(content, np.ndarray, Path("w.pth"))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (STATE, ""),
        *(({key: STATE}, f"took {key!r}") for key in ("model", "net", "state_dict", "model_state_dict")),
        ({"epoch": 3, "state_dict": STATE}, "took 'state_dict' and left out epoch"),
        (
            {"optimizer": OPTIMIZER, "model": STATE, "best": 0.5},
            "took 'model' and left out optimizer, best",
        ),
        ({"optimizer": {"exp_avg": STATE}, "net": STATE}, "took 'net' and left out optimizer"),
        ({"state": {"model": STATE}}, "took 'state.model'"),
        ({"whatever": STATE, "epoch": 1}, "took 'whatever' and left out epoch"),
        ({**STATE, "epoch": 1}, "took the tensors and left out epoch"),
        ({"model": {"w": np.ones(2)}}, "took 'model'"),
    ],
)
def test_a_state_dict_is_found_where_training_scripts_put_it(content, note):
    found = find(content)
    assert found.note == note
    assert same(found.state, {"w": np.ones(2)} if "w" in found.state else STATE)


@pytest.mark.parametrize("key", ["model_ema", "ema", "state_dict_ema", "ema_state_dict", "swa_state_dict"])
def test_averaged_weights_are_taken_only_where_there_are_no_others(key):
    averaged = {name: tensor + 1 for name, tensor in STATE.items()}
    found = find({key: averaged, "model": STATE})
    assert same(found.state, STATE)
    assert found.note == f"took 'model' and left out {key}, which are averaged weights"
    alone = find({"epoch": 1, key: averaged})
    assert same(alone.state, averaged)
    assert alone.note == f"took {key!r} and left out epoch"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generator": STATE, "discriminator": STATE}, "2 state dicts, 'generator', 'discriminator'"),
        ({"model": STATE, "net": STATE}, "2 state dicts, 'model', 'net', and does not say which"),
        ({"optimizer": OPTIMIZER, "epoch": 3}, "no state dict: optimizer is not a tensor"),
        ([STATE], "holds no state dict"),
    ],
)
def test_a_checkpoint_without_one_network_is_refused(content, message):
    assert message in refuse(find, content)


def test_a_name_among_several_state_dicts_tells_the_network():
    assert find({"teacher": prefixed("t."), "model": STATE}).note == "took 'model' and left out teacher"


PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.model.", "a.0."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off(prefix):
    state, note = strip_prefix(prefixed(prefix), tensor_names(TINY), "f")
    assert same(state, STATE)
    assert note == f"took off {prefix!r}"
    assert strip_prefix(STATE, tensor_names(TINY), "f") == (STATE, "")


def test_what_is_no_layer_and_averaged_copies_are_left_out():
    others = {"criterion.weight": np.ones(3), "n_averaged": np.array(3), "norm.mean": np.ones((1, 3, 1, 1))}
    state, note = strip_prefix(prefixed("model.") | others, tensor_names(TINY), "f")
    assert same(state, STATE)
    assert note == "took off 'model.' and left out criterion.weight, n_averaged, norm.mean"
    copies = prefixed("ema_model.", {name: tensor + 1 for name, tensor in STATE.items()})
    assert same(strip_prefix(copies | prefixed("model."), tensor_names(TINY), "f")[0], STATE)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (prefixed("student.") | prefixed("teacher."), "f holds 2 networks, 'student.', 'teacher.'"),
        (
            prefixed("backbone.") | {"head.weight": np.ones((2, 3))},
            "f: head.weight is outside of the network",
        ),
    ],
)
def test_two_networks_and_layers_outside_are_refused(state, message):
    assert refuse(strip_prefix, state, tensor_names(TINY), "f").startswith(message)


def test_a_safetensors_file_with_a_prefix_loads_with_a_word(tmp_path):
    path = tmp_path / "w.safetensors"
    state = random_state("squeezenet1_1")
    safetensors.numpy.save_file(prefixed("module.model.", state), path)
    with pytest.warns(UserWarning, match=re.escape(f"{path}: took off 'module.model.'")):
        model = models.load_model("squeezenet1_1", path)
    kernel = state["classifier.1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.params["classifier"]["1"]["kernel"], kernel)


@pytest.mark.parametrize("name", ["w.pth", "w.ckpt", "w.bin", "runs/best.pth.tar"])
def test_a_checkpoint_in_place_of_weights_is_told_how_to_port(name):
    message = refuse(models.load_model, "resnet50", name)
    assert message.startswith(f"{name} is a PyTorch checkpoint; port it once with `dmbp-jax weights port")


@pytest.mark.parametrize(
    "name", ["resnext50_32x4d", "wide_resnet50_2", "resnetaa50", "resnet50d", "seresnet50", "resnet26"]
)
def test_no_other_architecture_is_proposed_for_one_that_is_missing(name):
    for message in (
        refuse(models.load_model, name),
        refuse(models.port_checkpoint, Path("w.pth"), name, Path("w.safetensors")),
    ):
        assert message.startswith(f"unknown model {name!r}: Known: alexnet, ")


@pytest.mark.parametrize(("name", "meant"), [("ResNet-50", "resnet50"), ("vgg16-BN", "vgg16_bn")])
def test_another_spelling_of_an_architecture_is_recognised(name, meant):
    assert f"did you mean {meant!r}?" in refuse(models.load_model, name)


def test_stand_ins_are_told_from_what_they_stand_for():
    """Nothing but names: none of them is a class or function of another module."""
    import argparse

    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in stand_ins()}
    assert {"argparse.Namespace", "pathlib.PosixPath", "pathlib._local.PosixPath"} <= kinds.keys()
    namespace = kinds["argparse.Namespace"](1, 2)
    assert not isinstance(namespace, argparse.Namespace)
    namespace.__setstate__({"arch": "resnet50"})
    assert plain(namespace) == {"arch": "resnet50"}
    assert type(kinds["collections.defaultdict"](list)) is not dict
    path = kinds["pathlib.PosixPath"]("/", "etc")
    assert plain(path) == {}


@pytest.mark.parity
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_checkpoint_as_training_leaves_it_is_read_without_its_classes(save, as_zip):
    import argparse
    import collections
    import datetime
    import pathlib

    state = torch_state(STATE)
    beside = {
        "args": argparse.Namespace(arch="tiny", out=pathlib.Path("a/b"), lr=0.1, sizes=(1, 2)),
        "path": pathlib.PurePosixPath("c"),
        "at": datetime.datetime.now(datetime.UTC),
        "took": datetime.timedelta(seconds=3),
        "best": np.float64(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "confusion": np.zeros((3, 3)),
        "names": np.array(["cat", "dog"]),
        "history": collections.defaultdict(list, loss=[1.0]),
        "set": {1, 2},
    }
    model = {f"module.{name}": tensor for name, tensor in state.items()}
    content = {"model": model, "model_ema": state, "optimizer": {"state": {0: {"step": state}}}, **beside}
    read = read_checkpoint(save(content, _use_new_zipfile_serialization=as_zip))
    assert same(strip_prefix(read.state, tensor_names(TINY), "f")[0], STATE)
    assert read.note.startswith("took 'model' and left out optimizer, args, path and ")
    assert plain(read.says["args"])["arch"] == "tiny"
    assert dict(read.says["history"]) == {"loss": [1.0]}


@pytest.mark.parity
def test_programs_and_modules_are_refused_with_the_remedy(tmp_path):
    import torch

    layer = torch.nn.Conv2d(3, 4, 3)
    path = tmp_path / "w.pt"
    torch.save(torch.nn.Sequential(layer), path)
    message = refuse(read_checkpoint, path)
    assert message.startswith(f"{path} holds more than tensors, torch.nn.modules.container.Sequential, ")
    assert message.endswith("torch.save(model.state_dict(), 'weights.pth')")
    torch.export.save(torch.export.export(layer, (torch.zeros(1, 3, 8, 8),)), tmp_path / "w.pt2")
    assert f"{tmp_path}/w.pt2 is an exported program" in refuse(read_checkpoint, tmp_path / "w.pt2")


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused_with_a_remedy_that_works(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    torch.jit.trace(layers, torch.zeros(1, 3, 8, 8)).save("w.pt")
    remedy = re.fullmatch(
        r"w\.pt is a TorchScript program, .*: torch\.save\((.*)\.state_dict\(\), 'weights\.pth'\), .*",
        refuse(read_checkpoint, Path("w.pt")),
    )
    assert remedy.group(1) == "torch.jit.load('w.pt')"
    torch.save(torch.jit.load("w.pt").state_dict(), "weights.pth")
    expected = {name: tensor.numpy() for name, tensor in layers.state_dict().items()}
    assert same(read_checkpoint(Path("weights.pth")).state, expected)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*quantiz:UserWarning", "ignore:.*quantiz:DeprecationWarning")
def test_quantised_tensors_are_refused_with_the_remedy(save):
    import torch

    tensor = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    path = save({"conv1.weight": tensor})
    assert refuse(read_checkpoint, path).startswith(f"{path} is quantised")


# Porting, and its command.


@pytest.mark.parity
def test_a_ported_checkpoint_loads_as_its_source(save, tmp_path):
    state = random_state("squeezenet1_1")
    output = tmp_path / "out.safetensors"
    models.port_checkpoint(save(torch_state(state), "right"), "squeezenet1_1", output)
    read, says, _ = read_safetensors(output)
    assert same(read, state)
    assert says[ARCHITECTURE_KEY] == "squeezenet1_1"


@pytest.mark.parity
def test_a_checkpoint_that_does_not_fit_writes_nothing(save, tmp_path):
    path = save(torch_state(random_state("squeezenet1_1")))
    output = tmp_path / "out.safetensors"
    assert refuse(models.port_checkpoint, path, "squeezenet1_0", output).startswith(
        f"{path}, as squeezenet1_0"
    )
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_says_what_is_missing_and_writes_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = ("weights", "port", "missing.pth", "--arch", "resnet50", "-o", "x.safetensors")
    assert run_command(monkeypatch, *command) == 2
    assert capsys.readouterr().err == "error: no such file: missing.pth\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "given.safetensors"
    safetensors.numpy.save_file(random_state("squeezenet1_1"), path)
    return path


@pytest.mark.parametrize(
    ("architecture", "output", "message"),
    [
        ("squeezenet", "x.safetensors", "did you mean 'squeezenet1_1'"),
        ("squeezenet1_1", "x.pth", "its ending must be .safetensors"),
        ("squeezenet1_1", "given.safetensors/x.safetensors", "cannot write"),
    ],
)
def test_the_command_refuses_bad_arguments(monkeypatch, capsys, source, architecture, output, message):
    output = source.parent / output
    command = ("weights", "port", str(source), "--arch", architecture, "-o", str(output))
    assert run_command(monkeypatch, *command) == 2
    assert re.fullmatch(f"error: .*{re.escape(message)}.*\n", capsys.readouterr().err)
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.parity
def test_a_lightning_checkpoint_is_ported_with_a_line_that_says_what_was_taken(
    save, tmp_path, monkeypatch, capsys
):
    state = random_state("squeezenet1_1")
    tensors = torch_state(prefixed("model.", state) | {"criterion.weight": np.ones(3, np.float32)})
    content = {
        "epoch": 4,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": tensors,
        "hyper_parameters": {"arch": "squeezenet1_1", "out": Path("runs")},
        "callbacks": {"ModelCheckpoint": {"best_model_path": "x"}},
    }
    path = save(content).rename(tmp_path / "last.ckpt")
    output = tmp_path / "out.safetensors"
    command = ("weights", "port", str(path), "--arch", "squeezenet1_1", "-o", str(output))
    assert run_command(monkeypatch, *command) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: took 'state_dict' and left out epoch, pytorch-lightning_version, hyper_parameters and 1 "
        "more; took off 'model.' and left out criterion.weight",
        f"wrote {output}",
    ]
    assert same(read_safetensors(output).state, state)


def test_the_command_writes_a_file_that_loads(monkeypatch, capsys, source):
    output = source.parent / "new" / "ported.safetensors"
    command = ("weights", "port", str(source), "--arch", "squeezenet1_1", "-o", str(output))
    assert run_command(monkeypatch, *command) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    assert len(models.load_model("squeezenet1_1", output).spec.classes) == 3
