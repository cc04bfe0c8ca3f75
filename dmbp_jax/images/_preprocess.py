"""From a photograph to the array that a network was trained on."""

import dataclasses
import os
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from dmbp_jax._checks import InputError
from dmbp_jax.images._decode import decode

MAX_PIXELS = 2**27
"""The most pixels after resizing."""

Photo = str | os.PathLike[str] | PIL.Image.Image | np.ndarray


class Cut(NamedTuple):
    """The part of a photograph that a network sees."""

    rgb: UInt8[np.ndarray, "h w 3"]
    size: tuple[int, int]
    """`(height, width)` of the upright photograph."""
    region: tuple[float, float, float, float]
    """`(left, top, right, bottom)` of the part, in pixels of the photograph."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resizing, cropping and normalisation as a set of weights requires.

    Lengths are rounded to the nearest pixel, the crop's corner down; torchvision rounds lengths down and the
    corner to the nearest, which shifts some photographs by one pixel.

    `image = (channels in order of rgb * scale - mean) / std`. Calling it with a photograph does all of it.

    >>> Preprocess(mean=(0.5, 0.5, 0.5))(np.ones((300, 400, 3))).shape
    (224, 224, 3)
    """

    resize: int | None = 256
    """Length in pixels of the shorter side after (bilinear, antialiased) resizing; None keeps the size."""
    crop: int | None = 224
    """Side in pixels of the square that is cut from the centre; None keeps all."""
    scale: float = 1 / 255
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """In the network's channel order, after scaling."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def cut(self, photo: Photo, *, depth: int | None = None) -> Cut:
        """The part of the photograph that the network sees, and where it lies in the photograph.

        `depth` is the number of bits of the photograph's values, if the file does not state it; see `decode`.

        Raises `InputError` for what `decode` cannot read, and for a photograph too elongated to resize.
        """
        image = decode(photo, depth=depth)
        width, height = image.size
        size, _ = self._place(width, height)
        if size[0] * size[1] > MAX_PIXELS:
            name = f"{photo}: " if isinstance(photo, str | os.PathLike) else ""
            raise InputError(
                f"{name}a photograph of {width} x {height} pixels is too elongated: resizing its shorter "
                f"side to {self.resize} would give {size[0]} x {size[1]}; crop it first"
            )
        rgb = np.asarray(self._cut(image, PIL.Image.Resampling.BILINEAR))
        return Cut(rgb, (height, width), self.region(height, width))

    def cut_classes(self, classes: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "rows columns"]:
        """The same part of an image of numbers, one for each pixel of the photograph, such as classes.

        Resizing takes the nearest pixel, so that no new numbers arise; 0 beyond the photograph.

        >>> Preprocess(resize=None, crop=2).cut_classes(np.arange(16, dtype=np.uint8).reshape(4, 4)).tolist()
        [[5, 6], [9, 10]]
        """
        return np.asarray(self._cut(PIL.Image.fromarray(classes), PIL.Image.Resampling.NEAREST))

    def _cut(self, image: PIL.Image.Image, resampling: PIL.Image.Resampling) -> PIL.Image.Image:
        size, (left, top) = self._place(*image.size)
        if self.resize is not None:
            image = image.resize(size, resampling)
        if self.crop is None:
            return image
        # Beyond the image's edge, if it is smaller than the crop, Pillow fills in zeros.
        return image.crop((left, top, left + self.crop, top + self.crop))

    def crop_photo(self, photo: Photo, *, depth: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """The part of the photograph that the network sees, RGB, for display.

        Raises `InputError` as `cut` does.
        """
        return self.cut(photo, depth=depth).rgb

    def region(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The `(left, top, right, bottom)` of the cut of an upright photograph, in the photograph's pixels.

        It reaches beyond the photograph where that, resized, is smaller than the crop.

        >>> Preprocess().region(256, 512)
        (144.0, 16.0, 368.0, 240.0)
        """
        size, (left, top) = self._place(width, height)
        down, across = self.input_size(height, width)
        x, y = width / size[0], height / size[1]
        return left * x, top * y, (left + across) * x, (top + down) * y

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the network's input for an upright photograph of this size.

        >>> Preprocess(resize=224, crop=None).input_size(375, 500)
        (224, 299)
        """
        (across, down), _ = self._place(width, height)
        return (down, across) if self.crop is None else (self.crop, self.crop)

    def _place(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """A photograph's `(width, height)` after resizing, and the crop's corner `(left, top)` therein."""
        size = (width, height)
        if self.resize is not None:
            short = min(size)
            size = max(round(self.resize * width / short), 1), max(round(self.resize * height / short), 1)
        if self.crop is None:
            return size, (0, 0)
        return size, ((size[0] - self.crop) // 2, (size[1] - self.crop) // 2)

    def normalize(self, rgb: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
        """The network's input, float32, of a cropped photograph."""
        ordered = rgb[..., ::-1] if self.channels == "BGR" else rgb
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (ordered * np.float32(self.scale) - mean) / std

    def __call__(self, photo: Photo, *, depth: int | None = None) -> Float[np.ndarray, "h w 3"]:
        """The network's input, float32 `(h, w, 3)`, of a file, a Pillow image or an array; see `cut`."""
        return self.normalize(self.crop_photo(photo, depth=depth))
