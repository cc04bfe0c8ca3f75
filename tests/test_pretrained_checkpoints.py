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

from dmbp_jax import pretrained
from dmbp_jax.pretrained.files import read_checkpoint, read_safetensors


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
    assert same(read_checkpoint(path), state)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_a_checkpoints_floats_become_float32_and_its_counts_stay(save, kind):
    import torch

    content = {"w": torch.nn.Parameter(torch.tensor([1.5, -0.25], dtype=getattr(torch, kind)))}
    read = read_checkpoint(save(content | {"bn.num_batches_tracked": torch.tensor(7)}))
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
    assert message == f"{path} is damaged, or holds objects other than tensors, which are not loaded"
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


# Porting, and its command.


@pytest.mark.parity
def test_a_ported_checkpoint_loads_as_its_source(save, tmp_path):
    state = random_state("squeezenet1_1")
    output = tmp_path / "out.safetensors"
    pretrained.port_checkpoint(save(torch_state(state), "right"), "squeezenet1_1", output)
    read, written_for = read_safetensors(output)
    assert same(read, state)
    assert written_for == "squeezenet1_1"


@pytest.mark.parity
def test_a_checkpoint_that_does_not_fit_writes_nothing(save, tmp_path):
    path = save(torch_state(random_state("squeezenet1_1")))
    output = tmp_path / "out.safetensors"
    assert refuse(pretrained.port_checkpoint, path, "squeezenet1_0", output).startswith(
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
        ("squeezenet2", "x.safetensors", "did you mean 'squeezenet1_1'"),
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


def test_the_command_writes_a_file_that_loads(monkeypatch, capsys, source):
    output = source.parent / "new" / "ported.safetensors"
    command = ("weights", "port", str(source), "--arch", "squeezenet1_1", "-o", str(output))
    assert run_command(monkeypatch, *command) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    assert len(pretrained.load_model("squeezenet1_1", output).spec.classes) == 3
