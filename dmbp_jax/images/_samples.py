"""Samples: an image with its targets, boxes and masks; read ahead of their use."""

import dataclasses
import hashlib
import itertools
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from dmbp_jax._checks import InputError, kind_of, several, shorten
from dmbp_jax._ranges import check_whole
from dmbp_jax.images._image_file import open_image, upright_size
from dmbp_jax.images._preprocess import Preprocess

# Samples, files and labels that are not read yet; and problems, files that cannot be used.


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
    """An image of the photograph's size with each pixel's class; None where the dataset has none."""


class Problem(NamedTuple):
    """A sample that cannot be used, and why; reported and counted.

    One problem may concern several samples, such as the photographs that a CSV file does not name.
    """

    name: str
    message: str


class LoadedSample(NamedTuple):
    """A sample that has been read."""

    rgb: UInt8[np.ndarray, "h w 3"]
    """The cropped photograph, for display."""
    image: Float[np.ndarray, "h w c"]
    """The network's input, float32, normalised."""
    size: tuple[int, int]
    """`(height, width)` of the upright photograph, or of the composite."""
    region: tuple[float, float, float, float]
    """`(left, top, right, bottom)`, in pixels of that size: the part of it that `rgb` shows."""
    masks: Bool[np.ndarray, "labels h w"] | None = None
    """The mask of each label's object in `rgb`; None without a segmentation."""
    void: Bool[np.ndarray, "h w"] | None = None
    """Void pixels, which metrics ignore; None without any."""


class Dataset(NamedTuple):
    """The samples of a dataset in its own order."""

    kind: str
    """`imagenet`, `voc2007`, `voc2012`, `folder`, `grid`, `pairs` or `arrays`, or as its reader calls it."""
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    """Found without reading any photograph, such as a missing annotation."""
    arrays: Mapping[str, LoadedSample] | None = None
    """Samples that are arrays in memory, by name: they have no paths and need no reading."""


def check_usable(dataset: Dataset, path: Path) -> Dataset:
    """The dataset as it is; raises `InputError` if it has no sample, with the first problem found."""
    if dataset.samples:
        return dataset
    first = "; ".join(f"{shorten(problem.name)}: {problem.message}" for problem in dataset.problems[:1])
    raise InputError(
        f"no photograph in {path} can be used"
        + (f" ({len(dataset.problems)} problems, the first is {first})" if first else "")
    )


# A sample read and preprocessed, and the shape that it will have.


def read_sample(sample: Sample, preprocess: Preprocess, *, depth: int | None = None) -> LoadedSample:
    """Read and preprocess a photograph, or the photographs of a composite or a pair.

    A composite has the network's usual input size, `crop // grid * grid`: each cell is preprocessed with
    lengths divided by `grid`. Boehle et al. (CVPR 2021) tile whole inputs instead; these composites cost no
    more than a photograph, and suit networks of a fixed input size. A pair is twice as wide as a photograph,
    each half preprocessed as a photograph alone. `depth` is as in `decode`.

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
    """Height and width of the image that `read_sample` gives, from the file's header; None if that is not
    enough.

    >>> from dmbp_jax.images import example_photo
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
        # Errors of the file are reported when it is read.
        return None
    return preprocess.input_size(height, width)


def shrink(preprocess: Preprocess, grid: int) -> Preprocess:
    """The preprocessing of a composite's cells: lengths divided by `grid`; always cuts a square.

    Raises `InputError` if no length is given, or it becomes 0.

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
    # Cells are resized even if photographs are not, or each would show only its centre.
    resize = round((preprocess.resize or side) / grid)
    return dataclasses.replace(preprocess, resize=resize, crop=side // grid)


# A random part of a dataset, the same on every machine.


def draw(seed: int, name: str) -> bytes:
    """A pseudorandom sort key of `name` under `seed`: sorting by it gives a random order.

    It depends on nothing else, so the order is stable when other names are added or removed, and the same on
    every machine and with every version of NumPy, whose generators guarantee that only within a version.

    >>> sorted(["a", "b", "c", "d"], key=lambda name: draw(0, name))
    ['a', 'd', 'b', 'c']
    """
    return hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def take(
    dataset: Dataset, *, limit: int | None = None, per_class: int | None = None, seed: int = 0
) -> Dataset:
    """At most `per_class` random samples of each class, then at most `limit` random ones; None takes all.

    A sample of several classes counts for its first. The dataset's order and problems are kept. A smaller
    number selects a subset of a larger number's selection. The paper has 5 images of each ImageNet class.

    Raises `InputError` for a number below 1.

    >>> from pathlib import Path
    >>> numbers = [Sample(str(i), (Path(f"{i}.jpg"),), (str(i % 3),)) for i in range(9)]
    >>> [sample.name for sample in take(Dataset("folder", tuple(numbers)), per_class=2).samples]
    ['0', '2', '4', '5', '6', '7']
    """
    for what, number in (("limit", limit), ("per_class", per_class)):
        if number is not None:
            check_whole(what, number, least=1)
    lots = sorted(dataset.samples, key=lambda sample: draw(seed, sample.name))
    if per_class is not None:
        lots = _first_of_each(lots, per_class)
    taken = {sample.name for sample in lots[:limit]}
    return dataset._replace(samples=tuple(sample for sample in dataset.samples if sample.name in taken))


def _first_of_each(samples: list[Sample], number: int) -> list[Sample]:
    count: Counter[str] = Counter()
    first = []
    for sample in samples:
        label = sample.labels[0]
        if count[label] < number:
            count[label] += 1
            first.append(sample)
    return first


# Samples from arrays in memory.


class ArraySample(NamedTuple):
    """One image with its true classes."""

    image: Float[Array | np.ndarray, "h w c"]
    """As the network takes it: normalised."""
    targets: int | str | Sequence[int | str]
    """One true class or several: indices, or what the network's spec knows, as names."""
    name: str | None = None
    """Unique; by default the sample's number, from 0."""
    boxes: Sequence[Box] = ()
    """Objects, in pixels of `image`; a box's label is written as its target is: `Box("3", ...)` for 3."""
    mask: Bool[Array | np.ndarray, "..."] | None = None
    """Where the target is, `(h, w)`; of several targets one each, `(targets, h, w)`."""
    rgb: UInt8[Array | np.ndarray, "h w 3"] | None = None
    """The image in a report; by default `image`, scaled from its minimum to its maximum."""


Arrays: TypeAlias = tuple[Any, Any] | Iterable[Any]
"""`(images, targets)`, `(n, h, w, c)` and one target or several for each; or an `ArraySample` for each."""


def from_arrays(samples: Arrays, *, kind: str = "arrays") -> Dataset:
    """A dataset of images in memory.

    Raises `InputError` that names the sample: an image that is not `(h, w, c)` of finite floats, no target, a
    name that occurs twice, a mask or an `rgb` of another size than the image, a box without extent.

    >>> data = from_arrays((np.zeros((2, 8, 8, 3), np.float32), [3, (1, 4)]))
    >>> [(sample.name, sample.labels) for sample in data.samples]
    [('0', ('3',)), ('1', ('1', '4'))]
    """
    found: dict[str, Sample] = {}
    arrays: dict[str, LoadedSample] = {}
    for number, one in enumerate(_one_by_one(samples)):
        name = str(number) if one.name is None else str(one.name)
        if name in found:
            raise InputError(f"two samples are called {name!r}: give each a name of its own")
        labels = tuple(_label(name, target) for target in several(one.targets))
        if not labels:
            raise InputError(f"sample {name!r} has no target: give each image one class or several")
        found[name] = Sample(name, (), labels, tuple(one.boxes))
        arrays[name] = _load(name, one, len(labels))
    if not found:
        raise InputError("no sample given: samples are (images, targets), or one ArraySample for each image")
    return Dataset(kind, tuple(found.values()), arrays=arrays)


def _one_by_one(samples: Arrays) -> Iterable[ArraySample]:
    if isinstance(samples, ArraySample):
        raise InputError("samples is a single ArraySample: put it into a list")
    if not (isinstance(samples, tuple) and len(samples) == 2 and not isinstance(samples[0], ArraySample)):
        if not isinstance(samples, Iterable):
            raise InputError(
                f"samples must be (images, targets), or one ArraySample for each image, got "
                f"{kind_of(samples)}"
            )
        for one in samples:
            if not isinstance(one, ArraySample):
                raise InputError(
                    f"a sample is {type(one).__name__}: give dmbp_jax.images.ArraySample(image, targets, ...)"
                    " for each image, or the pair (images, targets)"
                )
            yield one
        return
    images, targets = samples
    targets = several(targets)
    try:
        images = np.asarray(images)
    except (TypeError, ValueError):
        shapes = ", ".join(dict.fromkeys(str(np.shape(image)) for image in images))
        raise InputError(
            f"the images have different shapes, {shorten(shapes)}: give ArraySample(image, target) for each"
        ) from None
    if images.ndim != 4 or len(images) != len(targets):
        raise InputError(
            f"images must be (n, h, w, c), with a target for each: got {images.shape} and {len(targets)} "
            "targets"
        )
    for image, target in zip(images, targets, strict=True):
        yield ArraySample(image, target)


def _label(name: str, target: Any) -> str:
    if isinstance(target, str):
        return target
    number = np.asarray(target)
    if number.ndim or not np.issubdtype(number.dtype, np.integer):
        hint = ""
        if np.issubdtype(number.dtype, np.floating):
            hint = "; floating numbers are weights, which an evaluation does not take: explain does"
        raise InputError(
            f"sample {name!r} has the target {shorten(target)}: give the index, a whole number, or "
            f"the name of a class{hint}"
        )
    return str(int(number))


def _load(name: str, one: ArraySample, labels: int) -> LoadedSample:
    image = np.asarray(one.image)
    if image.ndim != 3 or 0 in image.shape or not jax.numpy.issubdtype(image.dtype, np.floating):
        raise InputError(
            f"sample {name!r} must be an image (h, w, c) of floats, normalised for the network, got "
            f"{image.shape} of {image.dtype}"
        )
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise InputError(f"sample {name!r} holds values that are NaN or infinite")
    height, width = image.shape[:2]
    rgb = _shown(image) if one.rgb is None else np.asarray(one.rgb)
    if rgb.shape != (height, width, 3) or rgb.dtype != np.uint8:
        raise InputError(
            f"the rgb of sample {name!r} must be uint8 {(height, width, 3)}, as its image is, got "
            f"{rgb.shape} of {rgb.dtype}"
        )
    masks = None
    if one.mask is not None:
        masks = np.asarray(one.mask)
        masks = masks[None] if masks.ndim == 2 else masks
        if masks.shape != (labels, height, width) or masks.dtype != bool:
            raise InputError(
                f"the mask of sample {name!r} must be bool {(height, width)}, or {(labels, height, width)} "
                f"for {labels} targets, got {np.shape(one.mask)} of {masks.dtype}"
            )
    for box in one.boxes:
        if not isinstance(box, Box):
            raise InputError(
                f"a box of sample {name!r} must be a Box(label, left, top, right, bottom), got {shorten(box)}"
            )
        if not (box.left < box.right and box.top < box.bottom):
            raise InputError(f"a box of sample {name!r} has no extent: {box}")
    return LoadedSample(rgb, image, (height, width), (0.0, 0.0, float(width), float(height)), masks)


def _shown(image: Float[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image for display: its first three channels, or its only one in grey, scaled from minimum to
    maximum."""
    channels = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    least, most = float(channels.min()), float(channels.max())
    return (255 * (channels - least) / max(most - least, 1e-12)).astype(np.uint8)


# Reading ahead: photographs are decoded while the device computes.
#
# A pool of threads, which run in parallel while Pillow decodes and resizes. `grain` 0.2.18 was tried and does
# # the same with the same kind of pool, but it needs 10 more packages and takes 1.1 s instead of 1 ms to
# import.

T = TypeVar("T")


def read_ahead(
    samples: Iterable[Sample], read: Callable[[Sample], T], *, workers: int = 2, ahead: int = 16
) -> Generator[tuple[Sample, T | InputError], None, None]:
    """Each sample with the result of `read`, in order; `workers` threads read ahead.

    At most `ahead` samples are in progress or waiting to be consumed. If `read` raises `InputError`, the
    error is yielded in place of the result; other exceptions are raised here. When the generator ends, is
    closed or raises, pending reads are cancelled, and no thread remains.

    Raises `InputError` for fewer than 1 worker or 1 ahead.

    >>> from pathlib import Path
    >>> samples = [Sample(name, (Path(name),), ("cat",)) for name in ("a.jpg", "b.jpg")]
    >>> [(sample.name, length) for sample, length in read_ahead(samples, lambda sample: len(sample.name))]
    [('a.jpg', 5), ('b.jpg', 5)]
    """
    for what, number in (("workers", workers), ("ahead", ahead)):
        check_whole(what, number, least=1)
    return _read_ahead(iter(samples), read, workers, ahead)


def _read_ahead(
    samples: Iterator[Sample], read: Callable[[Sample], T], workers: int, ahead: int
) -> Generator[tuple[Sample, T | InputError], None, None]:
    def attempt(sample: Sample) -> T | InputError:
        try:
            return read(sample)
        except InputError as error:
            # Tracebacks would keep the half-read photograph alive.
            error.__context__ = None
            return error.with_traceback(None)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    try:
        pending: deque[tuple[Sample, Future[T | InputError]]] = deque()
        for sample in itertools.islice(samples, ahead):
            pending.append((sample, pool.submit(attempt, sample)))
        while pending:
            sample, future = pending.popleft()
            result = future.result()
            # Before the result is handed over, so that the threads have work while it is made use of.
            for following in itertools.islice(samples, 1):
                pending.append((following, pool.submit(attempt, following)))
            yield sample, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
