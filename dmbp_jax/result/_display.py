"""The text of an explanation in one line, and its figure in a notebook."""

import dataclasses
import io
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import PIL.Image

from dmbp_jax._checks import is_here

if TYPE_CHECKING:
    import matplotlib.figure

    from dmbp_jax.result._attribution import Attribution


# A result in one line: shapes instead of pages of numbers.

MOST_NUMBERS = 4
"""The most numbers that are written out."""


def describe(result: Any) -> str:
    """A NamedTuple or dataclass of arrays in one line: the first numbers of a vector, the number of true
    flags, otherwise dtype and shape.

    Works on tracers, shapes and axes instead of arrays as well.

    >>> from typing import NamedTuple
    >>> class Three(NamedTuple):
    ...     scores: np.ndarray
    ...     values: np.ndarray
    ...     finite: np.ndarray
    >>> describe(Three(np.asarray([0.5, 1 / 3]), np.zeros((2, 8, 8, 3)), np.asarray([True, False])))
    'Three(scores=[0.5, 0.3333], values=float64[2,8,8,3], finite=1 of 2)'
    """
    fields = vars(result) if dataclasses.is_dataclass(result) else result._asdict()
    told = [f"{name}={_tell(value)}" for name, value in fields.items() if value is not None]
    return f"{type(result).__name__}({', '.join(told)})"


def is_known(array: Any) -> bool:
    """Whether the values are available: not traced, not donated, not on another machine."""
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
    numbers: list[Any] = np.asarray(value).reshape(-1)[:MOST_NUMBERS].tolist()
    return [*numbers, "..."] if value.size > MOST_NUMBERS else numbers


# Explanations on the screen: in a notebook, or in the system's viewer.

MOST_MAPS = 6
"""The most maps shown of a batch."""


def show_figure(figure: "matplotlib.figure.Figure") -> None:
    """Show a figure in the notebook that runs this, or else in the system's viewer of pictures."""
    picture = PIL.Image.open(io.BytesIO(_png(figure)))
    # A notebook has imported IPython already; in a terminal IPython has no kernel and shows no images.
    shell = sys.modules.get("IPython")
    if shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None:
        from IPython.display import display

        display(picture)
    else:
        picture.show()


def png_of_maps(a: "Attribution") -> bytes | None:
    """The maps of the first images and their scores as a PNG; None without maps, or inside `jit`."""
    if not (is_known(a.values) and is_known(a.finite)):
        return None

    # Imported on use: matplotlib is slow to import.
    from dmbp_jax.plot import draw_comparison
    from dmbp_jax.result._rows import has_maps

    if not has_maps(a):
        return None
    batch = np.shape(a.finite)
    first = list(np.ndindex(batch))[:MOST_MAPS]
    maps = {_name(a, index): np.asarray(a.heatmap[index]) for index in first}
    count = int(np.prod(batch, dtype=int))
    return _png(
        draw_comparison(
            None, maps, title="" if count <= MOST_MAPS else f"{MOST_MAPS} of {count} explanations"
        )
    )


def _name(a: "Attribution", index: tuple[int, ...]) -> str:
    lines = [f"image {index[0]}" if len(index) == 1 else ", ".join(map(str, index)) or "map"]
    if a.scores is not None:
        total, positive, negative, _ = (float(score[index]) for score in a.scores)
        lines += [f"y = {total:.3g}", f"y+ = {positive:.3g}, y- = {negative:.3g}"]
    if not a.finite[index]:
        lines.append("not finite")
    return "\n".join(lines)


def _png(figure: "matplotlib.figure.Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
