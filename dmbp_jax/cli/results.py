"""What the command leaves behind for a photograph: its figure and its numbers."""

import os
from pathlib import Path

import numpy as np

from dmbp_jax.cli.photographs import Explained
from dmbp_jax.data.atomic import atomic_path
from dmbp_jax.pretrained import ModelSpec
from dmbp_jax.result.files import write_explanations


def target_name(one: Explained, spec: ModelSpec) -> str:
    """What was explained: a class, or one class minus another."""
    name = spec.classes[one.target]
    return name if one.contrast is None else f"{name} minus {spec.classes[one.contrast]}"


def write_figure(one: Explained, spec: ModelSpec, path: Path) -> None:
    """Draw one method's explanation, or the comparison of several, into a file."""
    from dmbp_jax.viz import draw_comparison

    name, probability = target_name(one, spec), one.probabilities[one.target]
    title = f"{_printable(one.photograph.path.name)}: {name} ({probability:.0%})"
    if len(one.attributions) > 1:
        maps = {method: np.asarray(a.heatmap) for method, a in one.attributions.items()}
        figure = draw_comparison(one.photograph.rgb, maps, title=f"{title}, {spec.architecture}")
    else:
        ((method, a),) = one.attributions.items()
        figure = a.plot(one.photograph.rgb, titles=title, captions=f"{method}, {spec.architecture}.")
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def _printable(name: str) -> str:
    """A file's name with what is not UTF-8 in it replaced, which a figure cannot show."""
    return os.fsencode(name).decode("utf-8", "replace")


def write_arrays(one: Explained, path: Path) -> None:
    """Write the numbers of an explained photograph to a `.safetensors` file, for `Attribution.load`."""
    # One method has no name in the file, several have theirs.
    named = {
        method if len(one.attributions) > 1 else "": a.fields() for method, a in one.attributions.items()
    }
    beside = {
        "photo": one.photograph.rgb,
        "logits": one.logits,
        "probabilities": one.probabilities,
        "target": one.target,
        "contrast": -1 if one.contrast is None else one.contrast,
    }
    write_explanations(path, named, beside)
