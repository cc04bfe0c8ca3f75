"""From checkpoints to parameters, and files of parameters."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmbp_jax._checks import InputError, shorten
from dmbp_jax.images._files import read_tensors, write_tensors
from dmbp_jax.models._architectures import get_architecture
from dmbp_jax.models._checkpoints import (
    StateDict,
    check_state_dict,
    find_state,
    stand_ins,
    strip_prefix,
    tensor_names,
)
from dmbp_jax.models._claims import ARCHITECTURE_KEY, check_claims, check_photographs, read_config
from dmbp_jax.models._layers import LayerShape
from dmbp_jax.models._manifest import WeightsEntry, from_timm, from_torchray, read_manifest

# Weight files: reading, atomic writing, and checks.


def check_sha256(path: Path, digits: str) -> None:
    """Raise `InputError` unless the SHA-256 of the file starts with `digits`."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(digits.lower()):
        raise InputError(
            f"{path} has SHA-256 {actual[: max(len(digits), 8)]}… where {digits} is expected: "
            "it is damaged or another file; fetch it again"
        )


def digits_in_name(path: Path) -> str | None:
    """The hash in a published checkpoint's name.

    >>> digits_in_name(Path("vgg16_voc-b050e8c3.pth.tar"))
    'b050e8c3'
    """
    found = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt)(?:\.tar)?$", path.name)
    return found.group(1) if found else None


class WeightFile(NamedTuple):
    """The contents of a weight file."""

    state: StateDict
    """Its tensors; all floats are converted to float32."""
    says: Mapping[str, Any]
    """Its metadata; see `models/_claims.py`."""
    note: str = ""
    """What was used of it and what was left out; empty if all was used."""


def read_safetensors(path: Path) -> WeightFile:
    """The tensors of a file in float32, and its metadata or the hub's `config.json` beside it.

    Raises `InputError` for a missing, truncated or foreign file.
    """
    tensors, metadata = read_tensors(path)
    state = {name: _to_float32(tensor) for name, tensor in tensors.items()}
    return WeightFile(state, {**read_config(path), **metadata})


def write_safetensors(path: Path, state: StateDict, architecture: str) -> None:
    """Write the tensors, in torchvision's names and layout, atomically."""
    write_tensors(path, state, {"format": "pt", ARCHITECTURE_KEY: architecture})


def read_checkpoint(path: Path) -> WeightFile:
    """The tensors of a PyTorch checkpoint, read with `torch.load(weights_only=True)`.

    Of a training script's checkpoint the network's state dict is used (`find_state`). Plain objects beside
    it, such as an `argparse.Namespace` or a path, are read without their classes. The SHA-256 digits in the
    file's name, if any, are checked first.

    Raises `InputError` for a missing, damaged or unsafe file, one without or with several state dicts, and if
    PyTorch is not installed.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    digits = digits_in_name(path)
    if digits is not None:
        check_sha256(path, digits)
    try:
        import torch
    except ImportError:
        raise InputError(
            f"reading {path} needs PyTorch; install it with: pip install 'dmbp_jax[port]'"
        ) from None
    try:
        with torch.serialization.safe_globals(stand_ins()), warnings.catch_warnings():
            # torch's own deprecation warnings, such as that of quantised tensors.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises other types than `UnpicklingError` as well, and advises to load the file unsafely.
        raise InputError(_why_unread(path, error)) from None
    state, note = find_state(content, torch.Tensor, path)
    # A view may repeat one stored number arbitrarily often; a stored number takes at least a byte.
    if sum(tensor.numel() for tensor in state.values()) > path.stat().st_size:
        raise InputError(f"{path} is damaged: its tensors have more numbers than the file has bytes")
    if any(tensor.is_quantized for tensor in state.values()):
        raise InputError(
            f"{path} is quantised, and its gates would be another network's: port the checkpoint that it was "
            "made from, in floating point"
        )
    try:
        arrays = {
            name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in state.items()
        }
    except Exception as error:
        # Sparse and other tensors that NumPy does not have.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path} holds tensors that are no plain arrays: {reason}") from None
    return WeightFile(arrays, {**read_config(path), **content}, note)


def _why_unread(path: Path, error: Exception) -> str:
    """Why torch does not read a checkpoint, and the remedy."""
    said = str(error)
    # torch's messages about archives of `torch.jit.save` and `torch.export.save`.
    for sign, kind, tensors in (
        ("TorchScript", "a TorchScript program", f"torch.jit.load({path.name!r}).state_dict()"),
        ("data.pkl", "an exported program", f"torch.export.load({path.name!r}).state_dict"),
    ):
        if sign in said:
            return (
                f"{path} is {kind}, of which only the tensors are needed: "
                f"torch.save({tensors}, 'weights.pth'), and port that"
            )
    foreign = re.search(r"GLOBAL ([\w.]+)", said)
    if foreign is not None:
        return (
            f"{path} holds more than tensors, {shorten(foreign[1])}, which is not loaded, since that may run "
            "code: save its tensors alone where it was made, torch.save(model.state_dict(), 'weights.pth')"
        )
    if isinstance(error, pickle.UnpicklingError):
        return f"{path} is damaged, or holds objects other than tensors, which are not loaded"
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"{path} is damaged, truncated or not a plain checkpoint: {reason}"


def _to_float32(tensor: np.ndarray) -> np.ndarray:
    # ml_dtypes' bfloat16 is no subtype of np.floating, but converts.
    is_float = np.issubdtype(tensor.dtype, np.floating) or tensor.dtype.name == "bfloat16"
    # Numbers beyond float32 become infinite, which `check_state_dict` refuses by the tensor's name.
    with np.errstate(over="ignore", invalid="ignore"):
        return tensor.astype(np.float32) if is_float else tensor


# A weight file as the tensors of a network, and its conversion to a checked safetensors file.

TORCHRAY_ARCHITECTURES = frozenset({"resnet50_caffe", "vgg16_caffe"})


class Weights(NamedTuple):
    """The checked tensors of a file, in torchvision's names and layout."""

    state: StateDict
    layers: Sequence[LayerShape]
    note: str
    """One line on what was used of the file, removed from its names and left out; or empty."""


def read_weights(path: Path, entry: WeightsEntry) -> Weights:
    """The tensors of a file for the architecture of `entry`, whose preprocessing is to hold for it.

    Raises `InputError` for a missing or damaged file, and for one whose tensors or metadata are those of
    another network or preprocessing.
    """
    own = path.suffix == ".safetensors"
    state, says, taken = read_safetensors(path) if own else read_checkpoint(path)
    architecture = get_architecture(entry.architecture)
    check_claims(says, architecture.name, str(path))
    state, stripped = strip_prefix(state, tensor_names(architecture), str(path))
    if not own and architecture.name in TORCHRAY_ARCHITECTURES:
        state = from_torchray(state, architecture.name)
    else:
        state = from_timm(state)
    layers = check_state_dict(state, architecture, str(path))
    preprocess = read_manifest().preprocess[entry.preprocess]
    check_photographs(says, preprocess, layers[-1].weight[0], str(path))
    notes = "; ".join(note for note in (taken, stripped) if note)
    return Weights(state, layers, f"{path}: {notes}" if notes else "")


def port_checkpoint(source: Path, architecture: str, destination: Path) -> str:
    """Write the tensors of a checkpoint as safetensors, in torchvision's names and layout.

    `source` is a `.pth` of torchvision, a `.pth.tar` of TorchRay (for the `_caffe` architectures), what a
    training script has saved around one of them (`{"model": ..., "optimizer": ...}`, Lightning's `.ckpt`,
    `module.` before the names), or a `.safetensors` of timm. Every tensor is checked before anything is
    written. Batch-norm is folded when the result is loaded, not here, so that PyTorch can read it too.

    Returns one line on what was used, removed from the names and left out; or an empty string.

    Raises `InputError` for an unknown architecture, and for a missing or damaged file, or one whose tensors
    or metadata are those of another network.
    """
    get_architecture(architecture)
    # `load_model` distinguishes a file from a tag by this suffix.
    if destination.suffix != ".safetensors":
        raise InputError(f"cannot write {destination}: its ending must be .safetensors")
    weights = read_weights(source, read_manifest().find_for_file(architecture, source.name))
    write_safetensors(destination, weights.state, architecture)
    return weights.note
