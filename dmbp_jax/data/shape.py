"""How large a network's input will be, from a photograph's header alone."""

import PIL.ExifTags
import PIL.Image

from dmbp_jax.data.decode import silence_readers
from dmbp_jax.data.preprocess import Preprocess
from dmbp_jax.data.sample import Sample

# EXIF orientations that swap height and width.
_ON_ITS_SIDE = (5, 6, 7, 8)


def input_shape(sample: Sample, preprocess: Preprocess) -> tuple[int, int] | None:
    """Height and width of what `read_sample` will give; None where that cannot be told without reading it.

    >>> from dmbp_jax.data import example_photo
    >>> sample = Sample("cat", (example_photo(),), ("281",))
    >>> input_shape(sample, Preprocess()), input_shape(sample, Preprocess(crop=None))
    ((224, 224), (256, 385))
    """
    if len(sample.paths) > 1:
        side = (preprocess.crop or preprocess.resize or 0) // sample.grid * sample.grid
        return side, 2 * side if sample.pair else side
    if preprocess.crop is not None:
        return preprocess.input_size(1, 1)
    silence_readers()
    try:
        with PIL.Image.open(sample.paths[0]) as image:
            width, height = image.size
            if image.getexif().get(PIL.ExifTags.Base.Orientation) in _ON_ITS_SIDE:
                width, height = height, width
    except Exception:
        # Whatever is wrong with the file is reported when it is read.
        return None
    return preprocess.input_size(height, width)
