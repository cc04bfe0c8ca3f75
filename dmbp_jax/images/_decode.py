"""A photograph from any supported file format as an RGB image of 8 bits."""

import os
from pathlib import Path

import numpy as np
import PIL.Image

from dmbp_jax._checks import InputError, kind_of
from dmbp_jax.images._depth import Stored, bands, check_depth, read_stored
from dmbp_jax.images._files import read_npy
from dmbp_jax.images._image_file import FORMATS, check_size, decodable, open_image, orientation, readable

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".npy"}
    | ({".avif"} if "AVIF" in FORMATS else set())
)
"""Suffixes of photographs in folders; a file that is named itself is recognised by its content."""
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image upright, by EXIF's orientation."""


def decode(
    photo: str | os.PathLike[str] | PIL.Image.Image | np.ndarray, *, depth: int | None = None
) -> PIL.Image.Image:
    """An upright RGB image from a file, a Pillow image, or an array `(h, w)` or `(h, w, 3 or 4)`.

    A value is divided by the file's maximum: that of 1, 2, 4, 8, 12, 16 or 32 bits, a PGM's own, 1 for
    floats; it is inverted where white is zero. EXIF rotation is applied, transparency is laid on white, CMYK,
    Lab, greyscale and palettes become RGB; of several pictures in a file the first is used. Colour profiles
    and gamma are not applied, as they were not when networks were trained.

    Values of 10, 12 or 14 bits stored in 16 cannot be distinguished from a dark image: they are read as 16
    bits, and an `InputWarning` names the brightest value, once. `depth=12` sets the number of bits, also for
    floats and signed integers, which are refused without it unless they are floats in [0, 1].

    Files are JPEG, PNG, WebP, TIFF, BMP, GIF, PPM (with PGM and PBM) or, from Pillow 11.3, AVIF, recognised
    by their content, or `.npy`. Pillow's other decoders are not used. Images of more than 2^27 pixels, and
    those whose decoding would take more than 1 GiB, are refused as decompression bombs.

    Raises `InputError` that names the file if it is missing, empty, truncated, too large or no such image,
    for values that are not in its range or the depth's, and for arrays of another shape or dtype.

    >>> decode(np.zeros((4, 6), np.uint16)).size
    (6, 4)
    >>> decode(np.asarray([[0, 2048, 4095]], np.uint16), depth=12).getpixel((1, 0))
    (128, 128, 128)
    """
    check_depth(depth)
    if isinstance(photo, np.ndarray):
        return _from_array(photo, "the array", depth)
    if isinstance(photo, PIL.Image.Image):
        check_size(*photo.size, "the image")
        with decodable("the image"):
            stored = read_stored(photo, "the image")
            found = photo.copy() if stored is None else stored
            turn = orientation(photo)
        return _to_rgb(found, turn, "the image", depth)
    if not isinstance(photo, str | os.PathLike):
        raise InputError(
            f"a photograph is a path, an image or an array, got {kind_of(photo)}: give one at a time"
        )
    path = Path(photo)
    if path.suffix.lower() == ".npy":
        with readable(path):
            values = read_npy(path)
        return _from_array(values, str(path), depth)
    return _to_rgb(*_load(path), str(path), depth)


def _load(path: Path) -> tuple[PIL.Image.Image | Stored, int]:
    """A file's image, and its EXIF orientation."""
    with open_image(path) as image:
        stored = read_stored(image, str(path), lambda: open_image(path))
        image.load()
        return image if stored is None else stored, orientation(image)


def _to_rgb(found: PIL.Image.Image | Stored, turn: int, name: str, depth: int | None) -> PIL.Image.Image:
    if isinstance(found, Stored):
        # Not inside `decodable`: these errors and warnings are not a decoder's.
        image = PIL.Image.fromarray(found.to_bytes(name, depth))
    elif depth is not None and depth > 8:
        raise InputError(f"{name} is read as 8 bits for each value, not {depth}: leave the depth out")
    else:
        image = found
    with decodable(name):
        if image.has_transparency_data:
            image = _on_white(image)
        elif image.mode != "RGB":
            # Pillow would copy an image that is RGB already.
            image = image.convert("RGB")
        return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    result = PIL.Image.new("RGB", image.size)
    for top, bottom in bands(image.height, image.width):
        band = image.crop((0, top, image.width, bottom))
        band = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
        paper = PIL.Image.new("RGBA", band.size, "white")
        result.paste(PIL.Image.alpha_composite(paper, band).convert("RGB"), (0, top))
    return result


def _from_array(values: np.ndarray, name: str, depth: int | None) -> PIL.Image.Image:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise InputError(f"{name} must have shape (h, w) or (h, w, 3), got {values.shape}")
    if values.size == 0:
        raise InputError(f"{name} is empty, its shape is {values.shape}")
    check_size(values.shape[1], values.shape[0], name)
    if values.dtype.kind not in "uif":
        raise InputError(f"{name} must hold whole numbers or floats, got {values.dtype}")
    if values.dtype == np.uint8 and depth is None:
        return _to_rgb(PIL.Image.fromarray(values), 1, name, depth)
    top = 2.0 ** (8 * values.dtype.itemsize) - 1 if values.dtype.kind == "u" else None
    return _to_rgb(Stored(values, top), 1, name, depth)
