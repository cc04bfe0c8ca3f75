"""Files of strangers that are called photographs: which decoders are tried, and how much they may take."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import PIL.JpegImagePlugin
import pytest
from fuzz_images import foreign, sized

from dmbp_jax._checks import InputError
from dmbp_jax.images import Preprocess, Sample, decode, read_segmentation
from dmbp_jax.images import _image_file as image_file
from dmbp_jax.images._samples import input_shape

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
    assert "is not an image of a format that is read (JPEG, PNG, WEBP, TIFF, BMP, GIF, PPM" in refused(eps)
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


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG", "PPM"])
def test_more_memory_than_a_photograph_takes_is_not_taken(tmp_path, nothing_decoded, monkeypatch, form):
    monkeypatch.setattr(image_file, "MAX_MEMORY", 4 * 1200 * 1100 - 1)
    (tmp_path / "cat.jpg").write_bytes(sized(form, 1200, 1100))
    assert (
        "has 1200 x 1100 pixels, and to decode them would take more than 5,279,999 bytes of memory"
        in refused(tmp_path / "cat.jpg")
    )


@pytest.mark.parametrize(
    ("form", "most"), [("PNG", 134e6), ("WEBP", 67e6), ("progressive", 134e6), ("wide", 67e6)]
)
def test_how_many_pixels_fit_into_the_memory_depends_on_what_decoding_takes(
    tmp_path, nothing_decoded, form, most
):
    """As measured: a pixel takes 4 bytes of PNG, 7 of progressive JPEG, 16 of WebP or colours of 16 bits."""
    for share, refused in ((0.95, False), (1.05, True)):
        side = int((share * most) ** 0.5)
        (tmp_path / "a").write_bytes(sized(form, side, side))
        # WebP has another method that decodes, and of this file it finds no end.
        with pytest.raises((InputError, pytest.fail.Exception)) as end:
            decode(tmp_path / "a")
        assert str(end.value).endswith("resize it") == refused


def flat(mode: str, width: int, height: int, **options: object) -> bytes:
    file = io.BytesIO()
    image = PIL.Image.new(mode, (width, height), options.pop("color", 0))
    image.putpixel((width - 1, height - 1), {"RGB": (1, 2, 3), "I;16": 60000}.get(mode, 1))
    image.save(file, **options)
    return file.getvalue()


PACKED = {
    "a chart": flat("RGB", 6000, 4000, format="PNG", color="white"),
    "a chart of a palette": flat("P", 6000, 4000, format="PNG"),
    "a sparse micrograph": flat("I;16", 5000, 4000, format="TIFF", compression="tiff_adobe_deflate"),
    **{
        f"a page of a fax, {way}": flat("1", 4960, 7016, format="TIFF", compression=way, color=1)
        for way in ("group4", "tiff_lzw", "tiff_adobe_deflate")
    },
    "a page, as JPEG": flat("L", 5000, 4000, format="JPEG", color=255, optimize=True),
}


@pytest.mark.parametrize("content", PACKED.values(), ids=PACKED)
def test_what_is_packed_into_few_bytes_is_decoded(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with PIL.Image.open(tmp_path / "a") as image:
        size = image.size
    assert size[0] * size[1] > 200 * len(content)
    image = decode(tmp_path / "a")
    assert (image.mode, image.size) == ("RGB", size)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "a")


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


@pytest.mark.parametrize(("side", "most"), [(4000, 200), (11_000, 27)])
def test_a_jpeg_of_endless_scans_is_not_decoded(tmp_path, nothing_decoded, side, most):
    (tmp_path / "a.jpg").write_bytes(sized("scans", side, side))
    assert f"has more than {most} scans of {side} x {side} pixels" in refused(tmp_path / "a.jpg")


def test_what_follows_a_jpegs_end_and_what_lies_in_its_segments_are_no_scans(tmp_path):
    """A second picture, a video, whatever a camera puts behind the first; a preview within it."""
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).save(file, "JPEG", comment=b"\xff\xda" * 300)
    (tmp_path / "a.jpg").write_bytes(file.getvalue() + b"\xff\xda\0\2" * 2**22)
    assert decode(tmp_path / "a.jpg").size == (60, 40)


def test_the_first_of_two_pictures_in_a_file_is_taken(tmp_path):
    first, second = PIL.Image.new("RGB", (40, 30), "red"), PIL.Image.new("RGB", (40, 30), "blue")
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    with PIL.Image.open(tmp_path / "a.mpo") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert decode(tmp_path / "a.mpo").getpixel((20, 15))[0] > 240


def test_a_ppm_of_endless_text_is_not_decoded(tmp_path, nothing_decoded):
    (tmp_path / "a.ppm").write_bytes(b"P3 5000 5000 255\n")
    assert "is a PPM of 25000000 pixels written as text" in refused(tmp_path / "a.ppm")


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
