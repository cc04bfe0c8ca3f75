"""A photograph, whatever file it comes in, as an RGB image of 8 bits."""

import os
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from dmbp_jax.checks import InputError
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
    has less than a byte for 500 of them; such files are made to exhaust memory.

    Raises `InputError` that names the file if it is missing, empty, truncated, too large or not such an image,
    and for arrays of another shape, range or dtype, or with NaN.

    >>> decode(np.zeros((4, 6), np.uint16)).size
    (6, 4)
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo, "the array")
    if isinstance(photo, PIL.Image.Image):
        check_size(*photo.size, "the image")
        with decodable("the image"):
            return _to_rgb(photo, "the image")
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
    check_size(values.shape[1], values.shape[0], name)
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
