"""Images that are arrays already: of a program of one's own, in no folder."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from dmbp_jax.checks import InputError, kind_of, shorten
from dmbp_jax.data.sample import Box, Dataset, LoadedSample, Sample


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
    """What a report shows; by default `image` itself, from its least to its greatest value."""


Arrays: TypeAlias = tuple[Any, Any] | Iterable[Any]
"""`(images, targets)`, `(n, h, w, c)` and one target or several for each; or an `ArraySample` for each."""


def from_arrays(samples: Arrays, *, kind: str = "arrays") -> Dataset:
    """A dataset of images in memory.

    Raises `InputError` that names the sample: an image that is no `(h, w, c)` of finite floats, no target, a
    name that is there twice, a mask or an `rgb` of another size than the image, a box without extent.

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
        labels = tuple(_label(name, target) for target in _several(one.targets))
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
                    f"a sample is {type(one).__name__}: give dmbp_jax.data.ArraySample(image, targets, ...) "
                    "for each image, or the pair (images, targets)"
                )
            yield one
        return
    images, targets = samples
    targets = _several(targets)
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


def _several(given: Any) -> Sequence[Any]:
    """A list of what a sequence or an array holds, or of one thing alone."""
    if isinstance(given, Sequence) and not isinstance(given, str):
        return given
    return list(given) if np.ndim(given) else [given]


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
    """An image for people: its first three channels, or its one in grey, from the least to the greatest."""
    channels = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    least, most = float(channels.min()), float(channels.max())
    return (255 * (channels - least) / max(most - least, 1e-12)).astype(np.uint8)
