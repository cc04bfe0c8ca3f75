"""Weights, explanations and maps to be spoiled."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
from fuzz_images import NOISE, npy
from fuzz_mutate import mutate, of_files, programs
from hypothesis import strategies as st
from state_dicts import TINY, random_state

from dmbp_jax import Attribution
from dmbp_jax.evaluation._methods import MapFolder
from dmbp_jax.evaluation._store import KeptMap, keep_map
from dmbp_jax.models._checkpoints import check_state_dict, to_params
from dmbp_jax.models._port import read_checkpoint, read_safetensors
from dmbp_jax.result._attribution import Scores


def tensors_of(state: dict[str, np.ndarray], **metadata: str) -> bytes:
    return safetensors.numpy.save(state, metadata or None)


def with_header(content: bytes, change: Callable[[dict], None]) -> bytes:
    """A safetensors file whose header is another, with its length made right."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


HEADER_VALUES = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**32, 2**62, 2**63, 2**64, 2**70, 1.5, None, "x", [], {}, True]),
    st.integers(-5, 100),
)

DTYPES = (
    "F64",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F6_E2M3",
    "F4",
    "C64",
    "I64",
    "U16",
    "BOOL",
    "X",
)


def header_cases(contents: list[bytes]) -> st.SearchStrategy:
    """Headers that are JSON and say something else: dtypes, shapes, offsets, names, metadata."""

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        def change(header: dict) -> None:
            for _ in range(draw(st.integers(1, 3))):
                name = draw(st.sampled_from(sorted(header)))
                entry = header[name]
                if not isinstance(entry, dict) or "shape" not in entry:
                    header[name] = draw(st.one_of(HEADER_VALUES, st.dictionaries(st.text(), HEADER_VALUES)))
                    continue
                what = draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", "values", "drop"]))
                if what == "dtype":
                    entry["dtype"] = draw(st.sampled_from(DTYPES))
                elif what in ("shape", "data_offsets"):
                    entry[what] = draw(st.lists(HEADER_VALUES, max_size=6))
                elif what == "name":
                    header[draw(st.text(max_size=20))] = header.pop(name)
                elif what == "values":
                    # One that no byte has to stand for: a length of nothing beside a length beyond counting.
                    entry["shape"] = [0, draw(st.sampled_from([2**31, 2**62, 2**63, 2**64 - 1])), 2]
                    entry["data_offsets"] = [*entry["data_offsets"], 0][:1] * 2
                else:
                    del header[name]

        return with_header(draw(st.sampled_from(contents)), change)

    return draw()


def tensor_cases(contents: dict[str, bytes]) -> st.SearchStrategy:
    return st.one_of(
        of_files(contents).map(lambda c: c[1]),
        of_files(contents).map(lambda c: c[1]),
        header_cases(list(contents.values())),
    )


STATE = random_state(TINY)

WEIGHTS = {
    "plain": tensors_of(STATE),
    "half": tensors_of({name: tensor.astype(np.float16) for name, tensor in STATE.items()}, format="pt"),
    "double": tensors_of({name: tensor.astype(np.float64) * 1e300 for name, tensor in STATE.items()}),
}


def run_weights(folder: Path, case: bytes) -> None:
    path = folder / "w.safetensors"
    path.write_bytes(case)
    state = read_safetensors(path).state
    to_params(state, check_state_dict(state, TINY, str(path)), str(path))


def explanations() -> dict[str, bytes]:
    one = {"values": np.ones((1, 4, 4, 3), np.float32), "finite": np.ones(1, bool)}
    one |= {f"history.{name}": np.ones((1, 3), np.float32) for name in Scores._fields}
    scores = {f"scores.{name}": np.ones(1, np.float32) for name in Scores._fields}
    masks = {"masks.layer1.0.relu1": np.ones((1, 4, 4, 2), np.float32), "photo": NOISE}
    return {
        "one": tensors_of(one | scores | masks),
        "two": tensors_of({f"{method}/{key}": a for method in ("rise", "dmbp") for key, a in one.items()}),
    }


def run_explanation(folder: Path, case: tuple[bytes, str]) -> None:
    path = folder / "why.safetensors"
    path.write_bytes(case[0])
    found = Attribution.load(path, case[1])
    repr(found)
    _ = found.heatmap


def run_map(folder: Path, case: tuple[str, bytes]) -> None:
    (folder / "x.npy").write_bytes(case[1])
    maps = MapFolder.at(str(folder))
    maps.fingerprint()
    maps.read("x", 3, (6, 5), alone=True)


MAPS = {
    "plain": npy(np.ones((6, 5), np.float32)),
    "channels": npy(np.ones((6, 5, 3), np.float64) * 1e300),
    "objects": npy(np.asarray([[{}, None]], object), allow_pickle=True),
    "complex": npy(np.ones((6, 5), np.complex64)),
    "version2": b"\x93NUMPY\2\0"
    + struct.pack("<I", 60)
    + b"{'descr': '<f4', 'fortran_order': True, 'shape': (6, 5)}   \n"
    + bytes(120),
}

KEPT = keep_map("a.jpg", 3, "dmbp", 0.1, np.ones((6, 5), np.float32))

BOMB = zlib.compress(bytes(2**24), 9)


def kept_cases() -> st.SearchStrategy:
    numbers = st.one_of(st.sampled_from([0, 5, 6, -1, 2**13, 2**31, 2**62]), st.integers(-10, 100))
    content = st.one_of(st.just(BOMB), programs().map(lambda program: mutate(KEPT.values, program)))
    return st.tuples(
        st.one_of(st.just(6), numbers),
        st.one_of(st.just(5), numbers),
        st.floats(width=64),
        st.one_of(st.just(KEPT.values), content),
    )


def run_kept(folder: Path, case: tuple[int, int, float, bytes]) -> None:
    height, width, scale, values = case
    heatmap = KeptMap("a", 3, "dmbp", 0.1, height, width, scale, values).heatmap()
    assert heatmap.shape == (height, width)


def checkpoints() -> dict[str, bytes]:
    import torch

    def saved(content: object, **options: object) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    state = {name: torch.from_numpy(tensor) for name, tensor in STATE.items()}
    return {
        "plain": saved(state),
        "inside": saved({"state_dict": state, "epoch": 3}),
        "legacy": saved(state, _use_new_zipfile_serialization=False),
        "half": saved({name: tensor.half() for name, tensor in state.items()}),
        "endless": saved({"x": torch.ones(1).half().expand(10**6, 10**6)}),
        "sparse": saved({"x": torch.eye(3).to_sparse()}),
        "code": saved({"x": Trap()}),
    }


class Trap:
    """Unpickled, it would start a program."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch trapped",)


def run_checkpoint(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / "w.pth"
    path.write_bytes(case[1])
    state = read_checkpoint(path).state
    to_params(state, check_state_dict(state, TINY, str(path)), str(path))
