"""From a sample to what the network takes, and how large that will be."""

import dataclasses

import numpy as np

from dmbp_jax.checks import InputError
from dmbp_jax.data.image_file import open_image, upright_size
from dmbp_jax.data.preprocess import Preprocess
from dmbp_jax.data.sample import LoadedSample, Sample


def read_sample(sample: Sample, preprocess: Preprocess, *, depth: int | None = None) -> LoadedSample:
    """Read and preprocess a photograph, or the photographs of a composite or a pair.

    A composite has the network's usual input size, `crop // grid * grid`: each cell is preprocessed with
    lengths divided by `grid`. Boehle et al. (CVPR 2021) tile whole inputs instead; our composites cost no
    more than a photograph, and networks of a fixed input size take them too. A pair is twice as wide as a
    photograph, and both halves are what the network sees of their photographs. `depth` is as in `decode`.

    Raises `InputError` that names the file if a photograph cannot be read.
    """
    if len(sample.paths) == 1:
        crop = preprocess.cut(sample.paths[0], depth=depth)
        return LoadedSample(crop.rgb, preprocess.normalize(crop.rgb), crop.size, crop.region)
    cell = shrink(preprocess, sample.grid)
    cells = [cell.crop_photo(path, depth=depth) for path in sample.paths]
    columns = 2 if sample.pair else sample.grid
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    rgb = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
    height, width = rgb.shape[:2]
    region = (0.0, 0.0, float(width), float(height))
    return LoadedSample(rgb, preprocess.normalize(rgb), (height, width), region)


def input_shape(sample: Sample, preprocess: Preprocess) -> tuple[int, int] | None:
    """Height and width of what `read_sample` will give, from a header alone; None where only reading tells.

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
    try:
        with open_image(sample.paths[0]) as image:
            height, width = upright_size(image)
    except InputError:
        # Whatever is wrong with the file is reported when it is read.
        return None
    return preprocess.input_size(height, width)


def shrink(preprocess: Preprocess, grid: int) -> Preprocess:
    """The preprocessing of a composite's cells: lengths divided by `grid`; always cuts a square.

    Raises `InputError` if no length is given, or nothing is left of it.

    >>> cell = shrink(Preprocess(), 2)
    >>> cell.resize, cell.crop
    (128, 112)
    """
    side = preprocess.crop or preprocess.resize
    if side is None:
        raise InputError(
            "a composite needs a preprocess with a crop or a resize, to know how large it is to be"
        )
    if side < grid:
        raise InputError(f"a grid of {grid} x {grid} does not fit into {side} pixels")
    # Where photographs are not resized, cells are nevertheless, else each would show only its middle.
    resize = round((preprocess.resize or side) / grid)
    return dataclasses.replace(preprocess, resize=resize, crop=side // grid)
