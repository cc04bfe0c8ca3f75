"""From photographs to explained photographs: what the command does between reading and drawing."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.progress
from jaxtyping import UInt8

from dmbp_jax.checks import InputError
from dmbp_jax.experiments.chunk_size import even_chunk
from dmbp_jax.experiments.chunks import local_mesh
from dmbp_jax.experiments.explain import explain
from dmbp_jax.experiments.methods import choose_method
from dmbp_jax.ops import contrast
from dmbp_jax.porting import Model
from dmbp_jax.typing import Attribution, Key


class Photograph(NamedTuple):
    """A photograph as the network sees it."""

    path: Path
    rgb: UInt8[np.ndarray, "h w 3"]


class Explained(NamedTuple):
    """A photograph with its prediction and explanation."""

    photograph: Photograph
    logits: np.ndarray
    probabilities: np.ndarray
    target: int
    contrast: int | None
    attributions: dict[str, Attribution]
    """By method; without batch axis, in host memory."""


def explain_photographs(
    model: Model,
    photographs: Sequence[Photograph],
    *,
    target: int | None,
    contrast_with: int | None,
    methods: Sequence[str],
    preset: str,
    batch_size: int | Literal["auto"],
    key: Key,
    progress: "StepProgress",
) -> list[Explained]:
    """Classify photographs of one size, and explain them by each of `methods`.

    `target` None explains each photograph's most likely class; `contrast_with` explains the target's logit
    minus that class's. All devices of this process share the work. `batch_size` is the most that are
    explained at once, or `"auto"`: however many there are, few shapes are compiled (see `even_chunk`).

    Raises `InputError` that names the photograph whose target is the class to contrast it with.
    """
    images = np.stack([model.spec.preprocess.normalize(p.rgb) for p in photographs])
    # One at a time: one program, for any number of photographs.
    classify = jax.jit(model.apply)
    logits = np.concatenate([classify(model.params, images[i : i + 1]) for i in range(len(photographs))])
    probabilities = np.asarray(model.spec.probabilities(jnp.asarray(logits)))
    targets = logits.argmax(axis=1) if target is None else np.full(len(photographs), target)
    for photograph, one in zip(photographs, targets, strict=True):
        if one == contrast_with:
            raise InputError(
                f"{photograph.path}: its most likely class, {model.spec.classes[one]!r}, is the one to "
                "contrast with; name another target"
            )
    explained = (
        targets
        if contrast_with is None
        else jnp.stack([contrast(logits.shape[1], int(t), contrast_with) for t in targets])
    )
    mesh = local_mesh()
    attributions: dict[str, Attribution] = {}
    for number, name in enumerate(methods, start=1):
        method, options = choose_method(
            name, preset, architecture=model.spec.architecture, output=model.spec.output
        )
        progress.begin(f"{name} ({number} of {len(methods)}): " if len(methods) > 1 else "")
        chunk: int | Literal["auto"] = batch_size
        if batch_size != "auto":
            chunk = even_chunk(len(photographs), batch_size, 1 if mesh is None else mesh.size)
        attributions[name] = explain(
            model.apply,
            model.params,
            images,
            explained,
            method,
            key=key,
            batch_size=chunk,
            mesh=mesh,
            progress=False,
            on_step=progress,
            **options,
        )
    return [
        Explained(
            photograph,
            logits[i],
            probabilities[i],
            int(targets[i]),
            contrast_with,
            {
                method: jax.tree.map(lambda leaf, i=i: leaf[i], attribution)
                for method, attribution in attributions.items()
            },
        )
        for i, photograph in enumerate(photographs)
    ]


class StepProgress:
    """A progress display, an `on_step`: "compiling" until the first steps, then a bar.

    On a terminal a rich bar, elsewhere a line at every tenth of the way, both on standard error.
    """

    def __init__(self) -> None:
        self.label = ""
        self._tenths = 0
        self._bar: rich.progress.Progress | None = None

    def begin(self, label: str) -> None:
        """Start with the next piece of work, which is being compiled."""
        self.label, self._tenths = label, 0
        if self._bar is None:
            print(f"{label}compiling", file=sys.stderr, flush=True)
        else:
            self._bar.reset(self._bar.task_ids[0], total=None, description=f"{label}compiling")

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` steps of `total` are done."""
        tenths = done * 10 // total
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=done, total=total, description=f"{self.label}iterating"
            )
        elif tenths > self._tenths and total > 1:
            print(f"{self.label}step {done} of {total}", file=sys.stderr, flush=True)
        self._tenths = tenths

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress for the length of a `with` block."""
        console = rich.console.Console(stderr=True)
        if not console.is_terminal:
            yield
            return
        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
        )
        with rich.progress.Progress(*columns, console=console, transient=True) as bar:
            bar.add_task("compiling", total=None)
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None
