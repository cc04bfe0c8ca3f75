"""VOC's segmentations: which photographs have one, and that it lies on what the network sees."""

import numpy as np
import PIL.Image
import pytest
from datasets import VOC_IMAGES, make_voc, save_segmentation
from small_images import png
from test_data_read import PREPROCESSES, SIZES

from dmbp_jax import InputError, models
from dmbp_jax.images import (
    VOC_CLASSES,
    Preprocess,
    Sample,
    Segmentation,
    read_sample,
    read_segmentation,
    read_voc,
)

DOG = VOC_CLASSES.index("dog") + 1
NEITHER = Preprocess(resize=None, crop=None)


def segmented(folder, numbers, **options):
    """A photograph that is white on the pixels of class 12, and black elsewhere, with its segmentation."""
    light = np.where(numbers == DOG, 255, 0).astype(np.uint8)
    PIL.Image.fromarray(np.stack([light] * 3, axis=-1)).save(folder / "a.png")
    path = save_segmentation(folder / "b.png", numbers, **options)
    return Sample("a", (folder / "a.png",), ("dog",), segmentation=path)


def read_both(sample, preprocess):
    loaded = read_sample(sample, preprocess)
    return loaded, read_segmentation(sample, preprocess, loaded.size)


def test_some_photographs_of_a_devkit_have_a_segmentation(tmp_path):
    devkit = make_voc(tmp_path)
    assert [sample.segmentation for sample in read_voc(devkit, year="2012").samples] == [None] * 3
    numbers = np.zeros((30, 40), np.uint8)
    path = save_segmentation(devkit / "VOC2012" / "SegmentationClass" / f"{VOC_IMAGES[1].name}.png", numbers)
    samples = read_voc(devkit, year="2012").samples
    assert [sample.segmentation for sample in samples] == [None, path, None]
    assert [read_both(sample, Preprocess())[1] is None for sample in samples] == [True, False, True]


def test_the_classes_are_those_of_the_weights_for_voc():
    assert models.read_manifest().classes["voc"] == VOC_CLASSES


@pytest.mark.parametrize("mode", ["P", "L"])
def test_numbers_are_read_as_they_are_and_not_as_the_palettes_colours(tmp_path, mode):
    numbers = np.asarray([[0, DOG, 255], [1, 20, 0]], np.uint8)
    _, found = read_both(segmented(tmp_path, numbers, mode=mode), NEITHER)
    np.testing.assert_array_equal(found.classes, numbers)
    np.testing.assert_array_equal(found.region("dog"), numbers == DOG)
    np.testing.assert_array_equal(found.region("aeroplane"), numbers == 1)
    np.testing.assert_array_equal(found.void, numbers == 255)
    assert not found.region("cat").any()


def test_numbers_of_few_bits_are_read_as_they_are(tmp_path):
    """Programs that make files small write greys of 2 or 4 bits, which Pillow stretches to 8."""
    PIL.Image.new("RGB", (4, 1)).save(tmp_path / "a.png")
    for bits, numbers in ((4, [0, DOG, 1, 15]), (2, [0, 1, 2, 3])):
        (tmp_path / "b.png").write_bytes(png(np.asarray([numbers]), bits))
        sample = Sample("a", (tmp_path / "a.png",), ("dog",), segmentation=tmp_path / "b.png")
        assert read_both(sample, NEITHER)[1].classes.tolist() == [numbers]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_it_lies_on_what_the_network_sees(tmp_path, preprocess, size):
    """Where the photograph, resized smoothly, is lighter than grey, the object is: up to its outline."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    object_ = (np.abs(rows - 0.45 * height) < 0.2 * height) & (np.abs(columns - 0.55 * width) < 0.17 * width)
    loaded, found = read_both(segmented(tmp_path, np.where(object_, DOG, 0).astype(np.uint8)), preprocess)
    assert found.classes.shape == loaded.rgb.shape[:2]
    light, region = loaded.rgb[..., 0], found.region("dog")
    assert region.any()
    assert region[light > 250].all()
    assert not region[light < 5].any()
    # On the outline, too, it is neither wider nor narrower.
    assert region.sum() == pytest.approx((light / 255).sum(), rel=0.06)


def test_a_class_is_never_made_up_between_two_others(tmp_path):
    numbers = np.where(np.indices((50, 70)).sum(axis=0) % 7 < 3, 20, 0).astype(np.uint8)
    numbers[::5] = 255
    for preprocess in (Preprocess(resize=131, crop=100), Preprocess(resize=30, crop=24)):
        _, found = read_both(segmented(tmp_path, numbers), preprocess)
        assert set(np.unique(found.classes)) == {0, 20, 255}


def test_beyond_the_photograph_is_no_object(tmp_path):
    numbers = np.full((10, 12), DOG, np.uint8)
    loaded, found = read_both(segmented(tmp_path, numbers), Preprocess(resize=None, crop=20))
    np.testing.assert_array_equal(found.region("dog"), loaded.rgb[..., 0] == 255)
    assert found.region("dog").sum() == 120


def test_bad_segmentations_are_one_clear_error(tmp_path):
    numbers = np.zeros((10, 12), np.uint8)
    sample = segmented(tmp_path, numbers)
    size = (10, 12)
    assert read_segmentation(sample, NEITHER, size) is not None
    with pytest.raises(InputError, match=r"b\.png has 12 x 10 pixels, its photograph 14 x 10"):
        read_segmentation(sample, NEITHER, (10, 14))
    save_segmentation(sample.segmentation, numbers + 21)
    with pytest.raises(InputError, match=r"b\.png holds the number 21, which is no class of VOC: 0 to 20"):
        read_segmentation(sample, NEITHER, size)
    PIL.Image.new("RGB", (12, 10)).save(sample.segmentation)
    with pytest.raises(InputError, match=r"b\.png is no segmentation: .*not RGB"):
        read_segmentation(sample, NEITHER, size)
    sample.segmentation.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b\.png is not an image"):
        read_segmentation(sample, NEITHER, size)
    sample.segmentation.unlink()
    with pytest.raises(InputError, match=r"no such file: .*b\.png"):
        read_segmentation(sample, NEITHER, size)
    with pytest.raises(InputError, match="unknown class 'dgo': did you mean 'dog'"):
        Segmentation(numbers).region("dgo")
