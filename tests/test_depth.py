"""A value is its share of what its file can hold: depths, signs, floats, white, transparency."""

import re
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from commands import run_here
from small_images import png, tiff

from dmbp_jax import InputError, InputWarning
from dmbp_jax import _checks as checks
from dmbp_jax.cli import _explain as explain_command
from dmbp_jax.images import Preprocess, Sample, decode, read_sample

TWELVE = [0, 1000, 2000, 4095]
SIXTEEN = [0, 20000, 40000, 65535]
FLOATS = [0.0, 0.25, 0.7, 1.0]


def row(values: list, dtype: object) -> np.ndarray:
    return np.asarray([values], dtype)


def shares(values: list, top: int, *, white_is_zero: bool = False) -> list[int]:
    """The definition, in exact arithmetic."""
    found = [Fraction(value) / top for value in values]
    return [round(255 * (1 - share if white_is_zero else share)) for share in found]


def greys(path: object, **options: int) -> list[int]:
    image = np.asarray(decode(path, **options))
    assert (image == image[..., :1]).all()
    return image[..., 0].ravel().tolist()


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.fixture
def unsaid(monkeypatch):
    """No warning has been given yet."""
    monkeypatch.setattr(checks, "_SAID", set())


BITS_12 = bytes.fromhex("0003e87d0fff")
UINT32 = [0, 1000, 2**31, 2**32 - 1]
GREYS = {
    "12 bits": (tiff(row(TWELVE, "u2"), bits=12, data=BITS_12), shares(TWELVE, 4095)),
    "12 bits, packed": (tiff(row(TWELVE, "u2"), bits=12, data=BITS_12, packed=True), shares(TWELVE, 4095)),
    "16 bits": (tiff(row(SIXTEEN, "u2")), shares(SIXTEEN, 65535)),
    "16 bits, big-endian, packed": (tiff(row(SIXTEEN, "u2"), order=">", packed=True), shares(SIXTEEN, 65535)),
    "16 bits, white is zero": (
        tiff(row(SIXTEEN, "u2"), white=0),
        shares(SIXTEEN, 65535, white_is_zero=True),
    ),
    "16 bits, white is zero, packed": (
        tiff(row(SIXTEEN, "u2"), white=0, packed=True),
        shares(SIXTEEN, 65535, white_is_zero=True),
    ),
    "8 bits, white is zero": (tiff(row([0, 9, 255], "u1"), white=0), [255, 246, 0]),
    "4 bits, white is zero": (
        tiff(row([0, 3, 9, 15], "u1"), bits=4, data=b"\x03\x9f", white=0),
        [255, 204, 102, 0],
    ),
    "4 bits": (tiff(row([0, 3, 9, 15], "u1"), bits=4, data=b"\x03\x9f"), [0, 51, 153, 255]),
    "2 bits": (tiff(row([0, 1, 2, 3], "u1"), bits=2, data=b"\x1b"), [0, 85, 170, 255]),
    "1 bit, white is zero": (tiff(row([0, 1], "u1"), bits=1, data=b"\x40", white=0), [255, 0]),
    "32 bits": (tiff(row(UINT32, "u4")), shares(UINT32, 2**32 - 1)),
    "32 bits, packed": (tiff(row(UINT32, "u4"), packed=True), shares(UINT32, 2**32 - 1)),
    "floats": (tiff(row(FLOATS, "f4")), [0, 64, 178, 255]),
    "floats, packed": (tiff(row(FLOATS, "f4"), packed=True), [0, 64, 178, 255]),
    "floats, big-endian": (tiff(row(FLOATS, "f4"), order=">"), [0, 64, 178, 255]),
    "floats, big-endian, packed": (tiff(row(FLOATS, "f4"), order=">", packed=True), [0, 64, 178, 255]),
    "floats, white is zero": (tiff(row(FLOATS, "f4"), white=0), [255, 191, 77, 0]),
    "PNG, 4 bits": (png(row([0, 3, 9, 15], "u1"), 4), [0, 51, 153, 255]),
    "PNG, 4 bits, one transparent": (png(row([0, 3, 9, 15], "u1"), 4, clear=(9,)), [0, 51, 255, 255]),
    "PNG, 2 bits, one transparent": (png(row([0, 1, 2, 3], "u1"), 2, clear=(1,)), [0, 255, 170, 255]),
    "PNG, 1 bit, one transparent": (png(row([0, 1], "u1"), 1, clear=(0,)), [255, 255]),
    "PNG, 8 bits, one transparent": (png(row([0, 7, 9], "u1"), 8, clear=(7,)), [0, 255, 9]),
    "PNG, 16 bits": (png(row(SIXTEEN, "u2"), 16), shares(SIXTEEN, 65535)),
    "PNG, 16 bits, one transparent": (png(row(SIXTEEN, "u2"), 16, clear=(20000,)), [0, 255, 156, 255]),
    "PNG, 16 bits and alpha": (
        png(np.asarray([[[0x1234, 65535], [0, 0], [0x8000, 0x8000], [255, 65535]]]), 16),
        [round(255 * 0x1234 / 65535), 255, round(255 * (0.5 * 0.5 + 0.5)), 1],
    ),
    "PGM of 4095": (b"P5 4 1 4095\n" + row(TWELVE, ">u2").tobytes(), shares(TWELVE, 4095)),
    "PGM of 65535": (b"P5 4 1 65535\n" + row(SIXTEEN, ">u2").tobytes(), shares(SIXTEEN, 65535)),
    "PGM of 100": (b"P5 3 1 100\n" + bytes([0, 50, 100]), shares([0, 50, 100], 100)),
    "PGM of 255": (b"P5 3 1 255\n" + bytes([0, 50, 100]), [0, 50, 100]),
    "PGM of 4095, as text": (b"P2 4 1 4095 0 1000 2000 4095\n", shares(TWELVE, 4095)),
    "PGM of 100, as text": (b"P2 3 1 100 0 50 100\n", shares([0, 50, 100], 100)),
    "PPM of 4095": (
        b"P6 4 1 4095\n" + np.repeat(row(TWELVE, ">u2"), 3).tobytes(),
        shares(TWELVE, 4095),
    ),
    "PPM of 100": (b"P6 3 1 100\n" + bytes([0] * 3 + [50] * 3 + [100] * 3), shares([0, 50, 100], 100)),
    "PPM of 4095, as text": (b"P3 2 1 4095 1000 1000 1000 4095 4095 4095\n", shares([1000, 4095], 4095)),
    "PBM, where black is one": (b"P4 4 1\n\x50", [255, 0, 255, 0]),
}


@pytest.mark.parametrize(("content", "expected"), GREYS.values(), ids=GREYS)
def test_a_grey_is_its_share_of_what_the_file_can_hold(write, content, expected):
    assert greys(write("a.jpg", content)) == expected


COLOURS = np.asarray([[[0, 255, 65535], [0xFF00, 0x1234, 128], [256, 257, 258]]], np.uint16)
WITH_ALPHA = np.concatenate([COLOURS, np.asarray([[[65535], [0x8000], [0]]], np.uint16)], axis=-1)
MULTIPLIED = np.minimum(WITH_ALPHA, WITH_ALPHA[..., 3:])


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
def test_colours_of_16_bits_are_rounded_and_not_cut(write, order, packed):
    """Of 16 bits Pillow keeps the upper eight: 255 of 65535 as 0, and 0xff00 as 255."""
    share = COLOURS / 65535
    found = np.asarray(decode(write("a.tif", tiff(COLOURS, order=order, white=2, packed=packed))))
    np.testing.assert_array_equal(found, np.round(share * 255))
    alpha = WITH_ALPHA[..., 3:] / 65535
    content = tiff(WITH_ALPHA, order=order, white=2, packed=packed, t338=2)
    found = np.asarray(decode(write("b.tif", content)))
    np.testing.assert_array_equal(found, np.round((share * alpha + 1 - alpha) * 255))
    content = tiff(MULTIPLIED, order=order, white=2, packed=packed, t338=1)
    found = np.asarray(decode(write("c.tif", content)))
    np.testing.assert_array_equal(found, np.round((MULTIPLIED[..., :3] / 65535 + 1 - alpha) * 255))


def test_colours_of_16_bits_in_a_png(write):
    share, alpha = COLOURS / 65535, WITH_ALPHA[..., 3:] / 65535
    np.testing.assert_array_equal(np.asarray(decode(write("a.png", png(COLOURS, 16)))), np.round(share * 255))
    found = np.asarray(decode(write("b.png", png(WITH_ALPHA, 16))))
    np.testing.assert_array_equal(found, np.round((share * alpha + 1 - alpha) * 255))
    close = np.asarray([[[40000, 50000, 60000], [40000, 50000, 60001]]], np.uint16)
    found = np.asarray(decode(write("d.png", png(close, 16, clear=(40000, 50000, 60001)))))
    assert found.tolist() == [[[156, 195, 233], [255, 255, 255]]]


@pytest.mark.parametrize(("L", "a", "b"), [(0, 0, 0), (50, 0, 0), (100, 0, 0), (60, 40, -30), (70, -20, 50)])
def test_lab_becomes_rgb(write, L, a, b):
    """CIE 1976, with the white of D50 adapted to that of D65 by Bradford's matrix, as ICC says."""
    fy = (L + 16) / 116
    f = np.asarray([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    to_rgb = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = np.clip(np.asarray(to_rgb) @ xyz, 0, 1)
    expected = 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    content = tiff(np.asarray([[[round(L * 2.55), a % 256, b % 256]]], np.uint8), white=8)
    np.testing.assert_allclose(np.asarray(decode(write("a.tif", content)))[0, 0], expected, atol=2)


def test_grey_that_is_multiplied_by_its_alpha_is_laid_on_white():
    image = PIL.Image.fromarray(np.asarray([[[100, 255], [0, 0], [127, 102]]], np.uint8)).convert("La")
    np.testing.assert_allclose(greys(image), [100, 255, 204], atol=1)


UNSAID = {
    "signed, 8 bits": (row([-1, 0, 99, 127], "i1"), "signed integers (int8)"),
    "signed, 16 bits": (row([-1, 0, 999, 4095], "i2"), "signed integers (int16)"),
    "signed, 32 bits": (row([0, 3, 999, 4095], "i4"), "signed integers (int32)"),
    "floats below zero": (row([-0.5, 0, 0.5, 1], "f4"), "floats (float32)"),
    "floats above one": (row([0, 1, 1000, 4095], "f4"), "floats (float32)"),
}


@pytest.mark.parametrize(("values", "what"), UNSAID.values(), ids=UNSAID)
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_what_no_file_says_is_refused_alike_in_tiff_and_npy(tmp_path, write, values, what, order, packed):
    np.save(tmp_path / "a.npy", values.astype(values.dtype.newbyteorder(order)))
    write("a.tif", tiff(values, order=order, packed=packed))
    said = set()
    for name in ("a.npy", "a.tif"):
        with pytest.raises(InputError) as refusal:
            decode(tmp_path / name)
        said.add(str(refusal.value).removeprefix(str(tmp_path / name)))
    (message,) = said
    span = f"values span {values.min():.6g} to {values.max():.6g}"
    assert message.startswith(f" holds {what}, whose {span}, and nothing says")
    assert "scale them to floats in [0, 1]" in message
    assert ("depth=12 or --depth 12" in message) == (values.min() >= 0)


CONTAINERS = {
    "tif": tiff,
    "big-endian.tif": lambda values: tiff(values, order=">"),
    "signed.tif": lambda values: tiff(values.astype("i2")),
    "packed, signed.tif": lambda values: tiff(values.astype("i2"), order=">", packed=True),
    "long.tif": lambda values: tiff(values.astype("u4")),
    "float.tif": lambda values: tiff(values.astype("f4")),
    "png": lambda values: png(values, 16),
    "rgb.png": lambda values: png(np.repeat(values[..., None], 3, -1), 16),
    "rgb.tif": lambda values: tiff(np.repeat(values[..., None], 3, -1), white=2),
    "pgm": lambda values: b"P5 4 1 65535\n" + values.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_depth_reads_twelve_bits_in_a_larger_container(write, name):
    path = write(name, CONTAINERS[name](row(TWELVE, "u2")))
    assert greys(path, depth=12) == shares(TWELVE, 4095)
    with pytest.raises(
        InputError, match=r"span 0 to 4095, and depth 10 is 0 to 1023: give the depth"
    ) as refusal:
        decode(path, depth=10)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("dtype", ["u2", "u4", "i2", "i4", "i8", "u8", "f4", "f8", ">u2"])
def test_depth_reads_arrays(dtype):
    assert greys(row(TWELVE, dtype), depth=12) == shares(TWELVE, 4095)


def test_depth_turns_round_where_white_is_zero(write):
    path = write("a.tif", tiff(row(TWELVE, "u2"), white=0))
    assert greys(path, depth=12) == shares(TWELVE, 4095, white_is_zero=True)


@pytest.mark.parametrize(
    ("values", "depth", "said"),
    [
        (row([0, 9], "u1"), 12, "reach 255 at most, and depth 12 is up to 4095: leave the depth out"),
        (row([0, 0.5], "f4"), 12, "floats in [0, 1], which need no depth"),
        (row([-1, 9], "i2"), 12, "span -1 to 9, and depth 12 is 0 to 4095"),
        (row([0, 9], "u2"), 7, "depth must be from 8 to 32 bits, got 7"),
        (row([0, 9], "u2"), 33, "depth must be from 8 to 32 bits, got 33"),
        (row([0, 9], "u2"), True, "depth must be a whole number, got True"),
    ],
)
def test_a_depth_that_cannot_be_is_refused(values, depth, said):
    with pytest.raises(InputError, match=re.escape(said)):
        decode(values, depth=depth)


def test_depth_of_a_file_of_8_bits_is_refused(write, tmp_path):
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(
        InputError, match=r"a\.jpg is read as 8 bits for each value, not 12: leave the depth out"
    ):
        decode(tmp_path / "a.jpg", depth=12)
    path = write("a.tif", tiff(row(TWELVE, "u2"), bits=12, data=BITS_12))
    with pytest.raises(InputError, match=r"reach 4095 at most, and depth 16 is up to 65535"):
        decode(path, depth=16)


@pytest.mark.parametrize(
    ("most", "bits"), [(4095, 12), (2500, 12), (1023, 10), (16383, 14), (255, 8), (9, 8)]
)
def test_a_container_that_is_filled_in_part_is_said_once(write, unsaid, most, bits):
    path = write("a.png", png(row([0, 1, 2, most], "u2"), 16))
    with pytest.warns(InputWarning) as said:
        dark = greys(path)
    assert dark == shares([0, 1, 2, most], 65535)
    (message,) = (str(one.message) for one in said)
    assert message.startswith(f"{path}: the brightest value is {most} of 65535")
    assert f"if these are {bits} bits, give --depth {bits} (depth={bits})" in message
    # The warning would be an error.
    assert greys(path) == dark
    greys(write("b.tif", tiff(row([0, 1, 2, most], "u2"))))


@pytest.mark.parametrize("name", ["rgb.png", "rgb.tif", "long.tif", "pgm"])
def test_it_is_said_of_every_container(write, unsaid, name):
    with pytest.warns(InputWarning, match="the brightest value is 4095 of"):
        decode(write(name, CONTAINERS[name](row(TWELVE, "u2"))))


@pytest.mark.usefixtures("unsaid")
def test_it_is_not_said_of_what_fills_its_container_of_nothing_and_of_a_depth_that_is_told(write):
    decode(write("a.png", png(row([0, 1, 2, 16384], "u2"), 16)))
    decode(write("b.png", png(row([0, 0, 0, 0], "u2"), 16)))
    decode(write("c.png", png(row(TWELVE, "u2"), 16)), depth=12)
    decode(write("d.tif", tiff(row([0, 1, 2, 3], "u2"), bits=12, data=bytes.fromhex("000001002003"))))
    decode(write("e.pgm", b"P5 4 1 4095\n" + row([0, 1, 2, 3], ">u2").tobytes()))
    decode(row([0, 1, 2, 3], "u1"))


def test_a_warning_that_is_made_an_error_is_not_taken_for_damage(write, unsaid):
    path = write("a.png", png(row(TWELVE, "u2"), 16))
    for _ in range(2):
        with pytest.raises(InputWarning):
            decode(path)


def test_a_pillow_image_is_read_as_its_file(write):
    for name, content, expected in (
        ("a.tif", tiff(row(SIXTEEN, "u2"), white=0), shares(SIXTEEN, 65535, white_is_zero=True)),
        ("b.tif", tiff(row(FLOATS, "f4"), order=">", packed=True), [0, 64, 178, 255]),
        ("c.tif", tiff(row(UINT32, "u4")), shares(UINT32, 2**32 - 1)),
        ("d.pgm", b"P5 4 1 4095\n" + row(TWELVE, ">u2").tobytes(), shares(TWELVE, 4095)),
    ):
        with PIL.Image.open(write(name, content)) as image:
            assert greys(image) == expected
    with pytest.raises(InputError, match=r"^the image holds signed integers \(int32\)"):
        decode(PIL.Image.fromarray(row(TWELVE, "i4")))


@pytest.mark.parametrize(
    ("values", "tags", "said"),
    [
        (np.zeros((3, 2, 2), "u2"), {"white": 2, "t284": 2}, "keeps its channels apart"),
        (np.zeros((2, 2), "f2"), {}, "floats of 16 or 64"),
        (np.zeros((2, 2, 3), "f4"), {"white": 2}, "several channels of floats"),
        (np.zeros((2, 2), "u2"), {"bits": 14}, "10 or 14 bits"),
        (np.zeros((2, 2), "u1"), {"t254": 1, "t330": 0}, "begins with a preview of 2 x 2 pixels"),
    ],
)
def test_a_tiff_that_would_be_misread_is_refused(write, values, tags, said):
    path = write("a.tif", tiff(values, **tags) if "t284" not in tags else apart(values))
    with pytest.raises(InputError, match=re.escape(said)) as refusal:
        decode(path)
    assert str(path) in str(refusal.value)


def apart(planes: np.ndarray) -> bytes:
    return tiff(planes.transpose(1, 2, 0), white=2, data=planes.tobytes(), t284=2)


def test_preprocessing_and_samples_take_the_depth(write):
    path = write("a.png", png(np.full((8, 8), 2048, "u2"), 16))
    plain = Preprocess(resize=None, crop=4)
    assert plain.crop_photo(path, depth=12).max() == plain.cut(path, depth=12).rgb.min() == 128
    assert plain(path, depth=12).max() == np.float32(128) * np.float32(1 / 255)
    assert read_sample(Sample("a", (path,), ("1",)), plain, depth=12).rgb.max() == 128
    assert read_sample(Sample("a", (path,) * 4, ("1",), grid=2), plain, depth=12).rgb.max() == 128


def test_the_command_says_it_in_a_line_and_takes_the_depth(write, tmp_path, unsaid, monkeypatch):
    write("dark.png", png(np.full((8, 8), 2048, "u2"), 16))
    write("cat.heic", b"what no Pillow reads")
    brightest = []

    def stop(model, photographs, **_):
        brightest.extend(one.rgb.max() for one in photographs)
        raise InputError("that was all")

    def show(message, category, filename, lineno, file=None, line=None):
        print(warnings.formatwarning(message, category, filename, lineno), end="", file=file or sys.stderr)

    monkeypatch.setattr(explain_command, "explain_photographs", stop)
    # Not noted by pytest, but shown.
    monkeypatch.setattr(warnings, "showwarning", show)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        dark = run_here(tmp_path, "explain", ".")
        right = run_here(tmp_path, "explain", ".", "--depth", "12")
    others = "warning: not taken for photographs, by their names: 1 file (cat.heic) of ."
    assert dark.err.splitlines()[:2] == [
        others,
        "warning: dark.png: the brightest value is 2048 of 65535, which is nearly black: if these are 12 "
        "bits, give --depth 12 (depth=12); said once for all files like this one",
    ]
    assert right.err.splitlines() == [others, "error: that was all"]
    assert brightest == [8, 128]
