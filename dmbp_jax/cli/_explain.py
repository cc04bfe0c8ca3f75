"""The command `explain`: photographs in, figures out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import typer
from jaxtyping import UInt8

import dmbp_jax
from dmbp_jax import models
from dmbp_jax._calls.chunks import by_shape, local_mesh
from dmbp_jax._calls.trial import plain_program
from dmbp_jax._checks import InputError, check_choice
from dmbp_jax._methods import METHODS, VARIANTS, choose_method
from dmbp_jax._plugins import load_plugin
from dmbp_jax._progress import StepProgress
from dmbp_jax.cli._options import (
    Activation,
    BatchSize,
    Depth,
    Network,
    Weights,
    read_activation,
    read_batch_size,
    use_compilation_cache,
)
from dmbp_jax.dmbp import PRESETS
from dmbp_jax.evaluation._items import item_keys
from dmbp_jax.images import Preprocess, example_photo, find_photos
from dmbp_jax.images._files import atomic_path, check_writable
from dmbp_jax.models import Model, ModelSpec
from dmbp_jax.models._load import count_classes
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import write_explanations
from dmbp_jax.targets import contrast
from dmbp_jax.typing import Key

# From photographs to explained photographs.


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
    """Explanations by method; without batch axis, in host memory."""


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
    progress: StepProgress,
) -> list[Explained]:
    """Classify photographs of one size, and explain them by each of `methods`.

    `target` None explains each photograph's most likely class; `contrast_with` explains the target's logit
    minus that class's. All devices of this process share the work. `batch_size` is the most that are
    explained at once, or `"auto"`. Random numbers depend on `key` and the photograph's name, target and
    method only.

    Raises `InputError` that names the photograph whose target is the class to contrast it with.
    """
    images = np.stack([model.spec.preprocess.normalize(p.rgb) for p in photographs])
    # One at a time: one program for any number of photographs.
    classify = plain_program(model.apply)
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
        else jnp.stack([contrast(int(t), contrast_with, classes=logits.shape[1]) for t in targets])
    )
    mesh = local_mesh()
    attributions: dict[str, Attribution] = {}
    for number, name in enumerate(methods, start=1):
        method, options = choose_method(
            name, preset, architecture=model.spec.architecture, output=model.spec.output
        )
        progress.begin(f"{name} ({number} of {len(methods)}): " if len(methods) > 1 else "")
        attributions[name] = dmbp_jax.explain(
            model.apply,
            model.params,
            images,
            explained,
            method,
            key=item_keys(
                key,
                ((one.path.name, int(target)) for one, target in zip(photographs, targets, strict=True)),
                name,
            ),
            batch_size="auto" if batch_size == "auto" else min(batch_size, len(photographs)),
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


# The command's output for a photograph: its figure and its numbers.


def target_name(one: Explained, spec: ModelSpec) -> str:
    """The name of the target: a class, or one class minus another."""
    name = spec.classes[one.target]
    return name if one.contrast is None else f"{name} minus {spec.classes[one.contrast]}"


def write_figure(one: Explained, spec: ModelSpec, path: Path) -> None:
    """Draw one method's explanation, or the comparison of several, into a file."""
    from dmbp_jax.plot import draw_comparison

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
    """A file's name with bytes replaced that are not UTF-8, which a figure cannot show."""
    return os.fsencode(name).decode("utf-8", "replace")


def write_arrays(one: Explained, path: Path) -> None:
    """Write the numbers of an explained photograph to a `.safetensors` file, for `Attribution.load`."""
    # A single method is unnamed in the file; several have their names.
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


# `dmbp-jax explain`: photographs in, figures out.

FIGURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp"})
ARRAY_SUFFIXES = frozenset({".safetensors"})
TOP = 5
TOGETHER = 64
"""Photographs of one size that are explained before their figures are written."""


def explain(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photographs, and folders of photographs.")
    ] = None,
    *,
    example: Annotated[
        bool, typer.Option("--example", help="Explain the photograph that ships with the package.")
    ] = False,
    model: Network = "squeezenet1_1",
    weights: Weights = None,
    activation: Activation = None,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain: index, name, or part of a name. Default: the most likely."),
    ] = None,
    contrast: Annotated[str | None, typer.Option(help="Explain the target minus this class.")] = None,
    method: Annotated[
        str,
        typer.Option(help=f"all, to compare, or one of: {', '.join([*METHODS, *VARIANTS])}; or of a plugin."),
    ] = "dmbp",
    preset: Annotated[
        str | None,
        typer.Option(
            help="fast: DMBP in one backward pass (not in the paper), RISE with 1000 masks. paper: as their "
            "papers. Default: fast.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="<path>",
            help="The figure, or a folder for it; for several photographs a folder. Default: "
            "PHOTO_METHOD.png in the folder where you are.",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="<path>",
            help="Also save the numbers: a .safetensors file, or a folder; for several photographs a folder.",
        ),
    ] = None,
    depth: Depth = None,
    batch_size: BatchSize = "auto",
    seed: Annotated[int, typer.Option(help="Of the methods that draw at random.")] = 0,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A file, or a module, that registers methods or networks of your own."),
    ] = None,
) -> None:
    """Explain photographs: draw which pixels are evidence for a class and which against it."""
    for name in plugin or ():
        load_plugin(name)
    use_compilation_cache()
    check_choice("method", method, ["all", *METHODS, *VARIANTS])
    if preset is not None and not (method == "all" or _has_presets(method)):
        raise InputError(f"--preset is of dmbp and rise; {method} has none")
    preset = preset or "fast"
    check_choice("preset", preset, PRESETS)
    paths = find_photos([*(photos or []), *([example_photo()] if example else [])])
    if not paths:
        raise InputError("no photograph given; name one, or use --example")
    figures = _outputs(paths, output, f"_{method}.png", FIGURE_SUFFIXES)
    arrays = None if save is None else _outputs(paths, save, f"_{method}.safetensors", ARRAY_SUFFIXES)
    loaded = models.load_model(model, weights).with_output(read_activation(activation))
    loaded = count_classes(loaded, (*loaded.spec.preprocess.input_size(256, 256), 3))
    index = None if target is None else loaded.spec.class_index(target)
    other = None if contrast is None else loaded.spec.class_index(contrast)
    if other is not None and other == index:
        raise InputError(f"target and contrast are both {loaded.spec.classes[other]!r}")

    console = rich.console.Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    photographs, failed = _read(paths, loaded.spec.preprocess, depth)
    progress = StepProgress()
    groups = by_shape(photographs, lambda one: one.rgb.shape)
    # What is drawn and written is not kept: the memory does not grow with the number of photographs.
    parts = [group[at : at + TOGETHER] for group in groups for at in range(0, len(group), TOGETHER)]
    for part in parts:
        with progress.shown():
            explained = explain_photographs(
                loaded,
                part,
                target=index,
                contrast_with=other,
                methods=list(METHODS) if method == "all" else [method],
                preset=preset,
                batch_size=read_batch_size(batch_size),
                key=jax.random.key(seed),
                progress=progress,
            )
        for one in explained:
            console.print(_describe(one, loaded.spec, preset))
            write_figure(one, loaded.spec, figures[one.photograph.path])
            console.print(f"wrote {figures[one.photograph.path]}")
            if arrays is not None:
                write_arrays(one, arrays[one.photograph.path])
                console.print(f"wrote {arrays[one.photograph.path]}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(paths)} photographs could not be explained:\n"
            + "\n".join(f"  {reason}" for reason in failed)
        )


def _has_presets(method: str) -> bool:
    fast, paper = (
        choose_method(method, preset, architecture="", output="softmax") for preset in ("fast", "paper")
    )
    return fast != paper


def _read(paths: list[Path], preprocess: Preprocess, depth: int | None) -> tuple[list[Photograph], list[str]]:
    """The photographs that can be read, and the errors of the others; a single unreadable one raises."""
    photographs, failed = [], []
    for path in paths:
        try:
            photographs.append(Photograph(path, preprocess.crop_photo(path, depth=depth)))
        except InputError as error:
            if len(paths) == 1:
                raise
            failed.append(str(error))
    return photographs, failed


def _outputs(paths: list[Path], given: str | None, end: str, allowed: frozenset[str]) -> dict[Path, Path]:
    """The output file for each photograph: distinct files in a writable folder.

    A name that ends with a slash is a folder.
    """
    folder = Path(given or "")
    if len(paths) == 1 and given is not None and not (folder.is_dir() or given.endswith((os.sep, "/"))):
        if folder.suffix.lower() not in allowed:
            endings = ", ".join(sorted(allowed))
            raise InputError(f"cannot write {given}: a file's ending must be {endings}, a folder's /")
        chosen = {paths[0]: folder}
    else:
        # "out.png" is never meant as a folder.
        if not folder.is_dir() and (folder.exists() or folder.suffix.lower() in allowed):
            raise InputError(f"several photographs need a folder to write to, but {folder} names a file")
        chosen = {}
        for path in paths:
            number, candidate = 1, folder / f"{path.stem}{end}"
            while candidate in chosen.values():
                number += 1
                candidate = folder / f"{path.stem}-{number}{end}"
            chosen[path] = candidate
    given_files = {_file_id(path) for path in paths}
    for destination in chosen.values():
        if destination.exists() and _file_id(destination) in given_files:
            raise InputError(f"{destination} is itself to be explained; choose another name to write to")
        check_writable(destination)
    return chosen


def _file_id(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _describe(one: Explained, spec: models.ModelSpec, preset: str) -> str:
    width = max(len(spec.classes[i]) for i in _top(one))
    lines = [f"\n{one.photograph.path}"]
    lines += [f"  {spec.classes[i]:<{width}}  {one.probabilities[i]:6.1%}  (class {i})" for i in _top(one)]
    scores = next((a.scores for a in one.attributions.values() if a.scores is not None), None)
    depends = scores is not None or "rise" in one.attributions
    lines.append(f"explained: {target_name(one, spec)}" + (f", preset {preset}" if depends else ""))
    if scores is not None:
        y, positive, negative, nuisance = (float(score) for score in scores)
        lines.append(f"y = {y:.4g}: y+ = {positive:.4g}, y- = {negative:.4g}, y~ = {nuisance:.4g}")
    if "dmbp" in one.attributions and preset == "fast":
        lines.append(
            "(preset fast, one backward pass; the paper's 200 steps give other maps and scores: "
            "--preset paper)"
        )
    broken = [name for name, a in one.attributions.items() if not a.finite]
    if broken:
        lines.append(f"warning: some numbers are infinite or NaN: {', '.join(broken)}")
    return "\n".join(lines)


def _top(one: Explained) -> list[int]:
    return [int(i) for i in np.argsort(-one.probabilities, kind="stable")[:TOP]]
