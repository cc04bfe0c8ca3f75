"""What an evaluation stores, and the types of its columns."""

from types import NoneType
from typing import NamedTuple

TEXT, WHOLE, NUMBER = (str,), (int,), (float, int, NoneType)
"""What may stand in a column."""
UNIT = (WHOLE, TEXT, TEXT)
ROW = (TEXT, WHOLE, TEXT, TEXT, NUMBER, NUMBER, (str, NoneType))
PICTURE = (TEXT, WHOLE, TEXT, (bytes,))
MAP = (TEXT, WHOLE, TEXT, NUMBER, WHOLE, WHOLE, (float,), (bytes,))


class Row(NamedTuple):
    """One measurement."""

    image: str
    target: int
    """Class index."""
    method: str
    metric: str
    value: float | None
    """None where the metric is not defined, such as the correlation with a constant map."""
    seconds: float | None
    """That explaining this image for this target took, compiling left out: its share of its batch. None for a
    map that was not made here."""
    curve: tuple[float | None, ...] | None = None
    """What the metric sums up, if anything: probabilities, or one value per randomised layer."""


class Picture(NamedTuple):
    """A small picture for the report: a heat map, or with method `""` and target -1 the photograph."""

    image: str
    target: int
    method: str
    png: bytes


def storable(text: str) -> str:
    """`text` as it is stored: what is not valid in UTF-8, as a file's name may be, is spelled out.

    >>> storable("caf\\udce9.jpg")
    'caf\\\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Unit(NamedTuple):
    """What is done as a whole or not at all."""

    chunk: int
    method: str
    metric: str
    """As it is asked for: `contrast` has the rows `contrast_red` and `contrast_blue`."""
