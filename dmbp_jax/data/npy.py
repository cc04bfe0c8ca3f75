"""An array in a `.npy` file."""

from pathlib import Path

import numpy as np

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.data.image_file import quiet_readers


def read_npy(path: Path) -> np.ndarray:
    """The array that `numpy.save` wrote; nothing is unpickled, and no memory is set aside that the file does
    not fill.

    Raises `InputError` for a file that is missing, damaged or truncated, or holds objects or an archive.
    """
    try:
        with quiet_readers:
            # Mapped, so that NumPy compares what the header promises with what there is before it takes
            # memory for it. `np.load` would also take an archive of arrays, whatever its name.
            return np.array(np.lib.format.open_memmap(path, mode="r"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except Exception as error:
        # NumPy evaluates the header, so that a damaged one raises almost anything.
        reason = shorten(error, most=200) or type(error).__name__
        raise InputError(
            f"{path} is not an array that NumPy has saved, or damaged or truncated: {reason}"
        ) from None
