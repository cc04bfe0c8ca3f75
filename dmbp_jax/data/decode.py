"""A photograph, whatever file it comes in, as an RGB image of 8 bits."""

import contextlib
import os
import threading
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from dmbp_jax.checks import InputError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy"})
READERS = r"(PIL|numpy\.lib)\b"
"""Modules whose warnings are ignored."""


def decode(photo: str | os.PathLike[str] | PIL.Image.Image | np.ndarray) -> PIL.Image.Image:
    """An upright RGB image from a file, a Pillow image, or an array `(h, w)` or `(h, w, 3 or 4)`.

    Converted, not refused: EXIF rotation is applied, transparency is laid on white, CMYK, greyscale and
    palettes become RGB, 16 bits are scaled to 8. Arrays are uint8, uint16, or floats in [0, 1].

    Raises `InputError` that names the file if it is missing, empty, truncated or not an image, and for arrays
    of another shape, range or dtype, or with NaN.

    >>> decode(np.zeros((4, 6), np.uint16)).size
    (6, 4)
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo, "the array")
    if isinstance(photo, PIL.Image.Image):
        return _to_rgb(photo, "the image")
    path = Path(photo)
    with readable(path):
        if path.suffix.lower() == ".npy":
            return _from_array(_read_npy(path), str(path))
        with PIL.Image.open(path) as image:
            image.load()
            return _to_rgb(image, str(path))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """A `with` block that reads an image: what is wrong with the file is an `InputError` that names it."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a photograph")
        if size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        with quiet_readers:
            yield
    except PermissionError:
        raise InputError(f"{path} may not be read: permission denied") from None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no such file: {path}") from None
    except PIL.UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow can read") from None
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large to decode safely: {error}") from None
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        # Pillow raises any of these, by format, for a file that ends early or is damaged inside.
        raise InputError(f"{path} is damaged or truncated: {error}") from None


class _Quiet:
    """A `with` block in which Pillow and NumPy's reader do not warn: of damaged metadata, which is no matter
    here, and of sizes that large phones have.

    Filters belong to the process, and `warnings.catch_warnings` in one thread undoes another's. So the first
    thread that enters sets the filter, and the last one that leaves restores what was there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.filterwarnings("ignore", module=READERS)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


quiet_readers = _Quiet()


def _read_npy(path: Path) -> np.ndarray:
    # `np.load` would also take an archive of arrays, whatever its name.
    with path.open("rb") as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except (TypeError, OverflowError, MemoryError, tokenize.TokenError) as error:
            # A damaged header, which NumPy evaluates: a shape beyond any memory, among others.
            raise ValueError(error) from None


def _to_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds values that are NaN or infinite")
        # 16 bits, or floats in [0, 1]; what goes beyond is scaled by its maximum.
        full = 65535.0 if image.mode.startswith("I") else 1.0
        top = max(float(values.max(initial=0)), full)
        return PIL.Image.fromarray(_to_byte(values / top)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:
        # Pillow raises whatever comes (`struct.error`, `TypeError`) on damaged metadata, of which the pixels
        # know nothing.
        return image


def _from_array(values: np.ndarray, name: str) -> PIL.Image.Image:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise InputError(f"{name} must have shape (h, w) or (h, w, 3), got {values.shape}")
    if values.size == 0:
        raise InputError(f"{name} is empty, its shape is {values.shape}")
    if values.dtype.type == np.uint16:
        values = values / 65535.0
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds values that are NaN or infinite")
        if values.min() < 0 or values.max() > 1:
            raise InputError(
                f"{name} must hold floats in [0, 1], or be uint8; "
                f"its values span {values.min():.4g} to {values.max():.4g}"
            )
        values = _to_byte(values)
    if values.dtype != np.uint8:
        raise InputError(f"{name} must be uint8, uint16 or float, got {values.dtype}")
    return _to_rgb(PIL.Image.fromarray(values), name)


def _to_byte(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
