"""Explanations on the screen: in a notebook, or in the system's viewer."""

import io
import sys
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from dmbp_jax.result.describe import is_known

if TYPE_CHECKING:
    import matplotlib.figure

    from dmbp_jax.result.attribution import Attribution

MOST = 6
"""Maps that stand for a batch."""


def show_figure(figure: "matplotlib.figure.Figure") -> None:
    """Show a figure in the notebook that runs this, or else in the system's viewer of pictures."""
    picture = PIL.Image.open(io.BytesIO(_png(figure)))
    # Whoever runs a notebook has imported IPython already; in a terminal that has no kernel, and no pictures.
    shell = sys.modules.get("IPython")
    if shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None:
        from IPython.display import display

        display(picture)
    else:
        picture.show()


def png_of_maps(a: "Attribution") -> bytes | None:
    """The maps of the first images and their scores as a PNG; None if there are none, or not yet (`jit`)."""
    if not (is_known(a.values) and is_known(a.finite)):
        return None

    # Only now: matplotlib is slow to import.
    from dmbp_jax.result.rows import has_maps
    from dmbp_jax.viz import draw_comparison

    if not has_maps(a):
        return None
    batch = np.shape(a.finite)
    first = list(np.ndindex(batch))[:MOST]
    maps = {_name(a, index): np.asarray(a.heatmap[index]) for index in first}
    count = int(np.prod(batch, dtype=int))
    return _png(draw_comparison(None, maps, title="" if count <= MOST else f"{MOST} of {count} explanations"))


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
