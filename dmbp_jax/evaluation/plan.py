"""What an evaluation is to do, made concrete before any work begins."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from dmbp_jax.batching.chunk_size import most_at_once
from dmbp_jax.batching.chunks import local_mesh, replicate
from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.data import Dataset, Problem, Sample, input_shape, open_dataset, take
from dmbp_jax.dmbp import PRESETS
from dmbp_jax.evaluation.contestants import Contestant, choose_contestants
from dmbp_jax.evaluation.items import Setting, label_indices
from dmbp_jax.evaluation.measures import MEASURES, check_metrics
from dmbp_jax.evaluation.recognized import choose_recognized
from dmbp_jax.pretrained import Model, ModelSpec, load_model

TARGETS = ("truth", "predicted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is to be evaluated.

    Raises `InputError` for a value outside its range.
    """

    data: str
    """`imagenet:PATH`, `voc2007:PATH`, `voc2012:PATH`, `folder:PATH`, or `grid:` or `pairs:` before any of
    them; pairs are of photographs that the network gets right."""
    split: str | None = None
    """VOC's list of images in `ImageSets/Main`, by default `val`."""
    model: str = "squeezenet1_1"
    weights: str | None = None
    """A tag of the manifest or a `.safetensors` file; None takes the first entry of the manifest."""
    methods: tuple[str, ...] = ("table2",)
    """Names in `contestants.KNOWN` and `contestants.GROUPS`."""
    metrics: tuple[str, ...] | None = None
    """Names in `measures.MEASURES`; None takes those of the paper that the dataset allows: `im`, and `cim`
    where images have several classes."""
    preset: str = "fast"
    """`"paper"`: 200 steps of DMBP, RISE's own number of masks, and five random images of each class of
    ImageNet. `"fast"`: a quick look."""
    steps: int | None = None
    """DMBP's number of steps in place of the 200 of preset `"paper"`."""
    target: str = "truth"
    """What is explained: `"truth"`, each true class in turn, or `"predicted"`, the most likely class."""
    limit: int | None = None
    """Evaluate a random subset of this many images."""
    per_class: int | None = None
    """Evaluate so many random images of each class; None under the preset `paper`, on ImageNet: 5."""
    seed: int = 0
    """For the subset, composites, methods that draw, and re-initialised layers."""
    batch_size: int | Literal["auto"] = "auto"
    """Targets that are explained at once, and as many images as have them are stored together. `"auto"`
    stores together what the devices explain at once at most, and explains at once as many of them as the free
    memory holds; a run that is continued keeps its number."""
    grid: int = 2
    """Composites have `grid * grid` cells."""
    gallery: int = 32
    """So many images, a random subset, keep their maps for the report."""

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, PRESETS)
        check_choice("target", self.target, TARGETS)
        for metric in self.metrics or ():
            check_choice("metric", metric, MEASURES)
        for name, least in (("limit", 1), ("per_class", 1), ("batch_size", 1), ("grid", 2), ("gallery", 0)):
            value = getattr(self, name)
            if value not in (None, "auto") and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")


class Plan(NamedTuple):
    """An evaluation made concrete: everything that can go wrong before the work has not."""

    model: Model
    contestants: tuple[Contestant, ...]
    metrics: tuple[str, ...]
    chunks: tuple[tuple[Sample, ...], ...]
    problems: tuple[Problem, ...]
    gallery: frozenset[str]
    target: str
    setting: Setting
    config: dict[str, Any]
    """What determines the rows: a run is continued only with the same."""
    about: dict[str, Any]
    """For the record: versions, the machine, where the data lay, the names of the classes."""

    def span(self, number: int) -> str:
        """Which images are in a chunk, for people."""
        before = sum(len(chunk) for chunk in self.chunks[:number])
        total = sum(len(chunk) for chunk in self.chunks)
        return f"{before + 1} to {before + len(self.chunks[number])} of {total}"


def make_plan(evaluation: Evaluation, *, together: int | None = None) -> Plan:
    """Open the dataset, load the model, choose the samples.

    `together` is what the batch size `"auto"` stores together; None leaves it to the devices.

    Raises `InputError` for whatever cannot be done: a dataset that is not there, a label that the model does
    not know, a metric that the dataset does not allow.
    """
    # Only once, and not before the dataset is known to be there: its weights may have to be fetched.
    load = functools.cache(lambda: load_model(evaluation.model, evaluation.weights))
    dataset = open_dataset(
        evaluation.data,
        split=evaluation.split,
        seed=evaluation.seed,
        grid=evaluation.grid,
        choose=lambda photographs: choose_recognized(
            photographs, load(), limit=evaluation.limit, seed=evaluation.seed
        ),
    )
    model = load()
    contestants = choose_contestants(
        evaluation.methods,
        preset=evaluation.preset,
        steps=evaluation.steps,
        architecture=model.spec.architecture,
        output=model.spec.output,
    )
    per_class = evaluation.per_class
    if per_class is None and evaluation.preset == "paper" and dataset.kind == "imagenet":
        per_class = 5
    dataset = take(dataset, limit=evaluation.limit, per_class=per_class, seed=evaluation.seed)
    for sample in dataset.samples:
        label_indices(sample, model.spec)
    several = any(len(sample.labels) > 1 for sample in dataset.samples)
    metrics = tuple(dict.fromkeys(evaluation.metrics or (("im", "cim") if several else ("im",))))
    check_metrics(metrics, dataset)
    gallery = (
        take(dataset, limit=evaluation.gallery, seed=evaluation.seed).samples if evaluation.gallery else ()
    )
    mesh = local_mesh()
    at_once = evaluation.batch_size
    if at_once == "auto":
        together = together or most_at_once(jax.local_devices()[0]) * jax.local_device_count()
        evaluation = dataclasses.replace(evaluation, batch_size=together)
    chunks = _chunks(dataset, model.spec, evaluation)
    config = {
        **dataclasses.asdict(evaluation),
        "dataset": dataset.kind,
        "samples": len(dataset.samples),
        # In their chunks: a photograph whose size cannot be told any more belongs to another one.
        "samples_sha256": _fingerprint(
            repr([[sample._replace(paths=()) for sample in chunk] for chunk in chunks]).encode()
        ),
        "chunks": len(chunks),
        "weights": model.spec.tag,
        "weights_sha256": _fingerprint(
            *(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(model.params))
        ),
        "methods": {one.name: one.describe() for one in contestants},
        "metrics": list(metrics),
        "per_class": per_class,
        **_makers(),
    }
    # Recorded, not compared: the same samples may be named by another path.
    about = {
        "data": config.pop("data"),
        "classes": _class_names(dataset, model.spec, evaluation.target),
        **_versions(),
    }
    return Plan(
        model,
        contestants,
        metrics,
        chunks,
        dataset.problems,
        frozenset(sample.name for sample in gallery),
        evaluation.target,
        Setting(model, jax.random.key(evaluation.seed), at_once, mesh, replicate(model.params, mesh)),
        config,
        about,
    )


def _chunks(dataset: Dataset, spec: ModelSpec, evaluation: Evaluation) -> tuple[tuple[Sample, ...], ...]:
    """Samples of one input size together, so that each size is compiled once and batches are full."""
    groups: dict[tuple[int, int] | None, list[Sample]] = {}
    for sample in dataset.samples:
        groups.setdefault(input_shape(sample, spec.preprocess), []).append(sample)
    return tuple(chunk for group in groups.values() for chunk in _cut(group, evaluation))


def _cut(samples: list[Sample], evaluation: Evaluation) -> Iterator[tuple[Sample, ...]]:
    """As many samples at a time as have no more than `batch_size` targets; at least one."""
    chunk: list[Sample] = []
    targets = 0
    for sample in samples:
        more = len(sample.labels) if evaluation.target == "truth" else 1
        if chunk and targets + more > int(evaluation.batch_size):
            yield tuple(chunk)
            chunk, targets = [], 0
        chunk.append(sample)
        targets += more
    if chunk:
        yield tuple(chunk)


def _fingerprint(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _class_names(dataset: Dataset, spec: ModelSpec, target: str) -> dict[str, str]:
    """The names of the classes that rows can speak of."""
    if target == "predicted":
        return {str(index): name for index, name in enumerate(spec.classes)}
    true = {index for sample in dataset.samples for index in label_indices(sample, spec)}
    return {str(index): spec.classes[index] for index in sorted(true)}


def _makers() -> dict[str, Any]:
    """What computes the rows: another version, or another kind of device, gives other numbers."""
    device = jax.local_devices()[0]
    packages = ("dmbp_jax", "jax", "jaxlib")
    return {
        "computed_by": {name: importlib.metadata.version(name) for name in packages},
        "device": f"{device.platform}, {device.device_kind}",
    }


def _versions() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "pillow")}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
