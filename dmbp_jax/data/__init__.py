"""From files to images that a network takes, with NumPy and Pillow."""

from dmbp_jax.data.decode import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from dmbp_jax.data.decode import decode as decode
from dmbp_jax.data.example import example_photo as example_photo
from dmbp_jax.data.find import find_photos as find_photos
from dmbp_jax.data.preprocess import Preprocess as Preprocess
