"""Preprocessing: what the network sees is what the reference program saw, to the bit."""

import numpy as np
import PIL.Image
import pytest

from dmbp_jax._checks import InputError
from dmbp_jax.images import Preprocess
from dmbp_jax.models import read_manifest

NOISE = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
WHOLE = Preprocess(resize=None, crop=None)


@pytest.fixture(scope="module")
def reference(shared) -> dict[str, np.ndarray]:
    with np.load(shared / "reference" / "squeezenet_dmbp.npz") as file:
        return {"names": file["names"], "rgb": file["rgb"]}


@pytest.mark.parametrize("index", range(8))
def test_crop_equals_the_reference_exactly(shared, reference, index):
    photo = shared / "images" / str(reference["names"][index])
    cropped = read_manifest().preprocess["caffe"].crop_photo(photo)
    np.testing.assert_array_equal(cropped, reference["rgb"][index])


def normalize_slowly(rgb: np.ndarray, how: Preprocess) -> list:
    order = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}[how.channels]
    return [
        [[(int(pixel[order[c]]) * how.scale - how.mean[c]) / how.std[c] for c in range(3)] for pixel in row]
        for row in rgb
    ]


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        {"scale": 1.0, "mean": (103.939, 116.779, 123.68)},
        {"scale": 2.0, "std": (1.0, 2.0, 4.0)},
    ],
    ids=["scale", "torchvision", "caffe", "std"],
)
def test_normalisation_follows_the_formula(channels, numbers):
    how = Preprocess(channels=channels, **numbers)
    image = how.normalize(NOISE)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, normalize_slowly(NOISE, how), rtol=1e-5, atol=1e-5)


def test_calling_it_crops_then_normalises():
    how = Preprocess(resize=6, crop=5, channels="BGR", mean=(0.1, 0.2, 0.3))
    np.testing.assert_array_equal(how(NOISE), how.normalize(how.crop_photo(NOISE)))
    assert how(NOISE).shape == (5, 5, 3)


def test_without_resize_and_crop_the_photograph_stays_as_it_is():
    np.testing.assert_array_equal(WHOLE.crop_photo(NOISE), NOISE)


@pytest.mark.parametrize(
    ("width", "height", "resized"),
    [(400, 300, (299, 224)), (300, 400, (224, 299)), (50, 50, (224, 224)), (301, 200, (337, 224))],
)
def test_without_crop_the_shorter_side_has_the_length_and_nothing_is_lost(width, height, resized):
    photo = PIL.Image.fromarray(NOISE).resize((width, height))
    whole = Preprocess(resize=224, crop=None).crop_photo(photo)
    np.testing.assert_array_equal(whole, photo.resize(resized, PIL.Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("crop", "rows", "columns"),
    [(4, slice(2, 6), slice(5, 9)), (5, slice(2, 7), slice(4, 9)), (9, slice(0, 9), slice(2, 11))],
)
def test_crop_is_central_with_its_corner_rounded_down(crop, rows, columns):
    cropped = Preprocess(resize=None, crop=crop).crop_photo(NOISE)
    np.testing.assert_array_equal(cropped, NOISE[rows, columns])


def test_photograph_smaller_than_the_crop_gets_a_black_frame():
    framed = Preprocess(resize=None, crop=16).crop_photo(NOISE)
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[4:13, 1:15] = NOISE
    np.testing.assert_array_equal(framed, expected)


def test_single_pixel_fills_the_crop():
    cropped = Preprocess().crop_photo(np.asarray([[[10, 20, 30]]], np.uint8))
    np.testing.assert_array_equal(cropped, np.broadcast_to((10, 20, 30), (224, 224, 3)))


@pytest.mark.parametrize("shape", [(2, 400), (400, 2)], ids=["wide", "tall"])
def test_elongated_photograph_shows_its_middle(shape):
    values = np.broadcast_to(np.asarray(100, np.uint8), shape)
    edges = values.copy()
    edges[:10, :10] = edges[-10:, -10:] = 200
    np.testing.assert_array_equal(Preprocess().crop_photo(values), np.full((224, 224, 3), 100))
    np.testing.assert_array_equal(Preprocess().crop_photo(edges), np.full((224, 224, 3), 100))


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)], ids=["tall", "wide"])
def test_photograph_too_elongated_to_resize_is_refused_by_name(tmp_path, size):
    PIL.Image.new("L", size).save(tmp_path / "strip.png")
    with pytest.raises(InputError, match=rf"strip\.png: .*{size[0]} x {size[1]}.*too elongated"):
        Preprocess().crop_photo(tmp_path / "strip.png")


def test_greyscale_photograph_has_three_equal_channels(tmp_path):
    PIL.Image.fromarray(NOISE).convert("L").save(tmp_path / "grey.png")
    cropped = Preprocess().crop_photo(tmp_path / "grey.png")
    assert cropped.shape == (224, 224, 3)
    np.testing.assert_array_equal(cropped, cropped[..., :1].repeat(3, axis=-1))
