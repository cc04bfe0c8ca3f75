"""Safetensors files: read exactly or refused by name, written whole or not at all."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from state_dicts import TINY, random_state, refuse, same

from dmbp_jax import models
from dmbp_jax.models._claims import ARCHITECTURE_KEY
from dmbp_jax.models._manifest import weights_folder
from dmbp_jax.models._port import (
    check_sha256,
    digits_in_name,
    read_checkpoint,
    read_safetensors,
    write_safetensors,
)


def raw_safetensors(dtype: str, shape: list[int], data: bytes) -> bytes:
    """One tensor `x`, in any format that the file can name."""
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_what_is_written_is_read(tmp_path):
    state = random_state(TINY)
    write_safetensors(tmp_path / "new" / "w.safetensors", state, "tiny")
    read, says, _ = read_safetensors(tmp_path / "new" / "w.safetensors")
    assert same(read, state)
    assert says[ARCHITECTURE_KEY] == "tiny"


def test_turned_tensors_are_written_as_they_look(tmp_path):
    tensor = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    state = {"turned": tensor.transpose(2, 0, 1), "reversed": tensor[:, ::-1]}
    write_safetensors(tmp_path / "w.safetensors", state, "tiny")
    assert same(read_safetensors(tmp_path / "w.safetensors").state, state)


@pytest.mark.parametrize(
    ("name", "dtype"), [("BF16", ml_dtypes.bfloat16), ("F16", np.float16), ("F64", np.float64)]
)
def test_floats_of_other_widths_become_float32(tmp_path, name, dtype):
    values = np.array([[1.5, -2.0, 0.09375], [0.0, 96.0, -0.5]])  # exact in each of them
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw_safetensors(name, [2, 3], values.astype(dtype).tobytes()))
    tensor = read_safetensors(path).state["x"]
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, values)


def test_integers_are_read_as_they_are(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw_safetensors("I64", [2], np.array([1, 2]).tobytes()))
    assert read_safetensors(path).state["x"].dtype == np.int64


WHOLE = safetensors.numpy.save({"x": np.zeros(100, np.float32)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[:4],
        WHOLE[:20],
        WHOLE[:-1],
        WHOLE + b"more",
        b"PK\x03\x04 not safetensors at all",
        b"\xff" * 100,
        raw_safetensors("F8_E4M3", [4], bytes(4)),
        raw_safetensors("nonsense", [4], bytes(4)),
    ],
    ids=["empty", "size", "header", "data", "surplus", "zip", "noise", "float8", "unknown"],
)
def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert refuse(read_safetensors, path).startswith(
        f"{path} is damaged, truncated or not a safetensors file"
    )


@pytest.mark.parametrize("length", [2**31, 2**62, 2**63 - 1])
def test_a_shape_beyond_counting_is_refused_by_name(tmp_path, length):
    """Beside a length of 0 it needs no byte, so that the format allows it; NumPy does not."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw_safetensors("F32", [0, length, length], b""))
    assert refuse(read_safetensors, path).startswith(
        f"{path} is damaged, truncated or not a safetensors file"
    )


def test_what_goes_beyond_float32_becomes_infinite_without_a_warning(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw_safetensors("F64", [2], np.array([1e300, 1.0]).tobytes()))
    np.testing.assert_array_equal(read_safetensors(path).state["x"], [np.inf, 1])


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    assert "is no file" in refuse(read_safetensors, tmp_path / "w.safetensors")


def test_a_missing_file_is_refused_by_name(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path / "none.pth"):
        action = read_safetensors if path.suffix == ".safetensors" else read_checkpoint
        assert refuse(action, path) == f"no such file: {path}"


def test_a_folder_is_no_file(tmp_path):
    assert str(tmp_path) in refuse(read_safetensors, tmp_path)
    assert str(tmp_path) in refuse(read_checkpoint, tmp_path)


@pytest.mark.parametrize("length", [1, 8, 64])
def test_the_sha256_may_be_given_in_part(tmp_path, length):
    path = tmp_path / "w"
    path.write_bytes(b"content")
    digits = hashlib.sha256(b"content").hexdigest()[:length]
    check_sha256(path, digits)
    check_sha256(path, digits.upper())
    other = digits[:-1] + ("1" if digits[-1] == "0" else "0")
    message = refuse(check_sha256, path, other)
    assert str(path) in message
    assert other in message


@pytest.mark.parametrize(
    ("name", "digits"),
    [
        ("resnet18-f37072fd.pth", "f37072fd"),
        ("resnet50_voc-9ca920d6.pth.tar", "9ca920d6"),
        (f"x-{'ab' * 32}.pt", "ab" * 32),
        ("resnet18-f37072fd.safetensors", None),
        ("resnet18-f37072.pth", None),
        ("resnet18-F37072FD.pth", None),
        ("resnet18.pth", None),
    ],
)
def test_digits_are_found_where_publishers_put_them(name, digits):
    assert digits_in_name(Path(name)) == digits


# Writing whole or not at all.


def write_half_and(then):
    def save(tensors, path, metadata):
        Path(path).write_bytes(safetensors.numpy.save(tensors)[:50])
        then()

    return save


def interrupt():
    raise KeyboardInterrupt


def run_out_of_space():
    raise OSError("no space left")


@pytest.mark.parametrize("then", [interrupt, run_out_of_space])
@pytest.mark.parametrize("before", [None, b"earlier"])
def test_writing_that_fails_half_way_changes_nothing(tmp_path, monkeypatch, then, before):
    path = tmp_path / "w.safetensors"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(safetensors.numpy, "save_file", write_half_and(then))
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_safetensors(path, random_state(TINY), "tiny")
    assert [(file, file.read_bytes()) for file in tmp_path.iterdir()] == ([(path, before)] if before else [])


WRITE_HALF = """
import sys, time, pathlib, numpy, safetensors.numpy
from dmbp_jax.models._port import write_safetensors
def save(tensors, path, metadata):
    pathlib.Path(path).write_bytes(bytes(50))
    print("half", flush=True)
    time.sleep(60)
safetensors.numpy.save_file = save
write_safetensors(pathlib.Path(sys.argv[1]), {"x": numpy.zeros(100, numpy.float32)}, "tiny")
"""


def test_a_killed_writer_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"earlier")
    with subprocess.Popen([sys.executable, "-c", WRITE_HALF, path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        os.kill(process.pid, signal.SIGKILL)
    assert path.read_bytes() == b"earlier"


WRITE_OFTEN = """
import sys, pathlib, numpy
from dmbp_jax.models._port import write_safetensors
for _ in range(20):
    tensor = numpy.full(20_000, float(sys.argv[2]), numpy.float32)
    write_safetensors(pathlib.Path(sys.argv[1]), {"x": tensor}, "tiny")
"""


@pytest.mark.long
def test_writers_at_once_never_show_a_reader_half_a_file(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"x": np.zeros(20_000, np.float32)}, "tiny")
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_OFTEN, path, value]) for value in ("1", "2")]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        values = read_safetensors(path).state["x"]
        assert values.shape == (20_000,)
        assert (values == values[0]).all()
        seen.add(float(values[0]))
    assert [writer.returncode for writer in writers] == [0, 0]
    seen.add(float(read_safetensors(path).state["x"][0]))
    assert seen & {1.0, 2.0}
    assert list(tmp_path.iterdir()) == [path]


# Loading a file as a network.


def test_a_file_written_for_another_architecture_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, random_state("squeezenet1_1"), "squeezenet1_0")
    expected = f"{path} holds weights of squeezenet1_0, not of squeezenet1_1"
    assert refuse(models.load_model, "squeezenet1_1", path) == expected
    assert refuse(models.port_checkpoint, path, "squeezenet1_1", tmp_path / "out.safetensors") == expected
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_says_nothing_is_taken_by_its_tensors(tmp_path):
    path = tmp_path / "w.safetensors"
    state = random_state("squeezenet1_1")
    safetensors.numpy.save_file(state, path)
    model = models.load_model("squeezenet1_1", str(path))
    kernel = state["classifier.1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.params["classifier"]["1"]["kernel"], kernel)
    assert model.spec.classes == ("class 0", "class 1", "class 2")
    assert (model.spec.licence, model.spec.source, model.spec.tag) == ("unknown", str(path), "w")
    assert "features.5.squeeze.weight is missing" in refuse(models.load_model, "squeezenet1_0", path)


def test_a_file_with_as_many_classes_keeps_their_names(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(random_state("squeezenet1_1", 1000), path)
    assert models.load_model("squeezenet1_1", path).spec.classes[281] == "tabby"


def test_a_file_is_preprocessed_as_the_published_checkpoint_and_the_embedded_one_as_itself(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(random_state("squeezenet1_1"), path)
    embedded = weights_folder() / "squeezenet1_1_caffe.safetensors"
    assert models.load_model("squeezenet1_1", path).spec.preprocess.channels == "RGB"
    assert models.load_model("squeezenet1_1", embedded).spec.preprocess.channels == "BGR"


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("squeezenet", None, "did you mean"),
        ("squeezenet1_1", "cafe", "did you mean 'caffe'"),
        ("squeezenet1_1", "none.safetensors", "no such file: none.safetensors"),
    ],
)
def test_unknown_networks_tags_and_files_are_refused(name, weights, message):
    assert message in refuse(models.load_model, name, weights)
