"""Ranges of numbers, as annotations of options, and the checks of options against them."""

import dataclasses
import math
import numbers
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from jaxtyping import Array, Float

from dmbp_jax._checks import InputError, as_number, is_concrete, is_number, shorten

T = TypeVar("T")


def check_whole(name: str, value: Any, *, least: int, most: int | None = None, why: str = "") -> None:
    """Raise `InputError` unless it is a whole number from `least` to `most`; None is what 64 bits hold.

    `why`: the reason for the range, as it follows it in a message.

    >>> check_whole("limit", "3", least=1)
    Traceback (most recent call last):
    dmbp_jax.InputError: limit must be a whole number, got '3'
    >>> check_whole("max_side", 9, least=1, most=7, why=", the image's shorter side")
    Traceback (most recent call last):
    dmbp_jax.InputError: max_side must be from 1 to 7, the image's shorter side, got 9
    """
    value = as_number(value)
    if not is_number(value, numbers.Integral):
        raise InputError(f"{name} must be a whole number, got {shorten(repr(value))}")
    if most is not None and not least <= value <= most:
        raise InputError(f"{name} must be from {least} to {most}{why}, got {value}")
    if value < least:
        raise InputError(f"{name} must be at least {least}{why}, got {value}")
    if value >= 2**63:
        raise InputError(f"{name} must be below 2 ** 63, got {value}")


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers that an option may have, in its annotation: `Annotated[Number, Range(...)]`.

    An option with a range does not affect shapes: `explain` passes it to the compiled program as a scalar
    array, so that all its values share one program.
    """

    text: str
    """The text after "must be" in a message."""
    holds: Callable[[float], bool]


FINITE = Range("finite", math.isfinite)
Number: TypeAlias = float | Float[Array, ""]
"""A number, which may be traced."""
Finite: TypeAlias = Annotated[Number, FINITE]
Positive: TypeAlias = Annotated[Number, Range("above 0", lambda value: value > 0)]
NonNegative: TypeAlias = Annotated[Number, Range("finite and at least 0", lambda value: value >= 0)]
Share: TypeAlias = Annotated[Number, Range("in (0, 1]", lambda value: 0 < value <= 1)]
Fraction: TypeAlias = Annotated[Number, Range("in (0, 1)", lambda value: 0 < value < 1)]
Decay: TypeAlias = Annotated[Number, Range("in [0, 1)", lambda value: 0 <= value < 1)]
Opacity: TypeAlias = Annotated[Number, Range("in [0, 1]", lambda value: 0 <= value <= 1)]
Percentile: TypeAlias = Annotated[Number, Range("in (0, 100]", lambda value: 0 < value <= 100)]


@dataclasses.dataclass(frozen=True)
class Whole:
    """The whole numbers that an option may be, beside its type: `Annotated[int, Whole(least)]`."""

    least: int | None = None
    """None: as far as 64 bits hold, like `most`."""
    most: int | None = None
    why: str = ""
    """The reason for the range, as it follows it in a message."""


Count: TypeAlias = Annotated[int, Whole(1)]
CountFromZero: TypeAlias = Annotated[int, Whole(0)]


def range_of(annotation: Any) -> Range | None:
    """The range in an annotation, or in one of a union's parts.

    >>> range_of(Positive).text, range_of(str | Positive).text, range_of(float)
    ('above 0', 'above 0', None)
    """
    return _among(annotation, Range)


def whole_of(annotation: Any) -> Whole | None:
    """The whole numbers that an annotation, or one of a union's parts, allows.

    >>> whole_of(Count | None), whole_of(int)
    (Whole(least=1, most=None, why=''), None)
    """
    return _among(annotation, Whole)


def _among(annotation: Any, kind: type[T]) -> T | None:
    if get_origin(annotation) is Annotated:
        return next((one for one in annotation.__metadata__ if isinstance(one, kind)), None)
    parts = (_among(part, kind) for part in get_args(annotation))
    return next((one for one in parts if one is not None), None)


def check_range(name: str, value: Any, annotation: Any) -> None:
    """Raise `InputError` unless `value` is a finite number in the range of the annotation, or traced.

    >>> check_range("noise_level", -0.1, NonNegative)
    Traceback (most recent call last):
    dmbp_jax.InputError: noise_level must be finite and at least 0, got -0.1
    """
    allowed = range_of(annotation)
    shape = getattr(value, "shape", ())
    if shape:
        raise InputError(f"{name} must be one number, got an array of shape {shape}")
    if allowed is None or not is_concrete(value):
        return
    value = as_number(value)
    if not is_number(value) or not math.isfinite(value) or not allowed.holds(value):
        raise InputError(f"{name} must be {allowed.text}, got {shorten(repr(value))}")


def check_option(name: str, value: Any, annotation: Any) -> None:
    """Raise `InputError` for a number that is not in the range of its annotation, `Range` or `Whole`.

    A union's None and literals are allowed beside the range.

    >>> check_option("batch_size", "auto", Count | Literal["auto"])
    >>> check_option("batch_size", 0, Count | Literal["auto"])
    Traceback (most recent call last):
    dmbp_jax.InputError: batch_size must be at least 1, got 0
    """
    whole = whole_of(annotation)
    if any(_is_literal(value, part) for part in get_args(annotation)):
        return
    if whole is not None:
        least = -(2**63) if whole.least is None else whole.least
        check_whole(name, value, least=least, most=whole.most, why=whole.why)
    elif range_of(annotation) is not None:
        check_range(name, value, annotation)


def check_fields(config: Any) -> None:
    """`check_option` of each field of a dataclass."""
    for field in dataclasses.fields(config):
        check_option(field.name, getattr(config, field.name), field.type)


def _is_literal(value: Any, part: Any) -> bool:
    return (value is None and part is types.NoneType) or (
        isinstance(value, str) and get_origin(part) is Literal and value in get_args(part)
    )


def check_shares(shares: Sequence[float], annotation: Any) -> None:
    """Raise `InputError` unless these are one or several numbers, each in the range of the annotation.

    >>> check_shares((0.5, 0.0), Share)
    Traceback (most recent call last):
    dmbp_jax.InputError: each of shares must be in (0, 1], got 0.0
    """
    if not len(shares):
        raise InputError("shares must be one or several numbers, got none")
    for share in shares:
        check_range("each of shares", share, annotation)
