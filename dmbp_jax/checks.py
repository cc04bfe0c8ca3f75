"""Static checks with clear messages: ranks, shapes, names and ranges that are known before anything runs."""

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


class InputError(ValueError):
    """Bad input from the caller; the message names the thing and the remedy."""


def shorten(text: object, *, most: int = 60) -> str:
    """A text of strangers, or what a library says of their file, for a message: in one line, and not long.

    >>> shorten("damaged\\n at byte 7", most=12)
    'damaged at b…'
    """
    line = " ".join(str(text)[: 4 * most].split())
    return line if len(line) <= most else f"{line[:most]}…"


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raise `InputError` unless `value` is one of `choices`, proposing the nearest one.

    >>> check_choice("preset", "papr", ["paper", "fast"])
    Traceback (most recent call last):
    dmbp_jax.checks.InputError: unknown preset 'papr': did you mean 'paper'? Known: fast, paper
    """
    known = sorted(choices)
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"unknown {what} {value!r}: {hint}Known: {', '.join(known)}")


def check_images(images: jax.Array | np.ndarray, *, any_rank: bool = False) -> None:
    """Raise `InputError` unless `images` are floating, `(n, h, w, c)`, not empty, and finite where known.

    `any_rank`: other inputs, `(n, ...)`, will do too.
    """
    if any_rank and images.ndim < 2:
        raise InputError(f"inputs must have shape (n, ...), got {images.shape}; add a batch axis: x[None]")
    if images.ndim != 4 and not any_rank:
        hint = "; add a batch axis with image[None]" if images.ndim == 3 else ""
        raise InputError(f"images must have shape (n, h, w, c), got {images.shape}{hint}")
    if 0 in images.shape:
        raise InputError(f"images must not be empty, got shape {images.shape}")
    if not jax.numpy.issubdtype(images.dtype, jax.numpy.floating):
        raise InputError(
            f"images must be floating point and normalised for the network, got {images.dtype}; "
            "use model.spec.preprocess(photo)"
        )
    if is_concrete(images):
        bad = ~np.isfinite(np.asarray(images, dtype=np.float32)).all(axis=tuple(range(1, images.ndim)))
        if bad.any():
            raise InputError(f"image {int(bad.argmax())} holds values that are NaN or infinite")


def check_is_image(shape: tuple[int, ...], method: str) -> None:
    """Raise `InputError` unless a single input is an image, `(h, w, c)`.

    >>> check_is_image((7,), "rise")
    Traceback (most recent call last):
    dmbp_jax.checks.InputError: rise explains images (h, w, c) only, got an input of shape (7,)
    """
    if len(shape) != 3:
        raise InputError(f"{method} explains images (h, w, c) only, got an input of shape {shape}")


def check_targets(targets: jax.Array | np.ndarray, count: int, classes: int) -> None:
    """Raise `InputError` unless `targets` are `(n,)` indices in range or `(n, classes)` finite weights."""
    if targets.ndim == 1 and jax.numpy.issubdtype(targets.dtype, jax.numpy.integer):
        if targets.shape[0] != count:
            raise InputError(f"got {count} images but {targets.shape[0]} targets")
        if is_concrete(targets):
            values = np.asarray(targets)
            outside = values[(values < 0) | (values >= classes)]
            if outside.size:
                raise InputError(
                    f"target {int(outside[0])} is out of range: the network has classes 0 to {classes - 1}"
                )
        return
    if targets.ndim == 2 and targets.shape == (count, classes):
        if is_concrete(targets) and not np.isfinite(np.asarray(targets, np.float32)).all():
            raise InputError("target weights hold values that are NaN or infinite")
        return
    raise InputError(
        f"targets must be {count} class indices or weights of shape ({count}, {classes}), "
        f"got shape {targets.shape} of {targets.dtype}"
    )


def is_concrete(array: Any) -> bool:
    """Whether the values of `array`, or the number itself, are known now: not traced by `jit` or `vmap`."""
    return not isinstance(array, jax.core.Tracer)
