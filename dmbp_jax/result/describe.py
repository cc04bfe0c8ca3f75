"""A result in a line: shapes in place of pages of numbers."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dmbp_jax.checks import is_here

MOST = 4
"""Numbers that are written out; of more, the first ones."""


def describe(result: Any) -> str:
    """A NamedTuple of arrays in a line: a vector's first numbers, how many flags hold, else dtype and shape.

    Works on whatever stands in place of the arrays: tracers, shapes, axes.

    >>> from typing import NamedTuple
    >>> class Three(NamedTuple):
    ...     scores: np.ndarray
    ...     values: np.ndarray
    ...     finite: np.ndarray
    >>> describe(Three(np.asarray([0.5, 1 / 3]), np.zeros((2, 8, 8, 3)), np.asarray([True, False])))
    'Three(scores=[0.5, 0.3333], values=float64[2,8,8,3], finite=1 of 2)'
    """
    told = [f"{name}={_tell(value)}" for name, value in result._asdict().items() if value is not None]
    return f"{type(result).__name__}({', '.join(told)})"


def is_known(array: Any) -> bool:
    """Whether the numbers are here: not traced, not given away, not on another machine."""
    if isinstance(array, jax.Array):
        return is_here(array) and not array.is_deleted()
    return isinstance(array, np.ndarray | np.generic | float | int)


def _tell(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{len(value)} sites}}"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return repr(value)
    known = is_known(value)
    if known and value.shape and value.dtype == bool:
        return f"{int(np.asarray(value).sum())} of {value.size}"
    if len(value.shape) > 1 or not known:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    numbers = [f"{number:.4g}" if isinstance(number, float) else str(number) for number in _first(value)]
    return f"[{', '.join(numbers)}]" if value.shape else numbers[0]


def _first(value: Any) -> list[Any]:
    numbers: list[Any] = np.asarray(value).reshape(-1)[:MOST].tolist()
    return [*numbers, "..."] if value.size > MOST else numbers
