"""From photographs to explained photographs: what the command does between reading and drawing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from dmbp_jax.batching.chunks import local_mesh
from dmbp_jax.checks import InputError
from dmbp_jax.evaluation.items import item_key
from dmbp_jax.explain import explain
from dmbp_jax.methods import choose_method
from dmbp_jax.pretrained import Model
from dmbp_jax.progress import StepProgress
from dmbp_jax.result import Attribution
from dmbp_jax.targets import contrast
from dmbp_jax.typing import Key


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
    progress: StepProgress,
) -> list[Explained]:
    """Classify photographs of one size, and explain them by each of `methods`.

    `target` None explains each photograph's most likely class; `contrast_with` explains the target's logit
    minus that class's. All devices of this process share the work. `batch_size` is the most that are
    explained at once, or `"auto"`. What is drawn from `key` belongs to a photograph's name, target and
    method, whatever is explained beside it.

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
        attributions[name] = explain(
            model.apply,
            model.params,
            images,
            explained,
            method,
            key=jnp.stack(
                [
                    item_key(key, photograph.path.name, int(target), name)
                    for photograph, target in zip(photographs, targets, strict=True)
                ]
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
