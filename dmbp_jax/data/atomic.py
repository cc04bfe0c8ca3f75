"""Files that appear whole or not at all."""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from dmbp_jax.checks import InputError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends well.

    Missing folders are made. If the block raises, nothing is left behind and an earlier `path` stays.
    Raises `InputError` where the folder cannot be written.
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
            # safetensors makes the file anew, for its owner alone. Not every file system knows modes.
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
        # Named as in `atomic_path`, since names have a greatest length.
        with tempfile.NamedTemporaryFile(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
