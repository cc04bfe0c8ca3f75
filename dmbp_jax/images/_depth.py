"""The numbers that an image file stores, and the value of white: depths, signs, floats, transparency."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
from jaxtyping import Num, UInt8, UInt16

from dmbp_jax._checks import InputError, warn_once
from dmbp_jax._ranges import Whole, check_option

Reopen = Callable[[], contextlib.AbstractContextManager[PIL.Image.Image]]
"""Opens the same file again: of colours of 16 bits, Pillow gives eight at a time."""
CONTAINERS = {2.0**16 - 1: 16, 2.0**32 - 1: 32}
"""Bits by the greatest value: images of 10, 12 or 14 bits are often stored in 16."""
LEAST_DEPTH, MOST_DEPTH = 8, 32
Depth: TypeAlias = Annotated[int, Whole(LEAST_DEPTH, MOST_DEPTH, " bits")]
"""Bits of the values of a file's pixels."""
_ORDERS = ("RGB", "RGBA", "RGBX", "RGBa")
"""Pillow's names for orders of samples, of whose 16 bits it keeps the upper eight."""
_NATIVE = {"F;32BF": "F;32F", "I;16BS": "I;16S", "I;32BS": "I;32S"}
"""libtiff turns bytes into the machine's order, and Pillow 13.0 turns those of these once more."""
_STRETCHED = {"L;2": 85, "L;4": 17}
"""The factor by which Pillow multiplies greys of few bits, but not the transparent grey."""


class Stored(NamedTuple):
    """The stored values of an image file or an array."""

    values: Num[np.ndarray, "h w *channels"]
    """Greys `(h, w)`, or a last axis of 2 (grey and alpha), 3 (RGB) or 4 (RGBA)."""
    top: float | None = None
    """The value of white by the file's depth; None for signed integers and floats, which have none."""
    white_is_zero: bool = False
    clear: tuple[int, ...] | None = None
    """The grey, or the colour, that is transparent."""
    premultiplied: bool = False
    """Whether colours are multiplied by their alpha already."""

    def to_bytes(self, name: str, depth: int | None = None) -> UInt8[np.ndarray, "h w *rgb"]:
        """8 bits for each grey or colour: the value divided by white, rounded, laid on white.

        `depth` is the number of bits. If it is None and the numbers fill at most a quarter of their
        container, an `InputWarning` says so, once for each possible depth.

        Raises `InputError` for values that are NaN or infinite, for values that are not between 0 and white,
        and where the value of white is unknown.
        """
        top = self._white(name, depth)
        height, width, *channels = self.values.shape
        alpha = channels in ([2], [4])
        result = np.empty((height, width, *(3 for count in channels if count > 2)), np.uint8)
        for first, last in bands(height, width):
            values = self.values[first:last]
            share = np.clip(values / np.float64(top), 0, 1)
            if self.white_is_zero:
                share = 1 - share
            if alpha:
                share, opaque = share[..., :-1], share[..., -1:]
                share = np.clip((share if self.premultiplied else share * opaque) + 1 - opaque, 0, 1)
            if self.clear is not None:
                same = values.reshape(*values.shape[:2], -1) == np.asarray(self.clear)
                share[same.all(axis=-1)] = 1
            result[first:last] = np.round(share * 255).reshape(result[first:last].shape)
        return result

    def _white(self, name: str, depth: int | None) -> float:
        least, most = float(self.values.min()), float(self.values.max())
        # A value that is not finite makes the minimum or the maximum not finite.
        if not np.isfinite([least, most]).all():
            raise InputError(f"{name} holds values that are NaN or infinite")
        floats = np.issubdtype(self.values.dtype, np.floating)
        unit = floats and least >= 0 and most <= 1
        if depth is None:
            if not unit and self.top is None:
                advice = "" if least < 0 else ", or say how many bits they have, as depth=12 or --depth 12"
                raise InputError(
                    f"{name} holds {'floats' if floats else 'signed integers'} ({self.values.dtype.name}), "
                    f"whose values span {least:.6g} to {most:.6g}, and nothing says which of them are black "
                    f"and white: scale them to floats in [0, 1]{advice}"
                )
            if self.top in CONTAINERS:
                _say_if_dark(name, most, self.top)
            return self.top or 1.0
        white = 2.0**depth - 1
        if unit and most > 0:
            raise InputError(f"{name} holds floats in [0, 1], which need no depth: leave depth {depth} out")
        if self.top is not None and white > self.top:
            raise InputError(
                f"the values of {name} reach {self.top:.0f} at most, and depth {depth} is up to {white:.0f}: "
                "leave the depth out"
            )
        if least < 0 or most > white:
            raise InputError(
                f"{name} holds values that span {least:.6g} to {most:.6g}, and depth {depth} is 0 to "
                f"{white:.0f}: give the depth that they have"
            )
        return white


def _say_if_dark(name: str, most: float, top: float) -> None:
    if not 0 < 4 * most <= top:
        return
    # Depths that there are: 8, 10, 12, 14.
    bits = max(-(-int(most).bit_length() // 2) * 2, LEAST_DEPTH)
    warn_once(
        f"depth {bits} of {CONTAINERS[top]}",
        f"{name}: the brightest value is {most:.0f} of {top:.0f}, which is nearly black: if these are {bits} "
        f"bits, give --depth {bits} (depth={bits}); said once for all files like this one",
    )


def check_depth(depth: int | None) -> None:
    """Raise `InputError` for a depth that is no whole number from 8 to 32, or None.

    >>> check_depth(12)
    """
    check_option("depth", depth, Depth | None)


def bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    """First and last rows of bands of about a million pixels, which bound the memory in use."""
    rows = max(2**20 // max(width, 1), 1)
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def read_stored(image: PIL.Image.Image, name: str, reopen: Reopen | None = None) -> Stored | None:
    """The stored values of an opened image; None where Pillow's eight bits are exact.

    Without `reopen`, colours of 16 bits are the eight that Pillow keeps. PNG's `sBIT` and TIFF's
    `MaxSampleValue` are not used as a depth: the first is the depth of the original, the second the maximum
    of this image.

    Raises `InputError` for a file that Pillow would misread.
    """
    tags: Any = image.tag_v2 if isinstance(image, PIL.TiffImagePlugin.TiffImageFile) else {}
    if tags:
        # Of a rotated file Pillow 13.0 swaps height and width too early where it maps the file into memory,
        # which needs its name.
        image.filename = ""  # type: ignore[attr-defined]
    codec, raw, *rest = _tile(image)
    if image.format == "PPM" and codec and image.mode in ("L", "I", "RGB"):
        return _read_pnm(image, codec, raw, rest, reopen)
    if codec and tags.get(284) == 2 and (image.mode == "LA" or _bits(tags) > 8):
        raise InputError(
            f"{name} is a TIFF file that keeps its channels apart (PlanarConfiguration 2), which is not read "
            "of more than 8 bits, nor of grey and alpha: save it with the channels of a pixel side by side"
        )
    return _read_colours(image, reopen) or _read_greys(image, tags)


def _read_colours(image: PIL.Image.Image, reopen: Reopen | None) -> Stored | None:
    """Several channels of 16 bits."""
    _, raw, *_ = _tile(image)
    order, _, kind = raw.partition(";")
    if order in _ORDERS and kind.startswith("16") and reopen is not None:
        clear = image.info.get("transparency")
        return Stored(_both_bytes(image, order, kind, reopen), 65535.0, False, clear, order == "RGBa")
    if raw == "LA;16B":
        # Each byte in a channel of its own.
        _unpack(image, "RGBA")
        halves = np.asarray(image).astype(np.uint16)
        return Stored(halves[..., ::2] * np.uint16(256) + halves[..., 1::2], 65535.0)
    return None


def _read_greys(image: PIL.Image.Image, tags: Any) -> Stored | None:
    """One channel: of more than 8 bits, signed, or floats."""
    codec, raw, *_ = _tile(image)
    clear = image.info.get("transparency")
    if codec == "libtiff" and sys.byteorder == "little" and raw in _NATIVE:
        _unpack(image, _NATIVE[raw])
    if raw in _STRETCHED and isinstance(clear, int):
        image.info["transparency"] = clear * _STRETCHED[raw]
    inverted, signed = tags.get(262) == 0, 2 in np.ravel(tags.get(339, 1))
    if image.mode.startswith("I;16"):
        top = 2.0 ** _bits(tags) - 1
        return Stored(np.asarray(image), top, inverted, None if clear is None else (clear,))
    if image.mode == "I" and (image.format == "PPM" or (tags and not signed)):
        # A PGM that is loaded has 16 bits, whatever it had.
        top = 65535.0 if image.format == "PPM" else 2.0**32 - 1
        return Stored(np.asarray(image).view(np.uint32), top, inverted)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        return Stored(values.astype(f"i{_bits(tags) // 8}") if tags and signed else values, None, inverted)
    if image.mode == "L" and signed:
        return Stored(np.asarray(image).view(np.int8), None, inverted)
    return None


def read_numbers(image: PIL.Image.Image) -> UInt8[np.ndarray, "h w"] | None:
    """The stored numbers of an image of one channel and at most 8 bits; None for others.

    Palettes give their indices. Pillow would stretch greys of 2 and 4 bits.
    """
    _, raw, *_ = _tile(image)
    if raw in _STRETCHED:
        return np.asarray(image) // _STRETCHED[raw]
    return np.asarray(image) if image.mode in ("P", "L") else None


def _tile(image: PIL.Image.Image) -> tuple[Any, ...]:
    """The decoder of an image that is not loaded, its name of the byte order, its other arguments."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return "", ""
    codec, _, _, arguments = tiles[0]
    raw, *rest = arguments if isinstance(arguments, tuple) else (arguments,)
    return codec, raw if isinstance(raw, str) else "", *rest


def _unpack(image: Any, raw: str, *, codec: str | None = None) -> None:
    """Make an image that is not loaded read its bytes in another order."""
    image.tile = [
        tile._replace(
            codec_name=codec or tile.codec_name,
            args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) and not codec else raw,
        )
        for tile in image.tile
    ]


def _bits(tags: Any) -> int:
    return int(np.max(tags.get(258, 16)))


def _both_bytes(
    image: PIL.Image.Image, order: str, kind: str, reopen: Reopen, *, codec: str | None = None
) -> UInt16[np.ndarray, "h w c"]:
    """Colours of 16 bits: of one order of bytes Pillow keeps the upper eight, of the other the lower."""
    # Not divided by their alpha, which Pillow does with eight bits.
    order = order.replace("a", "A")
    upper = kind[:3] if kind[:3] != "16N" else f"16{sys.byteorder[0].upper()}"
    _unpack(image, f"{order};{upper}", codec=codec)
    image.load()
    values = np.zeros((image.height, image.width, len(image.getbands())), np.uint16)
    _add(values, image, 256)
    with reopen() as again:
        _unpack(again, f"{order};{'16B' if upper == '16L' else '16L'}", codec=codec)
        again.load()
        _add(values, again, 1)
    return values


def _add(values: np.ndarray, image: PIL.Image.Image, factor: int) -> None:
    for first, last in bands(image.height, image.width):
        values[first:last] += np.asarray(image.crop((0, first, image.width, last))) * np.uint16(factor)


def _read_pnm(
    image: PIL.Image.Image, codec: str, raw: str, rest: list[Any], reopen: Reopen | None
) -> Stored | None:
    """PGM and PPM state the value of white; Pillow scales them to 8 or 16 bits, binary ones pixel by
    pixel."""
    top = float(rest[-1]) if rest and codec != "raw" else 65535.0 if image.mode == "I" else 255.0
    if codec == "ppm_plain":
        if image.mode != "I":
            return None
        return Stored(np.round(np.asarray(image) * (top / 65535)).astype(np.uint32), top)
    if top > 255 and image.mode == "RGB":
        return None if reopen is None else Stored(_both_bytes(image, "RGB", "16B", reopen, codec="raw"), top)
    if codec == "ppm":
        _unpack(image, "I;16B" if top > 255 else raw, codec="raw")
    return Stored(np.asarray(image).astype(np.uint16), top) if top != 255 else None
