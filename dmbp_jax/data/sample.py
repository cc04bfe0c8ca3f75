"""What every dataset is made of: samples with labels, not yet read, and what was wrong with the others."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from dmbp_jax.checks import InputError, shorten


class Box(NamedTuple):
    """An object's bounding box, in pixels of the sample: `left <= x < right`, `top <= y < bottom`."""

    label: str
    left: float
    top: float
    right: float
    bottom: float
    difficult: bool = False
    """VOC's flag: an object that is hard to recognise."""


class Sample(NamedTuple):
    """One image of a dataset, before it is read."""

    name: str
    """Unique in its dataset and the same on every machine: a relative path with slashes, or an id."""
    paths: tuple[Path, ...]
    """The photograph; of a composite its cells, row by row; of a pair the left and the right one."""
    labels: tuple[str, ...]
    """The true classes as the dataset writes them: an index, a WordNet id such as `n01440764`, or a name."""
    boxes: tuple[Box, ...] = ()
    """Objects, in pixels of the original (upright) photograph; empty where the dataset has none."""
    grid: int = 1
    """A composite has `grid * grid` cells, each with its own label in `labels`."""
    pair: bool = False
    """Two photographs side by side, each at full size, of the two classes in `labels`."""
    segmentation: Path | None = None
    """An image of the photograph's size that tells each pixel's class; None where the dataset has none."""


class Problem(NamedTuple):
    """A sample that cannot be used, and why; reported and counted, never dropped in silence.

    Some speak of several at once, such as the photographs that a CSV file does not name.
    """

    name: str
    message: str


class LoadedSample(NamedTuple):
    """A sample that has been read."""

    rgb: UInt8[np.ndarray, "h w 3"]
    """What the network sees, for people to look at."""
    image: Float[np.ndarray, "h w c"]
    """The network's input, float32, normalised."""
    size: tuple[int, int]
    """`(height, width)` of the upright photograph, or of the composite."""
    region: tuple[float, float, float, float]
    """`(left, top, right, bottom)`, in pixels of that size: the part of it that `rgb` shows."""
    masks: Bool[np.ndarray, "labels h w"] | None = None
    """Where the object of each label of the sample is in `rgb`; None where nobody has drawn it."""
    void: Bool[np.ndarray, "h w"] | None = None
    """Where nobody can tell; None where everybody can."""


class Dataset(NamedTuple):
    """The samples of a dataset in its own order."""

    kind: str
    """`imagenet`, `voc2007`, `voc2012`, `folder`, `grid`, `pairs` or `arrays`, or as its reader calls it."""
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    """Found without reading any photograph, such as a missing annotation."""
    arrays: Mapping[str, LoadedSample] | None = None
    """Samples that are arrays in memory, by name: they have no paths, and nothing is left to read."""


def check_usable(dataset: Dataset, path: Path) -> Dataset:
    """The dataset as it is; raises `InputError` if it has no sample, with the first problem found."""
    if dataset.samples:
        return dataset
    first = "; ".join(f"{shorten(problem.name)}: {problem.message}" for problem in dataset.problems[:1])
    raise InputError(
        f"no photograph in {path} can be used"
        + (f" ({len(dataset.problems)} problems, the first is {first})" if first else "")
    )
