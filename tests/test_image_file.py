"""Files of strangers that are called photographs: which decoders are tried, and how much they may take."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import PIL.JpegImagePlugin
import pytest
from fuzz_images import foreign, sized

from dmbp_jax.checks import InputError
from dmbp_jax.data import Preprocess, Sample, decode, image_file, input_shape, read_segmentation

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as refusal:
        decode(path)
    message = str(refusal.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    return message


def sample_of(path: Path) -> Sample:
    return Sample("x", (path,), ("cat",), segmentation=path)


@pytest.fixture
def eps(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(
        PIL.EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("started Ghostscript")
    )
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.eps")
    return (tmp_path / "a.eps").rename(tmp_path / "cat.jpg")


def test_postscript_called_a_photograph_starts_no_program(eps):
    assert "is not an image of a format that is read (JPEG, PNG, WEBP, TIFF, BMP, GIF)" in refused(eps)
    assert input_shape(sample_of(eps), Preprocess(crop=None)) is None
    with pytest.raises(InputError, match="format that is read"):
        read_segmentation(sample_of(eps), Preprocess(), (40, 60))


@pytest.mark.parametrize("form", foreign())
def test_other_formats_of_pillow_are_not_tried(tmp_path, form):
    for name in ("cat.jpg", "cat.png", f"cat.{form.lower()}"):
        (tmp_path / name).write_bytes(foreign()[form])
        assert "is not an image of a format that is read" in refused(tmp_path / name)


def test_a_file_is_judged_by_its_content(tmp_path):
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).save(file, "PNG")
    (tmp_path / "cat.jpg").write_bytes(file.getvalue())
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "cat.jpg")), NOISE)


ERRORS = [AttributeError, RuntimeError, ZeroDivisionError, NotImplementedError, struct.error, OverflowError]


@pytest.mark.parametrize(
    "error", [*ERRORS, SyntaxError, EOFError, IndexError, AssertionError, UnicodeDecodeError]
)
def test_whatever_a_decoder_raises_is_one_message(tmp_path, monkeypatch, error):
    def load(self):
        raise (
            error("utf-8", b"", 0, 1, "inner\nreason")
            if error is UnicodeDecodeError
            else error("inner\nreason")
        )

    monkeypatch.setattr(PIL.JpegImagePlugin.JpegImageFile, "load", load)
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    assert "is damaged or truncated: " in refused(tmp_path / "a.jpg")
    with (
        PIL.Image.open(tmp_path / "a.jpg") as image,
        pytest.raises(InputError, match=r"^the image is damaged or truncated"),
    ):
        decode(image)


def test_memory_that_is_not_there_is_one_message(tmp_path, monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(PIL.JpegImagePlugin.JpegImageFile, "load", load)
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    assert refused(tmp_path / "a.jpg").endswith("does not fit into memory: resize it first")


@pytest.fixture
def nothing_decoded(monkeypatch):
    """Of the formats that tests of size use: what is refused by its header is refused before."""
    import PIL.ImageFile

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG", "scans"])
def test_few_bytes_that_promise_many_pixels_are_not_decoded(tmp_path, nothing_decoded, form):
    (tmp_path / "cat.jpg").write_bytes(sized(form, 12_000, 11_000))
    assert re.search(
        r"says that it has 12000 x 11000 pixels, and has \d+ bytes", refused(tmp_path / "cat.jpg")
    )


def test_more_pixels_than_a_photograph_has_are_not_decoded(tmp_path, nothing_decoded, monkeypatch):
    monkeypatch.setattr(image_file, "MAX_PIXELS", 40 * 60 - 1)
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.png")
    assert refused(tmp_path / "a.png").endswith("60 x 40 pixels, and at most 2,399 are decoded: resize it")
    with pytest.raises(InputError, match="the image has 60 x 40 pixels"):
        decode(PIL.Image.fromarray(NOISE))
    with pytest.raises(InputError, match="the array has 60 x 40 pixels"):
        decode(NOISE)


def test_a_large_photograph_is_decoded_as_it_is(tmp_path):
    """Of more pixels than files of few bytes may have, in bands of rows where it is converted."""
    ramp = np.broadcast_to(np.arange(5000, dtype=np.uint16)[:, None] * 13, (5000, 4000))
    PIL.Image.fromarray(ramp).save(tmp_path / "a.tif")
    grey = np.asarray(decode(tmp_path / "a.tif"))[:, 7, 1]
    np.testing.assert_array_equal(grey, np.round(ramp[:, 0] / 65535 * 255).astype(np.uint8))


def test_transparency_of_a_large_image_is_laid_on_white_in_every_band(tmp_path):
    alpha = np.arange(2500, dtype=np.int64) % 256
    values = np.zeros((2500, 900, 4), np.uint8)
    values[..., 3] = alpha[:, None]
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "a.png"))[:, 5, 2], 255 - alpha)


def test_a_tile_larger_than_its_image_is_not_decoded(tmp_path, nothing_decoded):
    (tmp_path / "a.tif").write_bytes(sized("tile", 30_000, 20_000))
    assert "tiles of 30000 x 20000 pixels in an image of 60 x 40" in refused(tmp_path / "a.tif")


def test_a_jpeg_of_endless_scans_is_not_decoded(tmp_path, nothing_decoded):
    (tmp_path / "a.jpg").write_bytes(sized("scans", 4000, 4000))
    assert "has more than 200 scans" in refused(tmp_path / "a.jpg")


@pytest.mark.parametrize(("name", "start"), [(b"zTXt", b"words\0\0"), (b"iCCP", b"icc\0\0")])
def test_metadata_are_not_unpacked_without_end(tmp_path, name, start):
    """64 MB of zeros, packed into 64 kB."""
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).save(file, "PNG")
    content, body = file.getvalue(), start + zlib.compress(bytes(2**26), 9)
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    assert "Decompressed data too large" in refused(tmp_path / "a.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert "is no file but a device or a pipe" in refused(tmp_path / "a.jpg")


def test_a_file_beyond_all_photographs_is_not_read(tmp_path, monkeypatch):
    """Its blocks are holes, which a decoder would read to their end."""
    PIL.Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    os.truncate(tmp_path / "a.jpg", image_file.MAX_BYTES + 1)
    assert "no photograph has so many" in refused(tmp_path / "a.jpg")


def test_a_name_with_a_zero_is_one_message(tmp_path):
    assert "cannot be read" in refused(tmp_path / "a\0.jpg")
