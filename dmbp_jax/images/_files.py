"""Atomic writing of files; arrays and tensors in files."""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from dmbp_jax._checks import InputError, shorten
from dmbp_jax.images._image_file import quiet_readers

# Atomic writing: a file is written whole or not at all.


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it replaces `path` when the block ends without an error.

    Missing folders are created. If the block raises, the temporary file is removed and an earlier `path`
    stays. Raises `InputError` where the folder cannot be written.
    """
    # Hidden, and with the suffix kept, since writers choose the format by it.
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        yield temporary
        try:
            # safetensors creates the file readable by its owner only. Not every file system has modes.
            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
            temporary.replace(path)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise `InputError` now, rather than after long work, if `path` could not be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Named as in `atomic_path`, since names have a maximum length.
        with tempfile.NamedTemporaryFile(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")


# Arrays by name in a `.safetensors` file: read, and written whole or not at all.


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file, and its metadata.

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
        # Not only the library's own error: `ValueError` for a shape that overflows, `AttributeError` or
        # `TypeError` for a number format that NumPy does not have, such as float8, and others from Rust.
        reason = shorten(error, most=200)
        raise InputError(f"{path} is damaged, truncated or not a safetensors file: {reason}") from None
    return tensors, metadata


def write_tensors(path: Path, tensors: Mapping[str, npt.ArrayLike], metadata: Mapping[str, str]) -> None:
    """Write arrays by their names, and metadata; `InputError` if the file cannot be written."""
    # The library writes memory in its order and takes no NumPy scalars; `np.ascontiguousarray` would give
    # those an axis.
    contiguous = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file(contiguous, temporary, metadata=dict(metadata))


# An array in a `.npy` file.


def read_npy(path: Path) -> np.ndarray:
    """The array that `numpy.save` wrote. Nothing is unpickled, and memory is allocated only as the file fills
    it.

    Raises `InputError` for a file that is missing, damaged or truncated, or holds objects or an archive.
    """
    try:
        with quiet_readers:
            # Memory-mapped, so that NumPy compares the header's size with the file's before it allocates.
            # `np.load` would also read an archive of arrays, whatever its name.
            return np.array(np.lib.format.open_memmap(path, mode="r"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except Exception as error:
        # NumPy evaluates the header, so that a damaged one may raise any exception.
        reason = shorten(error, most=200) or type(error).__name__
        raise InputError(
            f"{path} is not an array that NumPy has saved, or damaged or truncated: {reason}"
        ) from None
