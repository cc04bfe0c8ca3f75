"""Reading untrusted image files: the formats, limits of size and memory, and one error for all failures."""

import contextlib
import mmap
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.features
import PIL.Image
import PIL.ImageFile
import PIL.JpegImagePlugin
import PIL.TiffImagePlugin

from dmbp_jax._checks import InputError, shorten

FORMATS = (
    *("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"),
    *(("AVIF",) if "avif" in PIL.features.modules and PIL.features.check_module("avif") else ()),
)
"""The formats that are read, recognised by content. Pillow has forty more, one of which starts
Ghostscript."""
MAX_PIXELS = 2**27
"""134 million: few photographs have more than 100."""
MAX_MEMORY = 2**30
"""Bytes that decoding an image may take, whatever the size of its file: charts, faxes and dark micrographs
are compressed to a hundredth of a byte per pixel, as decompression bombs are."""
MAX_SCANS = 200
"""Scans of a JPEG file. Each takes time in proportion to the image's size; a progressive photograph has about
ten."""
MAX_SCANNED = MAX_SCANS * 2**24
"""Pixels of all scans together."""
MAX_PLAIN = 2**24
"""Pixels of a PPM written as text, of which Pillow reads some million in a second."""
MAX_BYTES = 2**31
"""Bytes of a file: decoders read to its end, also beyond the image."""
READERS = r"(PIL|numpy\.lib)\b"
"""Modules whose warnings are ignored."""


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[PIL.Image.Image]:
    """A `with` block on an image of which only the header was read; the first picture of several.

    Raises `InputError` that names the file: as `readable` does, for a format that is not in `FORMATS`, and
    for a file whose decoding would take more memory or time than a photograph's.
    """
    with readable(path), _open(path) as image:
        check_size(*image.size, str(path))
        if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):
            _check_tiff(image, path)
        if image.format in ("JPEG", "MPO"):
            _check_scans(image, path)
        if image.format == "PPM" and image.tile[0][0] == "ppm_plain" and _pixels(image) > MAX_PLAIN:
            raise InputError(f"{path} is a PPM of {_pixels(image)} pixels written as text: save it as PNG")
        if _memory(image) > MAX_MEMORY:
            raise InputError(
                f"{path} has {image.width} x {image.height} pixels, and to decode them would take more than "
                f"{MAX_MEMORY:,} bytes of memory: resize it"
            )
        yield image


def _open(path: Path) -> PIL.ImageFile.ImageFile:
    try:
        return PIL.Image.open(path, formats=FORMATS)
    except PIL.UnidentifiedImageError:
        with path.open("rb") as file:
            start = file.read(4)
        unread = next((kinds for magic, kinds in _UNREAD.items() if start.startswith(magic)), None)
        if unread is None:
            raise
        raise InputError(
            f"{path} is damaged or truncated, or {unread}, which is not read: save it as PNG or .npy"
        ) from None


_TIFFS = "TIFF with 10 or 14 bits, or floats of 16 or 64, or several channels of floats or of 32 bits"
_UNREAD = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _TIFFS),
    b"\xff\xd8": "JPEG with 12 bits or without loss",
    b"\x89PNG": "PNG with parts that no standard has",
}
"""Variants of these formats that Pillow does not read, by a file's first bytes."""


def orientation(image: PIL.Image.Image) -> int:
    """An image's EXIF orientation, 1 (upright) to 8. A TIFF file is upright once it is loaded."""
    try:
        return int(image.getexif().get(PIL.ExifTags.Base.Orientation, 1))
    except Exception:
        # Pillow raises various errors (`struct.error`, `TypeError`) on damaged metadata, which does not
        # affect the pixels.
        return 1


def upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Height and width of an opened image once it is upright."""
    width, height = image.size
    if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):
        # Some versions of Pillow have swapped `size` by now, and some have not.
        width, height = image.tag_v2[256], image.tag_v2[257]
    return (width, height) if orientation(image) in (5, 6, 7, 8) else (height, width)


def check_size(width: int, height: int, name: str) -> None:
    """Raise `InputError` for an image of more pixels than a photograph.

    >>> check_size(20000, 20000, "b.png")
    Traceback (most recent call last):
    dmbp_jax.InputError: b.png has 20000 x 20000 pixels, and at most 134,217,728 are decoded: resize it
    """
    pixels = width * height
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{name} has {width} x {height} pixels, and at most {MAX_PIXELS:,} are decoded: resize it"
        )


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """A `with` block that reads an image: errors of the file become an `InputError` that names it."""
    try:
        status = path.stat()
    except PermissionError:
        raise InputError(f"{path} may not be read: permission denied") from None
    except (OSError, ValueError) as error:
        # `ValueError`: a name with a null character.
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
    """A `with` block that decodes: every error of a decoder becomes an `InputError` that begins with
    `name`."""
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
        # Depending on the format, decoders raise errors of many types for a truncated or damaged file.
        reason = shorten(error, most=200) or type(error).__name__
        raise InputError(f"{name} is damaged or truncated: {reason}") from None


def _check_tiff(image: PIL.TiffImagePlugin.TiffImageFile, path: Path) -> None:
    """Refuse tiles larger than the image, since a tile is decoded whole, and previews of raw files."""
    width, length = (image.tag_v2.get(tag, 0) for tag in (322, 323))
    if width * length > max(4 * _pixels(image), 2**22):
        raise InputError(
            f"{path} is damaged or truncated: tiles of {width} x {length} pixels in an image of "
            f"{image.width} x {image.height}"
        )
    reduced = image.tag_v2.get(254, 0)
    if isinstance(reduced, int) and reduced & 1 and (330 in image.tag_v2 or image.is_animated):
        raise InputError(
            f"{path} begins with a preview of {image.width} x {image.height} pixels, as raw files of cameras "
            "do, and the photograph in it is not read: convert it to JPEG or PNG"
        )


def _pixels(image: PIL.Image.Image) -> int:
    return image.width * image.height


_MEMORY = {"1": 5, "L": 5, "P": 5, "RGB": 4, "I;16": 8, "I": 12, "F": 12}
"""Bytes per pixel of a mode, including those of the RGB image made from it; 8 for other modes."""


def _memory(image: PIL.ImageFile.ImageFile) -> int:
    """An upper bound of the bytes that decoding takes, measured on large images of each kind."""
    each = _MEMORY.get(image.mode[:4], 8)
    if ";16" in str(image.tile[0][3] if image.tile else "") and image.mode in ("RGB", "RGBA"):
        each = 16
    if image.format in ("WEBP", "AVIF"):
        each += 12
    if isinstance(image, PIL.JpegImagePlugin.JpegImageFile) and image.info.get("progressive"):
        # All coefficients, of 2 bytes.
        areas = [across * down for _, across, down, _ in image.layer]
        each += -(-2 * sum(areas) // max(*areas, 1))
    if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):
        # A strip or a tile, which may be all of it.
        tags = image.tag_v2
        rows = min(tags.get(278, image.height), image.height)
        part = tags.get(322, image.width) * tags.get(323, rows)
        # JPEG-compressed colours have a fourth byte.
        channel_bytes = max(sum(np.ravel(tags.get(258, 1))) // 8, tags.get(277, 1) + 1)
        return int(each * _pixels(image) + part * channel_bytes)
    return each * _pixels(image)


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7\x01]")
"""Markers of a JPEG, except those without a segment, which occur within a scan."""


def _check_scans(image: PIL.Image.Image, path: Path) -> None:
    """Count the scans of the first picture only: MPO files have further ones, and EXIF may hold a preview."""
    scans, place = 0, 2
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (marker := _MARKER.search(content, place)) and marker[0] != b"\xff\xd9":
            scans += marker[0] == b"\xff\xda"
            if scans > MAX_SCANS or scans * _pixels(image) > MAX_SCANNED:
                raise InputError(
                    f"{path} has more than {scans - 1} scans of {image.width} x {image.height} pixels, as no "
                    "camera writes: save it as a baseline JPEG"
                )
            # A segment begins with its length, which counts itself.
            place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")


class _Quiet:
    """A `with` block without warnings of Pillow and NumPy's reader about damaged metadata and large images.

    Filters are global to the process, and `warnings.catch_warnings` in one thread undoes another's. So the
    first thread that enters sets the filter, and the last one that leaves restores the earlier ones.
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
