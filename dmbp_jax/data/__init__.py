"""From files to images that a network takes, with NumPy and Pillow."""

from dmbp_jax.data.ahead import read_ahead as read_ahead
from dmbp_jax.data.arrays import ArraySample as ArraySample
from dmbp_jax.data.arrays import from_arrays as from_arrays
from dmbp_jax.data.decode import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from dmbp_jax.data.decode import decode as decode
from dmbp_jax.data.find import example_photo as example_photo
from dmbp_jax.data.find import find_photos as find_photos
from dmbp_jax.data.folder import read_folder as read_folder
from dmbp_jax.data.grid import make_grids as make_grids
from dmbp_jax.data.imagenet import read_imagenet as read_imagenet
from dmbp_jax.data.kinds import open_dataset as open_dataset
from dmbp_jax.data.kinds import register_dataset as register_dataset
from dmbp_jax.data.pairs import make_pairs as make_pairs
from dmbp_jax.data.preprocess import Preprocess as Preprocess
from dmbp_jax.data.read import input_shape as input_shape
from dmbp_jax.data.read import read_sample as read_sample
from dmbp_jax.data.sample import Box as Box
from dmbp_jax.data.sample import Dataset as Dataset
from dmbp_jax.data.sample import LoadedSample as LoadedSample
from dmbp_jax.data.sample import Problem as Problem
from dmbp_jax.data.sample import Sample as Sample
from dmbp_jax.data.segmentation import VOC_CLASSES as VOC_CLASSES
from dmbp_jax.data.segmentation import Segmentation as Segmentation
from dmbp_jax.data.segmentation import read_segmentation as read_segmentation
from dmbp_jax.data.subset import take as take
from dmbp_jax.data.voc import read_voc as read_voc
