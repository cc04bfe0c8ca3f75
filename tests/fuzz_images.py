"""Photographs to be spoiled: good ones, those of other formats, and those that say that they are vast."""

import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
from hypothesis import strategies as st
from small_images import png, tiff

from dmbp_jax.images import Preprocess, Sample, decode, read_segmentation
from dmbp_jax.images._image_file import FORMATS
from dmbp_jax.images._samples import input_shape

NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)

NOISE[:, 18:] = NOISE[:, 18:19]  # half of it compresses


def encoded(image: PIL.Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def npy(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def photographs() -> dict[str, bytes]:
    """Good photographs in all that is read, by the file's name."""
    rgb = PIL.Image.fromarray(NOISE)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    grey16 = PIL.Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    palette, alpha = rgb.quantize(32), rgb.copy()
    alpha.putalpha(PIL.Image.fromarray(NOISE[..., 1]))
    frames = [rgb.rotate(90 * k) for k in range(3)]
    found = {
        "plain.jpg": encoded(rgb, "JPEG", exif=exif),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True, quality=60, comment=b"words"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "plain.png": encoded(rgb, "PNG", exif=exif, dpi=(72, 72)),
        "palette.png": encoded(palette, "PNG", transparency=3),
        "grey16.png": encoded(grey16, "PNG"),
        "alpha.png": encoded(alpha, "PNG"),
        "frames.png": encoded(rgb, "PNG", save_all=True, append_images=frames[1:]),
        "lossy.webp": encoded(rgb, "WEBP", exif=exif),
        "lossless.webp": encoded(alpha, "WEBP", lossless=True),
        "frames.webp": encoded(rgb, "WEBP", save_all=True, append_images=frames[1:], duration=9),
        "plain.bmp": encoded(rgb, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "plain.gif": encoded(palette, "GIF", comment=b"words"),
        "frames.gif": encoded(palette, "GIF", save_all=True, append_images=frames[1:], duration=9),
        "plain.tif": encoded(rgb, "TIFF"),
        "grey16.tif": encoded(grey16, "TIFF"),
        "float.tif": encoded(PIL.Image.fromarray(NOISE[..., 0] / np.float32(255)), "TIFF"),
        "frames.tif": encoded(rgb, "TIFF", save_all=True, append_images=frames[1:]),
        "plain.npy": npy(NOISE),
        "float.npy": npy(NOISE / 255),
    }
    for way in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"{way}.tif"] = encoded(rgb, "TIFF", compression=way)
    found |= {
        "mpo.jpg": encoded(rgb, "MPO", save_all=True, append_images=frames[1:]),
        "plain.ppm": encoded(rgb, "PPM"),
        "bits.pbm": encoded(rgb.convert("1"), "PPM"),
        "grey12.pgm": b"P5 36 24 4095\n" + (NOISE[..., 0].astype(">u2") * 16).tobytes(),
        "colour16.ppm": b"P6 36 24 65535\n" + (NOISE.astype(">u2") * 257).tobytes(),
        "text.ppm": b"P3 36 24 255\n" + " ".join(map(str, NOISE.ravel())).encode(),
        "colour16.png": png(NOISE.astype(np.uint16) * 257, 16, clear=(0, 0, 0)),
        "alpha16.png": png(NOISE[..., :2].astype(np.uint16) * 257, 16),
        "grey4.png": png(NOISE[..., 0] >> 4, 4, clear=(3,)),
        "colour16.tif": tiff(NOISE.astype(np.uint16) * 257, white=2, packed=True),
        "grey32.tif": tiff(NOISE[..., 0].astype(np.uint32) << 24, packed=True),
        "signed.tif": tiff(NOISE[..., 0].astype(np.int16), order=">", packed=True),
        "float, big-endian.tif": tiff(NOISE[..., 0] / np.float32(255), order=">", packed=True),
        "lab.tif": tiff(NOISE, white=8),
    }
    if "AVIF" in FORMATS:
        found |= {"plain.avif": encoded(rgb, "AVIF"), "alpha.avif": encoded(alpha, "AVIF")}
    found["group4.tif"] = encoded(rgb.convert("1"), "TIFF", compression="group4")
    return found


@functools.cache
def foreign() -> dict[str, bytes]:
    """What Pillow would read, and what is not promised: each must be refused, whatever it is called."""
    rgb = PIL.Image.fromarray(NOISE)
    ways = (
        "EPS",
        "SPIDER",
        "DDS",
        "ICO",
        "JPEG2000",
        "TGA",
        "PCX",
        "SGI",
        "MSP",
        "XBM",
        "ICNS",
    )
    modes = {"SPIDER": "F", "MSP": "1", "XBM": "1"}
    found = {}
    for way in ways:
        try:
            found[way] = encoded(rgb.convert(modes.get(way, "RGB")), way)
        except (OSError, KeyError):
            continue  # a library that this machine lacks
    found["BLP"] = b"BLP2" + struct.pack("<IBBBBII", 1, 1, 0, 0, 0, 8, 8) + bytes(2000)
    return found


def run_photo(folder: Path, case: tuple[str, bytes]) -> None:
    name, content = case
    path = folder / name
    path.write_bytes(content)
    input_shape(Sample(name, (path,), ("1",)), Preprocess(crop=None))
    decode(path)
    Preprocess(resize=16, crop=12)(path)


def tiled(width: int, height: int, across: int, down: int) -> bytes:
    """A TIFF of one grey tile, packed."""
    data = zlib.compress(bytes(min(across * down, 2**24)), 9)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: across, 323: down, 325: len(data)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data


@functools.cache
def sized(form: str, width: int, height: int) -> bytes:
    """A good file of few bytes that says it has so many pixels."""
    image = PIL.Image.fromarray(NOISE)
    if form == "PNG":
        # Rows of zeros, sound to the last if they are not beyond all measure.
        data = zlib.compress(bytes(min(height * (3 * width + 1), 2**26)), 9)
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            (b"IDAT", data),
            (b"IEND", b""),
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    if form == "BMP":
        content = bytearray(encoded(image, "BMP"))
        content[18:26] = struct.pack("<ii", min(width, 2**31 - 1), min(height, 2**31 - 1))
        return bytes(content)
    if form == "TIFF":
        return tiled(width, height, 256, 256)
    if form == "PPM":
        return b"P6 %d %d 255\n" % (width, height) + NOISE.tobytes()
    if form == "text":
        return b"P3 %d %d 4095\n" % (width, height) + b"7 " * 2000
    if form == "wide":
        content = bytearray(png(NOISE.astype(np.uint16), 16))
        content[16:24] = struct.pack(">II", min(width, 2**31 - 1), min(height, 2**31 - 1))
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        return bytes(content)
    if form == "tile":
        return tiled(60, 40, min(width, 2**20), min(height, 2**20))
    width, height = width % 2**16, height % 2**16
    if form == "GIF":
        content = bytearray(encoded(image, "GIF"))
        frame = content.rindex(b"\x2c\0\0\0\0\x24\0\x18\0")
        content[6:10] = content[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
        return bytes(content)
    if form == "WEBP":
        content = bytearray(encoded(image, "WEBP"))
        content[26:30] = struct.pack("<HH", width % 2**14, height % 2**14)
        return bytes(content)
    content = bytearray(encoded(image, "JPEG", progressive=form != "JPEG"))
    frame = content.index(b"\xff\xc2" if form != "JPEG" else b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    if form == "scans":
        last = content.rindex(b"\xff\xda")
        content[last:last] = content[last:-2] * 500
    return bytes(content)


SIDES = (1, 36, 4000, 4096, 4097, 8192, 11586, 16383, 20000, 65535, 2**20, 2**31 - 1)


def sized_cases() -> st.SearchStrategy:
    """Every format at every size; of some a program spoils a little besides."""
    forms = st.sampled_from(
        ["PNG", "BMP", "TIFF", "tile", "GIF", "WEBP", "JPEG", "scans", "progressive", "PPM", "text", "wide"]
    )
    plain = st.tuples(forms, st.sampled_from(SIDES), st.sampled_from(SIDES)).map(lambda c: sized(*c))
    return plain.map(lambda content: ("cat.jpg", content))


def run_foreign(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / "cat.jpg"
    path.write_bytes(case[1])
    decode(path)
    raise AssertionError(f"read what is no photograph: {case[0]}")


def segmentations() -> dict[str, bytes]:
    classes = PIL.Image.fromarray((np.arange(24 * 36) // 44 % 21).astype(np.uint8).reshape(24, 36))
    palette = classes.copy().convert("P")
    palette.putpalette(list(range(256)) * 3)
    return {"grey.png": encoded(classes, "PNG"), "palette.png": encoded(palette, "PNG")}


def run_segmentation(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / case[0]
    path.write_bytes(case[1])
    read_segmentation(
        Sample("x", (path,), ("cat",), segmentation=path), Preprocess(resize=16, crop=12), (24, 36)
    )


PHOTO = encoded(PIL.Image.fromarray(NOISE), "PNG")
