"""Reading samples: what lies where in the photograph, and composites."""

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from datasets import save_photo

from dmbp_jax._checks import InputError
from dmbp_jax.images import LoadedSample, Preprocess, Sample, read_sample
from dmbp_jax.images._samples import input_shape

SIZES = [(500, 375), (333, 500), (1000, 300), (97, 401), (256, 256), (60, 50), (224, 301)]
PREPROCESSES = {
    "usual": Preprocess(),
    "square": Preprocess(resize=224),
    "odd": Preprocess(resize=131, crop=100),
    "without crop": Preprocess(crop=None),
    "without resize": Preprocess(resize=None, crop=200),
    "neither": Preprocess(resize=None, crop=None),
}


def read_photo(path: Path, preprocess: Preprocess) -> LoadedSample:
    return read_sample(Sample("x", (path,), ("1",)), preprocess)


def save_with_square(path: Path, size: tuple[int, int], square: tuple[int, int, int, int], turn: int) -> None:
    """A black photograph with a white square (left, top, right, bottom), stored turned as cameras do."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = square
    pixels[top:bottom, left:right] = 255
    # EXIF's orientation 6 asks for a quarter turn to the right, 8 for one to the left, 3 for half a turn.
    quarters = {1: 0, 6: 1, 3: 2, 8: 3}[turn]
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    PIL.Image.fromarray(np.rot90(pixels, quarters).copy()).save(path, exif=exif)


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_region_tells_where_the_network_sees_what_the_photograph_shows(tmp_path, preprocess, size, turn):
    width, height = size
    square = (width // 2 - 11, height // 2 + 3, width // 2 + 2, height // 2 + 12)
    save_with_square(tmp_path / "a.png", size, square, turn)
    loaded = read_photo(tmp_path / "a.png", preprocess)
    assert loaded.size == (height, width)
    left, top, right, bottom = loaded.region
    rows, columns = loaded.rgb.shape[:2]
    light = loaded.rgb[..., 0].astype(float)
    seen = (
        (light.sum(0) * (np.arange(columns) + 0.5)).sum() / light.sum(),
        (light.sum(1) * (np.arange(rows) + 0.5)).sum() / light.sum(),
    )
    expected = (
        ((square[0] + square[2]) / 2 - left) / (right - left) * columns,
        ((square[1] + square[3]) / 2 - top) / (bottom - top) * rows,
    )
    np.testing.assert_allclose(seen, expected, atol=0.05)


@pytest.mark.parametrize(
    ("preprocess", "size", "region"),
    [
        (Preprocess(), (512, 256), (144, 16, 368, 240)),
        (Preprocess(), (256, 1024), (16, 400, 240, 624)),
        (Preprocess(resize=None), (300, 225), (38, 0, 262, 224)),
        (Preprocess(resize=None), (100, 300), (-62, 38, 162, 262)),
        (Preprocess(crop=None), (123, 77), (0, 0, 123, 77)),
        (Preprocess(resize=None, crop=None), (123, 77), (0, 0, 123, 77)),
    ],
)
def test_region_in_plain_cases(tmp_path, preprocess, size, region):
    loaded = read_photo(save_photo(tmp_path / "a.png", size=size), preprocess)
    assert loaded.region == region == preprocess.region(size[1], size[0])


@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_sample_is_what_preprocessing_makes_of_its_file(tmp_path, preprocess):
    path = save_photo(tmp_path / "a.png", size=(321, 234))
    loaded = read_photo(path, preprocess)
    np.testing.assert_array_equal(loaded.rgb, preprocess.crop_photo(path))
    np.testing.assert_array_equal(loaded.image, preprocess(path))
    assert (loaded.rgb.dtype, loaded.image.dtype) == (np.uint8, np.float32)
    assert loaded.size == (234, 321)


@pytest.mark.parametrize(
    ("preprocess", "grid", "side"),
    [
        (Preprocess(), 2, 112),
        (Preprocess(), 3, 74),
        (Preprocess(resize=None), 2, 112),
        (Preprocess(crop=None), 2, 128),
        (Preprocess(resize=224, crop=224), 3, 74),
    ],
)
def test_composite_shows_its_cells_row_by_row(tmp_path, preprocess, grid, side):
    sizes = [(400 + 10 * i, 300 + 25 * i) for i in range(grid * grid)]
    paths = [save_photo(tmp_path / f"{i}.png", size=size) for i, size in enumerate(sizes)]
    sample = Sample("x", tuple(paths), tuple(map(str, range(grid * grid))), grid=grid)
    loaded = read_sample(sample, preprocess)
    assert loaded.rgb.shape == loaded.image.shape == (side * grid, side * grid, 3)
    assert loaded.size == input_shape(sample, preprocess) == (side * grid, side * grid)
    assert loaded.region == (0, 0, side * grid, side * grid)
    np.testing.assert_array_equal(loaded.image, preprocess.normalize(loaded.rgb))
    for i, path in enumerate(paths):
        row, column = divmod(i, grid)
        cell = loaded.rgb[row * side : (row + 1) * side, column * side : (column + 1) * side]
        resize = round((preprocess.resize or side * grid) / grid)
        np.testing.assert_array_equal(cell, Preprocess(resize=resize, crop=side).crop_photo(path))


def test_cell_shows_the_same_part_as_the_photograph_would(tmp_path):
    """Shrinking the whole input of a photograph gives about the cell."""
    path = save_photo(tmp_path / "a.png", size=(500, 375))
    cell = read_sample(Sample("x", (path,) * 4, tuple("abcd"), grid=2), Preprocess()).rgb[:112, :112]
    whole = PIL.Image.fromarray(Preprocess().crop_photo(path)).resize((112, 112), PIL.Image.Resampling.BOX)
    assert np.abs(cell.astype(float) - np.asarray(whole)).mean() < 2


@pytest.mark.parametrize("which", [0, 3])
def test_bad_cell_is_refused_by_the_name_of_its_file(tmp_path, which):
    paths = [save_photo(tmp_path / f"{i}.jpg") for i in range(4)]
    paths[which].write_bytes(paths[which].read_bytes()[:200])
    with pytest.raises(InputError, match=rf"{re.escape(str(paths[which]))} is "):
        read_sample(Sample("x", tuple(paths), tuple("abcd"), grid=2), Preprocess())


@pytest.mark.parametrize(
    ("preprocess", "grid", "reason"),
    [
        (Preprocess(resize=None, crop=None), 2, "needs a preprocess with a crop or a resize"),
        (Preprocess(resize=8, crop=8), 9, "9 x 9 does not fit into 8 pixels"),
    ],
)
def test_composite_of_no_known_size_is_refused(tmp_path, preprocess, grid, reason):
    path = save_photo(tmp_path / "a.png")
    with pytest.raises(InputError, match=reason):
        read_sample(Sample("x", (path,) * grid**2, ("a",) * grid**2, grid=grid), preprocess)


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_input_shape_is_known_without_reading_the_photograph(tmp_path, preprocess, turn):
    save_with_square(tmp_path / "a.png", (301, 200), (0, 0, 9, 9), turn)
    save_with_square(tmp_path / "a.tif", (301, 200), (0, 0, 9, 9), turn)
    for name in ("a.png", "a.tif"):
        sample = Sample("x", (tmp_path / name,), ("1",))
        assert input_shape(sample, preprocess) == read_sample(sample, preprocess).rgb.shape[:2]


def test_input_shape_of_what_is_no_photograph_is_not_known(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    for name in ("a.jpg", "absent.jpg"):
        sample = Sample("x", (tmp_path / name,), ("1",))
        assert input_shape(sample, Preprocess(crop=None)) is None
        assert input_shape(sample, Preprocess()) == (224, 224)
