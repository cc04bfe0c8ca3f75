"""From files to images that a network takes, with NumPy and Pillow."""

from dmbp_jax.images._composites import make_grids as make_grids
from dmbp_jax.images._composites import make_pairs as make_pairs
from dmbp_jax.images._datasets import VOC_CLASSES as VOC_CLASSES
from dmbp_jax.images._datasets import Segmentation as Segmentation
from dmbp_jax.images._datasets import open_dataset as open_dataset
from dmbp_jax.images._datasets import read_imagenet as read_imagenet
from dmbp_jax.images._datasets import read_segmentation as read_segmentation
from dmbp_jax.images._datasets import read_voc as read_voc
from dmbp_jax.images._datasets import register_dataset as register_dataset
from dmbp_jax.images._decode import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from dmbp_jax.images._decode import decode as decode
from dmbp_jax.images._folder import example_photo as example_photo
from dmbp_jax.images._folder import find_photos as find_photos
from dmbp_jax.images._folder import read_folder as read_folder
from dmbp_jax.images._preprocess import Preprocess as Preprocess
from dmbp_jax.images._samples import ArraySample as ArraySample
from dmbp_jax.images._samples import Box as Box
from dmbp_jax.images._samples import Dataset as Dataset
from dmbp_jax.images._samples import LoadedSample as LoadedSample
from dmbp_jax.images._samples import Problem as Problem
from dmbp_jax.images._samples import Sample as Sample
from dmbp_jax.images._samples import from_arrays as from_arrays
from dmbp_jax.images._samples import input_shape as input_shape
from dmbp_jax.images._samples import read_ahead as read_ahead
from dmbp_jax.images._samples import read_sample as read_sample
from dmbp_jax.images._samples import take as take
