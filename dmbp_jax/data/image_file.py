"""Image files of strangers: what is opened, how large it may be, what becomes of all that goes wrong."""

import contextlib
import mmap
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import PIL.TiffImagePlugin

from dmbp_jax.checks import InputError, shorten

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""What is opened, whatever the file is called. Pillow has forty more, one of which starts Ghostscript."""
MAX_PIXELS = 2**27
"""134 million: few photographs have more than 100. Decoding takes 8 bytes for each, about 1 GB."""
MAX_PIXELS_OF_FEW_BYTES = 2**24
"""More than these need a file of at least one byte for each `MAX_PIXELS_PER_BYTE` pixels."""
MAX_PIXELS_PER_BYTE = 200
"""Photographs have fewer than 100; flat colour, as JPEG or PNG, has up to 8000."""
MAX_SCANS = 200
"""Of a JPEG file. Each costs time by the image's size; a progressive photograph has about ten."""
MAX_BYTES = 2**31
"""Of a file: more is no photograph, and decoders read what follows an image to its end."""
READERS = r"(PIL|numpy\.lib)\b"
"""Modules whose warnings are ignored."""


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[PIL.Image.Image]:
    """A `with` block on an image of which the header alone was read; its first picture if it has several.

    Raises `InputError` that names the file: as `readable` does, for a file of other formats than `FORMATS`,
    and for one whose decoding would take memory or time as no photograph's does.
    """
    with readable(path), PIL.Image.open(path, formats=FORMATS) as image:
        check_size(*image.size, str(path), file_size=path.stat().st_size)
        if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):
            _check_tiles(image, path)
        if image.format in ("JPEG", "MPO"):
            _check_scans(path)
        yield image


def check_size(width: int, height: int, name: str, *, file_size: int | None = None) -> None:
    """Raise `InputError` for an image of more pixels than a photograph, or than its file can hold of one.

    >>> check_size(20000, 20000, "b.png")
    Traceback (most recent call last):
    dmbp_jax.checks.InputError: b.png has 20000 x 20000 pixels, and at most 134,217,728 are decoded: resize it
    """
    pixels = width * height
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{name} has {width} x {height} pixels, and at most {MAX_PIXELS:,} are decoded: resize it"
        )
    if file_size is not None and pixels > max(MAX_PIXELS_OF_FEW_BYTES, MAX_PIXELS_PER_BYTE * file_size):
        raise InputError(
            f"{name} says that it has {width} x {height} pixels, and has {file_size} bytes: it is truncated, "
            "or no photograph; resize it"
        )


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """A `with` block that reads an image: what is wrong with the file is an `InputError` that names it."""
    try:
        status = path.stat()
    except PermissionError:
        raise InputError(f"{path} may not be read: permission denied") from None
    except (OSError, ValueError) as error:
        # `ValueError` is a name with a zero in it.
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise InputError(f"no such file: {path}" if missing else f"{path} cannot be read: {error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a folder, not a photograph")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is no file but a device or a pipe; write the photograph to a file first")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
    if status.st_size > MAX_BYTES:
        raise InputError(f"{path} has {status.st_size} bytes: no photograph has so many")
    with decodable(os.fspath(path)):
        yield


@contextlib.contextmanager
def decodable(name: str) -> Iterator[None]:
    """A `with` block that decodes: whatever a decoder raises is an `InputError` that begins with `name`."""
    try:
        with quiet_readers:
            yield
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{name} may not be read: permission denied") from None
    except PIL.UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(
            f"{name} is not an image of a format that is read ({known}): convert it first"
        ) from None
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"{name} is too large to decode safely: {error}") from None
    except MemoryError:
        raise InputError(f"{name} does not fit into memory: resize it first") from None
    except Exception as error:
        # By format, decoders raise almost any type for a file that ends early or is damaged inside.
        reason = shorten(error, most=200) or type(error).__name__
        raise InputError(f"{name} is damaged or truncated: {reason}") from None


def _check_tiles(image: PIL.TiffImagePlugin.TiffImageFile, path: Path) -> None:
    """A tile is decoded whole, however small the image that it is a part of."""
    width, length = (image.tag_v2.get(tag, 0) for tag in (322, 323))
    if width * length > max(4 * image.width * image.height, 2**22):
        raise InputError(
            f"{path} is damaged or truncated: tiles of {width} x {length} pixels in an image of "
            f"{image.width} x {image.height}"
        )


def _check_scans(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, scans = content.find(b"\xff\xda"), 0
        while place >= 0:
            scans += 1
            if scans > MAX_SCANS:
                raise InputError(
                    f"{path} has more than {MAX_SCANS} scans, as no camera writes: save it as a baseline JPEG"
                )
            place = content.find(b"\xff\xda", place + 2)


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
