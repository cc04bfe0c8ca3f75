"""The rows of an explanation's figure."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import PIL.Image
from jaxtyping import Float

from dmbp_jax._checks import InputError
from dmbp_jax.plot import Row, Style
from dmbp_jax.plot._heatmap import CMAP
from dmbp_jax.result._display import is_known

if TYPE_CHECKING:
    from dmbp_jax.result._attribution import Attribution

MOST = 16
"""The most rows of a figure."""


def make_rows(
    a: "Attribution",
    photos: npt.ArrayLike | PIL.Image.Image | None,
    titles: str | Sequence[str],
    captions: str | Sequence[str],
    style: Style,
) -> list[Row]:
    """A row for each image; arguments and errors are those of `Attribution.plot`."""
    if not (is_known(a.values) and is_known(a.finite)):
        raise InputError(
            "cannot draw an explanation whose values are not in this process: draw outside of jit and vmap"
        )
    if isinstance(photos, str | os.PathLike):
        raise InputError(
            f"photo must be an image or an array, not a path, got {photos!s}: "
            "model.spec.preprocess.crop_photo(path) is what the network sees of it"
        )
    axes = np.ndim(a.finite)
    if axes > 1:
        raise InputError(
            f"these are explanations of shape {np.shape(a.finite)}, and a figure has the rows of one axis: "
            "draw one image's, a[0].plot(photo)"
        )
    if not has_maps(a):
        raise InputError(f"values of shape {a.values.shape} are no maps (h, w): there is nothing to draw")
    batch = [a] if axes == 0 else [a[i] for i in range(min(len(a), MOST + 1))]
    if len(batch) > MOST:
        raise InputError(f"{len(a.values)} images are too many for a figure: up to {MOST}, a[:{MOST}].plot()")
    titles, captions = (
        _each(what, texts, len(batch)) for what, texts in (("titles", titles), ("captions", captions))
    )
    drawn = []
    for i, one in enumerate(batch):
        heatmap = np.asarray(one.heatmap)
        caption = f"{captions[i]} {_legend(heatmap, style)}".strip()
        photo = None if photos is None else _photo(photos, i, len(batch), heatmap.shape)
        drawn.append(Row(photo, heatmap, _parts(one), titles[i], caption))
    return drawn


def has_maps(a: "Attribution") -> bool:
    """Whether its heat map is an image, `(h, w)`."""
    return a.heatmap.ndim - np.ndim(a.finite) == 2


def _parts(one: "Attribution") -> dict[str, Float[np.ndarray, "h w"]]:
    if one.positive is None or one.negative is None or one.scores is None:
        return {}
    return {
        f"positive part, y+ = {one.scores.positive:.3g}": np.asarray(
            dataclasses.replace(one, values=one.positive).heatmap
        ),
        f"negative part, y- = {one.scores.negative:.3g}": np.asarray(
            dataclasses.replace(one, values=one.negative).heatmap
        ),
    }


def _legend(heatmap: Float[np.ndarray, "h w"], style: Style) -> str:
    if style.cmap != CMAP:
        return ""
    if np.nanmin(heatmap, initial=0) < 0:
        return "Red is evidence for the class, blue against it."
    return "The redder, the more important for the class."


def _each(what: str, texts: str | Sequence[str], count: int) -> Sequence[str]:
    if isinstance(texts, str):
        return [texts] * count
    if len(texts) != count:
        raise InputError(f"got {len(texts)} {what} for {count} images")
    return texts


def _photo(
    photos: npt.ArrayLike | PIL.Image.Image, index: int, count: int, size: tuple[int, ...]
) -> np.ndarray:
    given = np.asarray(photos)
    if given.dtype != np.uint8 or given.shape[-1:] != (3,) or given.ndim not in (3, 4):
        raise InputError(
            "a photograph must be (h, w, 3) or (n, h, w, 3) of 8 bits, got "
            f"{given.shape} of {given.dtype}; use model.spec.preprocess.crop_photo(file)"
        )
    if given.ndim == 4 and len(given) != count:
        raise InputError(f"got {len(given)} photographs for {count} images")
    photo = given[index] if given.ndim == 4 else given
    if photo.shape[:2] != size:
        raise InputError(
            f"the photograph is {photo.shape[0]} x {photo.shape[1]} and the map {size[0]} x {size[1]}: "
            "give it as the network saw it, model.spec.preprocess.crop_photo(file)"
        )
    return photo
