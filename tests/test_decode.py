"""Decoding: whatever a photograph comes in, it becomes upright 8-bit RGB or one clear refusal."""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest

from dmbp_jax._checks import InputError, InputWarning
from dmbp_jax.images import decode, find_photos

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def pixels(photo: object) -> list:
    image = decode(photo)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def palette(*, transparent: bool) -> PIL.Image.Image:
    image = PIL.Image.fromarray(np.asarray([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    if transparent:
        image.info["transparency"] = 1
    return image


def flat(mode: str, color: object) -> PIL.Image.Image:
    return PIL.Image.new(mode, (3, 2), color)


def test_rgb_jpeg_keeps_its_colours_and_size(tmp_path):
    flat("RGB", (200, 30, 60)).resize((48, 32)).save(tmp_path / "a.jpg", quality=95)
    image = decode(tmp_path / "a.jpg")
    assert (image.mode, image.size) == ("RGB", (48, 32))
    np.testing.assert_allclose(np.asarray(image), np.broadcast_to((200, 30, 60), (32, 48, 3)), atol=3)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    flat("CMYK", (0, 255, 255, 0)).resize((16, 16)).save(tmp_path / "a.jpg", quality=95)
    with PIL.Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
    np.testing.assert_allclose(pixels(tmp_path / "a.jpg"), np.broadcast_to((255, 0, 0), (16, 16, 3)), atol=4)


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (flat("RGB", (1, 2, 3)), (1, 2, 3)),
        (flat("L", 77), (77, 77, 77)),
        (flat("1", 1), (255, 255, 255)),
        (flat("LA", (100, 255)), (100, 100, 100)),
        (flat("LA", (0, 0)), (255, 255, 255)),
        (flat("LA", (0, 51)), (204, 204, 204)),
        (flat("RGBA", (9, 8, 7, 255)), (9, 8, 7)),
        (flat("RGBA", (255, 0, 0, 0)), (255, 255, 255)),
        (flat("RGBA", (255, 0, 0, 51)), (255, 204, 204)),
    ],
    ids=lambda value: value.mode + str(value.getpixel((0, 0))) if isinstance(value, PIL.Image.Image) else "",
)
def test_every_mode_becomes_rgb_with_transparency_on_white(tmp_path, image, color):
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[list(color)] * 3] * 2


@pytest.mark.parametrize(("transparent", "second"), [(False, [40, 50, 60]), (True, [255, 255, 255])])
def test_palette_becomes_rgb_with_its_transparent_entry_white(tmp_path, transparent, second):
    palette(transparent=transparent).save(tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
    assert pixels(tmp_path / "a.png") == [[[10, 20, 30], second]]


def test_transparent_colour_of_an_rgb_png_becomes_white(tmp_path):
    flat("RGB", (1, 2, 3)).save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert pixels(tmp_path / "a.png") == [[[255, 255, 255]] * 3] * 2


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path, ending):
    PIL.Image.fromarray(np.asarray([[0, 256, 32768, 65535]], np.uint16)).save(tmp_path / f"a.{ending}")
    with PIL.Image.open(tmp_path / f"a.{ending}") as image:
        assert image.mode == "I;16"
    assert pixels(tmp_path / f"a.{ending}") == [[[v] * 3 for v in (0, 1, 128, 255)]]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a.swapaxes(0, 1), 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), upright(NOISE))
    with PIL.Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(pixels(image), upright(NOISE))
    # Numbers that are not of 8 bits, and TIFF, which Pillow turns itself.
    wide = NOISE[..., 0].astype(np.uint16) * 257
    PIL.Image.fromarray(wide).save(tmp_path / "b.png", exif=exif)
    PIL.Image.fromarray(wide).save(tmp_path / "b.tif", exif=exif)
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.tif", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), upright(NOISE))
    PIL.Image.fromarray(NOISE[..., 0]).save(tmp_path / "c.tif", exif=exif)
    for name in ("b.png", "b.tif", "c.tif"):
        for photo in (tmp_path / name, PIL.Image.open(tmp_path / name)):
            np.testing.assert_array_equal(np.asarray(pixels(photo))[..., 1], upright(NOISE[..., 0]))


def test_rotated_jpeg_comes_upright(tmp_path):
    halves = np.zeros((32, 64, 3), np.uint8)
    halves[:, :32] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(halves).save(tmp_path / "a.jpg", exif=exif)
    image = np.asarray(decode(tmp_path / "a.jpg"))
    assert image.shape == (64, 32, 3)
    assert image[:24].min() > 240
    assert image[40:].max() < 15


def test_exif_that_cannot_be_written_again_turns_the_image_all_the_same(tmp_path):
    """Pillow writes the EXIF anew, without its orientation: here a resolution is text, and it raises."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHI4s", 0x011A, 2, 4, b"abc\0")
    header = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + b"\0\0\0\0"
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.jpg", exif=header)
    with PIL.Image.open(tmp_path / "a.jpg") as image, pytest.raises((TypeError, ValueError)):
        PIL.ImageOps.exif_transpose(image)
    assert decode(tmp_path / "a.jpg").size == (40, 60)


def test_damaged_exif_is_no_reason_to_refuse_or_warn(tmp_path):
    header = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 9)
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.jpg", exif=header)
    assert decode(tmp_path / "a.jpg").size == (60, 40)


@pytest.mark.parametrize(
    "values",
    [
        np.asarray([[0, 128, 255]], np.uint8),
        np.asarray([[0, 32896, 65535]], np.uint16),
        np.asarray([[0, 32896, 65535]], ">u2"),
        np.asarray([[0, 0.5019, 1]], np.float16),
        np.asarray([[0, 0.5019, 1]], np.float32),
        np.asarray([[0, 0.5019, 1]], ">f4"),
        np.asarray([[0, 0.5019, 1]], np.float64),
    ],
    ids=lambda values: values.dtype.str,
)
@pytest.mark.parametrize("from_file", [False, True])
def test_array_of_any_accepted_dtype_becomes_8_bits(tmp_path, values, from_file):
    np.save(tmp_path / "a.npy", values)
    assert pixels(tmp_path / "a.npy" if from_file else values) == [[[v] * 3 for v in (0, 128, 255)]]


def test_array_with_transparency_is_laid_on_white():
    values = np.asarray([[[255, 0, 0, 255], [255, 0, 0, 51]]], np.uint8)
    assert pixels(values) == [[[255, 0, 0], [255, 204, 204]]]


def test_array_of_rgb_keeps_its_layout():
    np.testing.assert_array_equal(pixels(NOISE), NOISE)
    np.testing.assert_array_equal(pixels(np.asfortranarray(NOISE)), NOISE)


@pytest.mark.parametrize("form", [str, Path, PIL.Image.open], ids=["str", "path", "pillow"])
def test_path_and_pillow_image_are_accepted_alike(tmp_path, form):
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(form(str(tmp_path / "a.png"))), NOISE)


def write_nothing(path: Path) -> None:
    pass


def write_empty(path: Path) -> None:
    path.touch()


def write_text(path: Path) -> None:
    path.write_text("this is no photograph\n" * 100)


def half_of(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, NOISE)
    else:
        PIL.Image.fromarray(NOISE).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_pickle(path: Path) -> None:
    np.save(path, np.asarray([{}, None], object), allow_pickle=True)


def write_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, photo=NOISE)


def array(*shape: int, value: float = 0, dtype: object = np.float32) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.full(shape, value, dtype))


def header(shape: str) -> Callable[[Path], None]:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return lambda path: path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(99))


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.jpg", write_nothing, "no such file"),
    "missing array": ("a.npy", write_nothing, "no such file"),
    "folder": ("a.jpg", Path.mkdir, "folder"),
    "empty": ("a.jpg", write_empty, "empty (0 bytes)"),
    "empty array": ("a.npy", write_empty, "empty (0 bytes)"),
    "text": ("a.jpg", write_text, "not an image"),
    "text as array": ("a.npy", write_text, "damaged"),
    **{
        f"truncated {ending}": (f"a.{ending}", half_of, "truncated")
        for ending in ("jpg", "png", "webp", "bmp", "gif", "tif", "npy")
    },
    "pickled array": ("a.npy", write_pickle, "damaged"),
    "archive of arrays": ("a.npy", write_archive, "damaged"),
    "array beyond memory": ("a.npy", header("(1000000, 1000000, 3)"), "damaged"),
    "array beyond counting": ("a.npy", header("(10000000000000000000000, 3)"), "damaged"),
    "array with a torn header": ("a.npy", header("(("), "damaged"),
    "array with a flag for a length": ("a.npy", header("(True, 4)"), "damaged"),
    "array with NaN": ("a.npy", array(2, 2, 3, value=np.nan), "NaN"),
    "array with infinity": ("a.npy", array(2, 2, 3, value=np.inf), "infinite"),
    "array above one": ("a.npy", array(2, 2, 3, value=7.5), "span 7.5 to 7.5"),
    "array below zero": ("a.npy", array(2, 2, 3, value=-0.25), "span -0.25 to -0.25"),
    "array of rank 1": ("a.npy", array(5), "got (5,)"),
    "array of rank 4": ("a.npy", array(1, 5, 5, 3), "got (1, 5, 5, 3)"),
    "array of 1 channel": ("a.npy", array(5, 5, 1), "got (5, 5, 1)"),
    "array of 5 channels": ("a.npy", array(5, 5, 5), "got (5, 5, 5)"),
    "array without rows": ("a.npy", array(0, 5, 3), "is empty"),
    "array without columns": ("a.npy", array(5, 0), "is empty"),
    "array of int64": ("a.npy", array(5, 5, dtype=np.int64), "signed integers (int64)"),
    "array of flags": ("a.npy", array(5, 5, dtype=bool), "got bool"),
    "array of complex numbers": ("a.npy", array(5, 5, dtype=np.complex64), "got complex64"),
    "float tiff with NaN": (
        "a.tif",
        lambda path: PIL.Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(path),
        "NaN",
    ),
}


@pytest.mark.parametrize(("name", "write", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusal_names_the_file_and_the_reason_in_one_line(tmp_path, name, write, reason):
    write(tmp_path / name)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / name))) as refusal:
        decode(tmp_path / name)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_path_below_a_file_is_a_missing_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"no such file: .*a\.jpg"):
        decode(tmp_path / "file" / "a.jpg")


def test_refused_array_is_called_the_array():
    with pytest.raises(InputError, match=r"^the array holds values that are NaN"):
        decode(np.full((2, 2), np.nan))


def test_decompression_bomb_is_refused_and_a_large_photograph_is_not(tmp_path, monkeypatch):
    """Pillow only warns up to twice its limit, where the photographs of large phones lie."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    flat("L", 0).resize((12, 12)).save(tmp_path / "large.png")
    assert decode(tmp_path / "large.png").size == (12, 12)
    flat("L", 0).resize((20, 20)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"bomb\.png is too large"):
        decode(tmp_path / "bomb.png")


def test_folder_gives_its_photographs_sorted_and_not_those_below(tmp_path):
    for name in ("b.JPG", "a.png", "c.npy", "below/d.png", ".hidden.png", ".notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_photos([tmp_path])] == ["a.png", "b.JPG", "c.npy"]


def test_every_name_of_a_format_that_is_read_is_found(tmp_path):
    """JPEG's other names, pairs of pictures, animations, what Netpbm writes; AVIF where Pillow reads it."""
    names = ["a.jfif", "b.JPE", "c.mpo", "d.ppm", "e.pgm", "f.pbm", "g.pnm", "h.apng"]
    names += ["i.avif"] * ("avif" in PIL.features.modules and PIL.features.check_module("avif"))
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_photos([tmp_path])] == names


def test_files_of_a_folder_that_are_not_taken_are_counted_and_named(tmp_path):
    for name in ("a.png", "a_dmbp.png", "b.heic", "notes.txt", "raw.nef", "labels.csv"):
        (tmp_path / name).touch()
    with pytest.warns(InputWarning) as said:
        assert [path.name for path in find_photos([tmp_path])] == ["a.png"]
    (message,) = (str(one.message) for one in said)
    assert message == (
        "not taken for photographs, by their names: 4 files (a_dmbp.png, b.heic, notes.txt and others) of "
        f"{tmp_path}"
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"holds no photographs: .*4 files \(a_dmbp\.png, b\.heic"):
        find_photos([tmp_path])


def test_named_file_is_kept_whatever_its_ending_and_each_file_once(tmp_path):
    for name in ("a.png", "b.png", "odd.raw"):
        (tmp_path / name).touch()
    given = [tmp_path / "odd.raw", tmp_path / "b.png", tmp_path, tmp_path / "odd.raw"]
    # It is named, and so it is taken.
    assert find_photos(given) == [tmp_path / "odd.raw", tmp_path / "b.png", tmp_path / "a.png"]


@pytest.mark.parametrize(
    ("name", "reason"), [("absent", "no such file or folder"), ("", "holds no photographs")]
)
def test_nothing_found_is_refused_by_name(tmp_path, name, reason):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=re.escape(os.fspath(tmp_path / name))) as refusal:
        find_photos([tmp_path / name])
    assert reason in str(refusal.value)
