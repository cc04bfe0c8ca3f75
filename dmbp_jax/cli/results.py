"""What the command leaves behind for a photograph: its figure and its numbers."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from dmbp_jax.cli.photographs import Explained
from dmbp_jax.data.atomic import atomic_path
from dmbp_jax.pretrained import ModelSpec


def target_name(one: Explained, spec: ModelSpec) -> str:
    """What was explained: a class, or one class minus another."""
    name = spec.classes[one.target]
    return name if one.contrast is None else f"{name} minus {spec.classes[one.contrast]}"


def write_figure(one: Explained, spec: ModelSpec, path: Path) -> None:
    """Draw one method's explanation, or the comparison of several, into a file."""
    from dmbp_jax.viz import draw_comparison, draw_explanation

    name, probability = target_name(one, spec), one.probabilities[one.target]
    title = f"{_printable(one.photograph.path.name)}: {name} ({probability:.0%})"
    maps = {method: np.asarray(a.heatmap) for method, a in one.attributions.items()}
    if len(maps) > 1:
        figure = draw_comparison(one.photograph.rgb, maps, title=f"{title}, {spec.architecture}")
    else:
        ((method, a),) = one.attributions.items()
        parts = {}
        if a.positive is not None and a.negative is not None and a.scores is not None:
            parts[f"positive part, y+ = {a.scores.positive:.3g}"] = np.asarray(a.positive.sum(axis=-1))
            parts[f"negative part, y- = {a.scores.negative:.3g}"] = np.asarray(a.negative.sum(axis=-1))
        figure = draw_explanation(
            one.photograph.rgb,
            maps[method],
            parts,
            title=title,
            subtitle=f"{method}, {spec.architecture}. {_legend(maps[method])}",
        )
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def _legend(heatmap: np.ndarray) -> str:
    if np.nanmin(heatmap, initial=0) < 0:
        return "Red speaks for the class, blue against it."
    return "The redder, the more it matters to the class."


def _printable(name: str) -> str:
    """A file's name with what is not UTF-8 in it replaced, which a figure cannot show."""
    return os.fsencode(name).decode("utf-8", "replace")


def write_arrays(one: Explained, path: Path) -> None:
    """Write the numbers of an explained photograph to a `.npz` file."""
    arrays: dict[str, Any] = {
        "photo": one.photograph.rgb,
        "logits": one.logits,
        "probabilities": one.probabilities,
        "target": one.target,
        "contrast": -1 if one.contrast is None else one.contrast,
    }
    for method, a in one.attributions.items():
        # One method has plain names, several have theirs in front.
        prefix = f"{method}/" if len(one.attributions) > 1 else ""
        parts: dict[str, Any] = {
            "values": a.values,
            "heatmap": a.heatmap,
            "finite": a.finite,
            "positive": a.positive,
            "negative": a.negative,
        }
        if a.scores is not None:
            parts |= {f"score_{name}": value for name, value in a.scores._asdict().items()}
        arrays |= {prefix + name: part for name, part in parts.items() if part is not None}
    # An open file, since NumPy appends ".npz" to names that do not end so, such as "a.NPZ".
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
