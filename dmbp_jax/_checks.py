"""Checks of arguments before anything runs: ranks, shapes, names and ranges."""

import difflib
import functools
import numbers
import re
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


class InputError(ValueError):
    """Bad input from the caller; the message names the thing and the remedy."""

    __module__ = "dmbp_jax"


class InputWarning(UserWarning):
    """Input that is accepted but may be misread; the message names the remedy."""

    __module__ = "dmbp_jax"


_SAID: set[str] = set()


def warn_once(what: str, message: str) -> None:
    """Warn with an `InputWarning`, once per process for each `what`."""
    if what not in _SAID:
        # Not recorded if the warning is raised as an error.
        warnings.warn(message, InputWarning, stacklevel=2)
        _SAID.add(what)


class ShapeError(InputError):
    """An input of a shape that a layer does not take; another shape may be valid."""

    __module__ = "dmbp_jax._checks"


class ExplanationWarning(UserWarning):
    """A map was computed, but on this network it is not what the method's name suggests.

    Python shows each message once. `warnings.simplefilter("error", ExplanationWarning)` makes it an error.
    """

    __module__ = "dmbp_jax"


def shorten(text: object, *, most: int = 60) -> str:
    """Untrusted text, such as a library's message about a file, shortened to one line for a message.

    >>> shorten("damaged\\n at byte 7", most=12)
    'damaged at b…'
    """
    line = " ".join(str(text)[: 4 * most].split())
    return line if len(line) <= most else f"{line[:most]}…"


def check_choice(what: str, value: str, choices: Iterable[str], *, variants: bool = False) -> None:
    """Raise `InputError` unless `value` is one of `choices`, proposing the nearest one.

    `variants`: propose nothing for a name that extends a known one, as `resnet50d`, which is another network
    than `resnet50`.

    >>> check_choice("preset", "papr", ["paper", "fast"])
    Traceback (most recent call last):
    dmbp_jax.InputError: unknown preset 'papr': did you mean 'paper'? Known: fast, paper
    """
    known = sorted(choices)
    if value in known:
        return
    # Compared by letters only: other packages write GradCAM for grad_cam.
    given = Counter(_letters(str(value)))
    by_letters = {_letters(name): name for name in known if not variants or given <= Counter(_letters(name))}
    near = difflib.get_close_matches(_letters(str(value)), by_letters, n=1)
    hint = f"did you mean {by_letters[near[0]]!r}? " if near else ""
    raise InputError(f"unknown {what} {value!r}: {hint}Known: {', '.join(known)}")


RESERVED = frozenset({"all", "auto", "maps", "none", "table1", "table2", "table3", "fast", "paper"})
"""Reserved words: groups of methods, presets, automatic choices."""


def check_name(what: str, name: Any) -> str:
    """The user's name for a `what`; raises `InputError` for a reserved name, and for one with characters that
    are not allowed in lists, before a colon or in a file's name.

    >>> check_name("method", "smoothgrad_500")
    'smoothgrad_500'
    >>> check_name("method", "table1")
    Traceback (most recent call last):
    dmbp_jax.InputError: a method cannot be called 'table1', which means something else: give name= \
another one
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError(
            f"a {what} needs a name of letters, digits and any of _ . + -, got {shorten(repr(name))}: give "
            "name= such a one"
        )
    if name.lower() in RESERVED:
        raise InputError(
            f"a {what} cannot be called {name!r}, which means something else: give name= another one"
        )
    return name


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def kind_of(thing: Any) -> str:
    """The kind of an object, for a message.

    >>> kind_of(1.5), kind_of(None), kind_of(functools), kind_of(InputError)
    ('a float', 'None', 'the module functools', 'the class InputError')
    """
    if thing is None:
        return "None"
    if isinstance(thing, types.ModuleType):
        return f"the module {thing.__name__}"
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}{' of PyTorch' if is_torch(thing) else ''}"


def several(given: Any) -> tuple[Any, ...]:
    """What a list, an array or a generator holds, in its order, or one thing alone.

    Strings, and what has no order, such as a set, are one thing.

    >>> several("dmbp"), several(["dmbp", "rise"]), several(np.asarray(3)), several(np.arange(2)).count(1)
    (('dmbp',), ('dmbp', 'rise'), (array(3),), 1)
    """
    # An array without axes is an `Iterable`, and cannot be walked.
    is_one = not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0
    return (given,) if is_one or isinstance(given, str | Mapping | Set) else tuple(given)


def is_number(value: object, kind: type = numbers.Real) -> bool:
    """Whether it is a number of that kind; flags are none.

    >>> is_number(1.5), is_number(True), is_number(1.5, numbers.Integral)
    (True, False, False)
    """
    return isinstance(value, kind) and not isinstance(value, bool | np.bool)


def advise_on_dtype(params: Any, dtype: Any) -> str:
    """The remedy for a network that does not take images of that dtype, from the dtype of its parameters;
    empty if there is none."""
    leaves = [leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")]
    kinds = {str(one) for one in leaves if jax.numpy.issubdtype(one, jax.numpy.floating)}
    if len(kinds) != 1 or str(dtype) in kinds:
        return ""
    (kind,) = kinds
    return (
        f"its parameters are {kind} and the images {dtype}: give images.astype({kind!r}), or parameters of "
        f"{dtype}"
    )


def called(function: Any) -> str:
    """The name of a function in a message; for a `functools.partial` that of its function.

    >>> called(functools.partial(called, 1))
    'called'
    """
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


NO_TORCH = "only JAX networks are explained; `dmbp-jax weights port` takes weights of torchvision's"


def is_torch(thing: Any) -> bool:
    """Whether it is a module of PyTorch, without importing PyTorch."""
    return any(kind.__module__.startswith("torch.") for kind in type(thing).__mro__)


def check_first(check: Callable[..., None]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Call `check(*args)` on the positional arguments before Python binds them, for mistakes whose
    `TypeError` would not name the remedy.

    >>> @check_first(refuse_pair)
    ... def explain(apply, params, images): ...
    >>> explain((explain, {}), 1.0)
    Traceback (most recent call last):
    dmbp_jax.InputError: explain takes apply and params apart: explain(*network, images, ...)
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            check(function.__name__, *args)
            return function(*args, **kwargs)

        return checked

    return decorate


def refuse_pair(name: str, *args: Any) -> None:
    """Raise `InputError` for a network given as the pair `(apply, params)` instead of two arguments."""
    if args and isinstance(args[0], tuple) and len(args[0]) > 1:
        parts = "*network" if len(args[0]) == 2 else "network.apply, network.params"
        raise InputError(f"{name} takes apply and params apart: {name}({parts}, images, ...)")


def check_images(images: jax.Array | np.ndarray, *, any_rank: bool = False) -> None:
    """Raise `InputError` unless `images` are floating, `(n, h, w, c)`, not empty, and finite where known.

    `any_rank`: accept other inputs, `(n, ...)`, too.
    """
    if not jax.numpy.issubdtype(images.dtype, jax.numpy.floating):
        raise InputError(
            f"images must be floating point and normalised for the network, got {images.dtype}; "
            "use model.spec.preprocess(photo)"
        )
    if any_rank and images.ndim < 2:
        raise InputError(f"inputs must have shape (n, ...), got {images.shape}; add a batch axis: x[None]")
    if images.ndim != 4 and not any_rank:
        hint = "; add a batch axis with image[None]" if images.ndim == 3 else ""
        raise InputError(f"images must have shape (n, h, w, c), got {images.shape}{hint}")
    if 0 in images.shape:
        raise InputError(f"images must not be empty, got shape {images.shape}")
    if is_here(images):
        bad = ~np.isfinite(np.asarray(images, dtype=np.float32)).all(axis=tuple(range(1, images.ndim)))
        if bad.any():
            raise InputError(f"image {int(bad.argmax())} holds values that are NaN or infinite")


def check_is_image(shape: tuple[int, ...], method: str) -> None:
    """Raise `InputError` unless a single input is an image, `(h, w, c)`.

    >>> check_is_image((7,), "rise")
    Traceback (most recent call last):
    dmbp_jax.InputError: rise explains images (h, w, c) only, got an input of shape (7,)
    """
    if len(shape) != 3:
        raise InputError(f"{method} explains images (h, w, c) only, got an input of shape {shape}")


def check_targets(targets: jax.Array | np.ndarray, count: int, classes: int) -> None:
    """Raise `InputError` unless `targets` are `(n,)` indices in range or `(n, classes)` finite weights.

    Whole numbers are class indices, floating ones are weights, whatever their shape.
    """
    if targets.ndim == 1 and jax.numpy.issubdtype(targets.dtype, jax.numpy.integer):
        if targets.shape[0] != count:
            raise InputError(f"got {count} images but {targets.shape[0]} targets")
        if is_here(targets):
            values = np.asarray(targets)
            outside = values[(values < 0) | (values >= classes)]
            if outside.size:
                raise InputError(
                    f"target {int(outside[0])} is out of range: the network has classes 0 to {classes - 1}"
                )
        return
    is_floating = jax.numpy.issubdtype(targets.dtype, jax.numpy.floating)
    if is_floating and targets.shape == (count, classes):
        if is_here(targets) and not np.isfinite(np.asarray(targets, np.float32)).all():
            raise InputError("target weights hold values that are NaN or infinite")
        return
    raise InputError(
        f"targets must be {count} class indices, which are whole numbers, or weights of shape ({count}, "
        f"{classes}), which are floating, got shape {targets.shape} of {targets.dtype}"
        f"{_target_hint(targets, count, classes)}"
    )


def _target_hint(targets: jax.Array | np.ndarray, count: int, classes: int) -> str:
    """The remedy for invalid targets."""
    is_floating = jax.numpy.issubdtype(targets.dtype, jax.numpy.floating)
    if targets.ndim == 0:
        return "; give [target]" if count == 1 else f"; give [target] * {count}"
    if is_floating and targets.ndim == 1 and count == 1 and targets.size == classes:
        return "; give targets[None]"
    if is_floating:
        return "; of class indices give targets.astype(int)" if targets.ndim == 1 else ""
    if targets.ndim == 2 and targets.shape == (count, 1):
        return "; give targets.reshape(-1)"
    if targets.ndim == 2:
        return (
            ": explain_classes explains several classes of each image; of weights, also one-hot ones, give "
            "targets.astype(float)"
        )
    return ""


def check_classes_once(name: str, classes: Sequence[int]) -> None:
    """Raise `InputError` that names the image for which a class is given twice.

    >>> check_classes_once("image 0", [3, 1, 3])
    Traceback (most recent call last):
    dmbp_jax.InputError: image 0 has the class 3 twice: give each of its classes once; whole numbers \
are class indices, so of one-hot rows give targets.argmax(axis=1)
    """
    seen: set[int] = set()
    for index in classes:
        if index in seen:
            raise InputError(
                f"{name} has the class {index} twice: give each of its classes once; whole numbers are class "
                "indices, so of one-hot rows give targets.argmax(axis=1)"
            )
        seen.add(index)


def check_class(index: Any, classes: int) -> None:
    """Raise `InputError` unless it is the index of one of so many classes, or traced.

    >>> check_class(True, 3)
    Traceback (most recent call last):
    dmbp_jax.InputError: a class is a whole number from 0 to 2, got True
    """
    if isinstance(index, str):
        raise InputError(f"a class is an index, got {index!r}: model.spec.class_index(name) is a name's")
    if not is_here(index):
        return
    if np.ndim(index) or not np.issubdtype(np.asarray(index).dtype, np.integer):
        raise InputError(f"a class is a whole number from 0 to {classes - 1}, got {shorten(repr(index))}")
    if not 0 <= index < classes:
        raise InputError(f"class {index} is out of range: there are classes 0 to {classes - 1}")


def as_number(value: Any) -> Any:
    """A NumPy scalar, or an array without axes, as a Python number; everything else, and tracers, unchanged.

    >>> as_number(np.float32(0.5)), as_number(np.asarray(3)), as_number("zero")
    (0.5, 3, 'zero')
    """
    if not isinstance(value, np.generic | np.ndarray | jax.Array) or value.ndim or not is_concrete(value):
        return value
    plain = jax.numpy.issubdtype(value.dtype, np.number) or value.dtype == bool
    return value.item() if plain else value


def is_concrete(array: Any) -> bool:
    """Whether the values of `array`, or the number, are known: not traced by `jit` or `vmap`."""
    return not isinstance(array, jax.core.Tracer)


def is_here(array: Any) -> bool:
    """Whether the values of `array` are known in this process: neither traced, nor divided over several
    processes."""
    if not is_concrete(array):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated
