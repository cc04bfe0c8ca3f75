"""Arrays by name in a `.safetensors` file: read, and written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.data.atomic import atomic_path


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file, and what it says of itself.

    Raises `InputError` for a missing, truncated or foreign file.
    """
    if not path.exists():
        raise InputError(f"no such file: {path}")
    if not path.is_file():
        raise InputError(f"{path} is no file, but a folder, a device or a pipe")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        # Beside the library's own: `ValueError` for a shape beyond counting, `AttributeError` or `TypeError`
        # for a number format that NumPy does not have, such as float8, and what else Rust hands on.
        reason = shorten(error, most=200)
        raise InputError(f"{path} is damaged, truncated or not a safetensors file: {reason}") from None
    return tensors, metadata


def write_tensors(path: Path, tensors: Mapping[str, npt.ArrayLike], metadata: Mapping[str, str]) -> None:
    """Write arrays by their names, and what the file says of itself; `InputError` if it cannot be written."""
    # The library writes the memory as it lies, and knows no NumPy scalars; `np.ascontiguousarray` would give
    # those an axis.
    contiguous = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file(contiguous, temporary, metadata=dict(metadata))
