"""Which pixels of what the network sees show an object of a class, and which nobody can tell."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.data.depth import read_numbers
from dmbp_jax.data.image_file import open_image
from dmbp_jax.data.preprocess import Preprocess
from dmbp_jax.data.sample import Sample

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""In the order of their numbers in a segmentation, from 1; 0 is the background."""
VOID = 255
"""The number of pixels that VOC leaves open: outlines, and objects that were too difficult."""


class Segmentation(NamedTuple):
    """The class of each pixel that the network sees."""

    classes: UInt8[np.ndarray, "h w"]
    """Numbers of `VOC_CLASSES`, 0 for the background and beyond the photograph, 255 for void."""

    def region(self, label: str) -> Bool[np.ndarray, "h w"]:
        """Where objects of the class are; False throughout if the part that the network sees has none.

        Raises `InputError` for a class that VOC does not have.

        >>> Segmentation(np.asarray([[0, 12, 255]], np.uint8)).region("dog").tolist()
        [[False, True, False]]
        """
        check_choice("class", label, VOC_CLASSES)
        return self.classes == VOC_CLASSES.index(label) + 1

    @property
    def void(self) -> Bool[np.ndarray, "h w"]:
        """Where nobody can tell: what a metric is to ignore.

        >>> Segmentation(np.asarray([[0, 12, 255]], np.uint8)).void.tolist()
        [[False, False, True]]
        """
        return self.classes == VOID


def read_segmentation(sample: Sample, preprocess: Preprocess, size: tuple[int, int]) -> Segmentation | None:
    """The segmentation of what `read_sample` gives of the sample; None where the dataset has none.

    It is resized and cropped as the photograph is, but each pixel keeps one class: that of the photograph's
    pixel which its centre lies in.

    Args:
        sample: a photograph of VOC. Composites and pairs have no segmentation.
        preprocess: as the photograph is read with.
        size: `(height, width)` of the photograph, `LoadedSample.size`.

    Raises `InputError` that names the file if it cannot be read, is not an image of class numbers (a palette,
    as VOC's are, or shades of grey), is not of the photograph's size, or holds a number that no class has.
    """
    path = sample.segmentation
    if path is None:
        return None
    with open_image(path) as image:
        numbers = read_numbers(image)
        if numbers is None:
            raise InputError(
                f"{path} is no segmentation: it needs a palette or one channel of 8 bits, not {image.mode}"
            )
    if numbers.shape != size:
        raise InputError(
            f"{path} has {numbers.shape[1]} x {numbers.shape[0]} pixels, its photograph {size[1]} x {size[0]}"
        )
    unknown = numbers[(numbers > len(VOC_CLASSES)) & (numbers != VOID)]
    if unknown.size:
        raise InputError(
            f"{path} holds the number {unknown[0]}, which is no class of VOC: 0 to {len(VOC_CLASSES)}, "
            f"and {VOID} for void"
        )
    return Segmentation(preprocess.cut_classes(numbers))
