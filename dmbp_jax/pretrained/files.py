"""Weight files: reading, writing whole or not at all, and checking what was read."""

import hashlib
import pickle
import re
from pathlib import Path

import numpy as np

from dmbp_jax.checks import InputError
from dmbp_jax.data.tensors import read_tensors, write_tensors
from dmbp_jax.pretrained.state_dict import StateDict

ARCHITECTURE_KEY = "dmbp_jax.architecture"


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
    """The hash that publishers put into a checkpoint's name.

    >>> digits_in_name(Path("vgg16_voc-b050e8c3.pth.tar"))
    'b050e8c3'
    """
    found = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt)(?:\.tar)?$", path.name)
    return found.group(1) if found else None


def read_safetensors(path: Path) -> tuple[StateDict, str | None]:
    """The tensors of a file in float32, and the architecture that it says it is of, if it says.

    Raises `InputError` for a missing, truncated or foreign file.
    """
    tensors, metadata = read_tensors(path)
    return {name: _to_float32(tensor) for name, tensor in tensors.items()}, metadata.get(ARCHITECTURE_KEY)


def write_safetensors(path: Path, state: StateDict, architecture: str) -> None:
    """Write the tensors, in torchvision's names and layout, whole or not at all."""
    write_tensors(path, state, {"format": "pt", ARCHITECTURE_KEY: architecture})


def read_checkpoint(path: Path) -> StateDict:
    """The tensors of a PyTorch checkpoint, read with `torch.load(weights_only=True)` and nothing else.

    The SHA-256 digits in the file's name, if any, are checked first. Raises `InputError` for a missing,
    damaged or unsafe file, and if PyTorch is not installed.
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
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own message advises to load the file in an unsafe way.
        raise InputError(
            f"{path} is damaged, or holds objects other than tensors, which are not loaded"
        ) from None
    except Exception as error:
        # torch raises several more types here; all mean the same to the caller.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path} is damaged, truncated or not a plain checkpoint: {reason}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no state dict")
    foreign = [str(name)[:60] for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise InputError(f"{path} holds no state dict: {foreign[0]} is not a tensor")
    # A view may repeat one stored number without end. Every number that is stored takes a byte or more.
    if sum(tensor.numel() for tensor in content.values()) > path.stat().st_size:
        raise InputError(f"{path} is damaged: its tensors have more numbers than the file has bytes")
    try:
        return {
            str(name): (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in content.items()
        }
    except Exception as error:
        # Sparse, quantised and other tensors that NumPy does not have.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path} holds tensors that are no plain arrays: {reason}") from None


def _to_float32(tensor: np.ndarray) -> np.ndarray:
    # ml_dtypes' bfloat16 is no subtype of np.floating, but converts.
    is_float = np.issubdtype(tensor.dtype, np.floating) or tensor.dtype.name == "bfloat16"
    # What goes beyond float32 becomes infinite, which `check_state_dict` refuses by the tensor's name.
    with np.errstate(over="ignore", invalid="ignore"):
        return tensor.astype(np.float32) if is_float else tensor
