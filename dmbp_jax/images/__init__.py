"""From image files to a network's inputs, and data sets; with NumPy and Pillow."""

from dmbp_jax.images._composites import make_grids, make_pairs
from dmbp_jax.images._datasets import (
    VOC_CLASSES,
    Segmentation,
    open_dataset,
    read_imagenet,
    read_segmentation,
    read_voc,
    register_dataset,
)
from dmbp_jax.images._decode import decode
from dmbp_jax.images._folder import example_photo, find_photos, read_folder
from dmbp_jax.images._preprocess import Preprocess
from dmbp_jax.images._samples import (
    ArraySample,
    Box,
    Dataset,
    LoadedSample,
    Problem,
    Sample,
    from_arrays,
    read_sample,
)

__all__ = [
    "VOC_CLASSES",
    "ArraySample",
    "Box",
    "Dataset",
    "LoadedSample",
    "Preprocess",
    "Problem",
    "Sample",
    "Segmentation",
    "decode",
    "example_photo",
    "find_photos",
    "from_arrays",
    "make_grids",
    "make_pairs",
    "open_dataset",
    "read_folder",
    "read_imagenet",
    "read_sample",
    "read_segmentation",
    "read_voc",
    "register_dataset",
]
