"""A photograph, whatever file it comes in, as an RGB image of 8 bits."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from dmbp_jax.checks import InputError, kind_of
from dmbp_jax.data.image_file import check_size, decodable, open_image, readable
from dmbp_jax.data.npy import read_npy

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy"})
"""How photographs in folders are called; a file that is named is judged by its content."""


def decode(photo: str | os.PathLike[str] | PIL.Image.Image | np.ndarray) -> PIL.Image.Image:
    """An upright RGB image from a file, a Pillow image, or an array `(h, w)` or `(h, w, 3 or 4)`.

    Converted, not refused: EXIF rotation is applied, transparency is laid on white, CMYK, greyscale and
    palettes become RGB, 16 bits are scaled to 8; of several pictures in a file the first is taken. Arrays are
    uint8, uint16, or floats in [0, 1].

    Files are JPEG, PNG, WebP, TIFF, BMP or GIF, whatever they are called, or `.npy`. No other decoder of
    Pillow's is tried, and no image of more than 2^27 pixels is decoded, nor one of more than 2^24 whose file
    has less than a byte for 200 of them; such files are made to exhaust memory.

    Raises `InputError` that names the file if it is missing, empty, truncated, too large or no such image,
    and for arrays of another shape, range or dtype, or with NaN.

    >>> decode(np.zeros((4, 6), np.uint16)).size
    (6, 4)
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo, "the array")
    if isinstance(photo, PIL.Image.Image):
        check_size(*photo.size, "the image")
        with decodable("the image"):
            return _to_rgb(photo.copy(), "the image")
    if not isinstance(photo, str | os.PathLike):
        raise InputError(
            f"a photograph is a path, an image or an array, got {kind_of(photo)}: give one at a time"
        )
    path = Path(photo)
    if path.suffix.lower() == ".npy":
        with readable(path):
            return _from_array(read_npy(path), str(path))
    with open_image(path) as image:
        image.load()
        return _to_rgb(image, str(path))


def _to_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds values that are NaN or infinite")
        # 16 bits, or floats in [0, 1]; what goes beyond is scaled by its maximum.
        full = 65535.0 if image.mode.startswith("I") else 1.0
        top = max(float(values.max(initial=0)), full)
        return PIL.Image.fromarray(_to_byte(values, top)).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    # Pillow would copy what is RGB already.
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    result = PIL.Image.new("RGB", image.size)
    for top, bottom in _bands(image.height, image.width):
        band = image.crop((0, top, image.width, bottom)).convert("RGBA")
        paper = PIL.Image.new("RGBA", band.size, "white")
        result.paste(PIL.Image.alpha_composite(paper, band).convert("RGB"), (0, top))
    return result


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        # Asked first: an upright image would be copied.
        turned = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) != 1
        return PIL.ImageOps.exif_transpose(image) if turned else image
    except Exception:
        # Pillow raises whatever comes (`struct.error`, `TypeError`) on damaged metadata, of which the pixels
        # know nothing.
        return image


def _from_array(values: np.ndarray, name: str) -> PIL.Image.Image:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise InputError(f"{name} must have shape (h, w) or (h, w, 3), got {values.shape}")
    if values.size == 0:
        raise InputError(f"{name} is empty, its shape is {values.shape}")
    check_size(values.shape[1], values.shape[0], name)
    if values.dtype.type == np.uint16:
        values = _to_byte(values, 65535.0)
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


def _to_byte(values: np.ndarray, top: float = 1.0) -> np.ndarray:
    """8 bits, of which 255 is what `top` was."""
    result = np.empty(values.shape, np.uint8)
    for first, last in _bands(*values.shape[:2]):
        result[first:last] = np.round(np.clip(values[first:last] / top, 0, 1) * 255)
    return result


def _bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    """From which row to which: what is done in between needs memory for about a million pixels."""
    rows = max(2**20 // max(width, 1), 1)
    return ((top, min(top + rows, height)) for top in range(0, height, rows))
