"""What a run computes: its options checked, its parts in order; and what is recorded of it."""

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dmbp_jax._calls.chunks import by_shape, local_mesh, most_at_once, replicate
from dmbp_jax._calls.trial import check_network, try_network
from dmbp_jax._checks import InputError
from dmbp_jax.evaluation._evaluate import Evaluation
from dmbp_jax.evaluation._fingerprint import code_of, fingerprint, fingerprint_tree
from dmbp_jax.evaluation._items import Metric, Setting, choose_recognized, label_indices
from dmbp_jax.evaluation._methods import EvaluatedMethod, choose_methods
from dmbp_jax.evaluation._registry import check_metrics, choose_metrics
from dmbp_jax.images import (
    Dataset,
    LoadedSample,
    Problem,
    Sample,
    open_dataset,
    read_sample,
    read_segmentation,
)
from dmbp_jax.images._samples import input_shape, take
from dmbp_jax.models import Model, ModelSpec, load_model
from dmbp_jax.models._load import count_classes

# The record of a run: the settings that determine its rows; versions, devices and dates.


def config_of(
    evaluation: Evaluation,
    model: Model,
    dataset: Dataset,
    chunks: Sequence[Sequence[Sample]],
    methods: Sequence[EvaluatedMethod],
) -> dict[str, Any]:
    """What determines the rows: a run is continued only with the same."""
    return {
        **evaluation.determining(),
        "dataset": dataset.kind,
        "samples": len(dataset.samples),
        # In their chunks: a photograph whose size cannot be told any more belongs to another one.
        "samples_sha256": fingerprint(
            [repr([[_anywhere(sample) for sample in chunk] for chunk in chunks]), *_arrays(dataset)]
        ),
        "chunks": len(chunks),
        "model": model.spec.architecture,
        "weights": model.spec.tag,
        "weights_sha256": fingerprint_tree(model.params),
        "apply_sha256": code_of(model.apply).fingerprint,
        "preprocess_sha256": fingerprint(model.spec.preprocess),
        "output": model.spec.output,
        "classes_sha256": fingerprint([model.spec.classes, model.spec.wnids]),
        "methods": {one.name: one.describe() for one in methods},
        **_makers(),
    }


def about_of(
    evaluation: Evaluation, spec: ModelSpec, dataset: Dataset, methods: Sequence[EvaluatedMethod]
) -> dict[str, Any]:
    """For the record: versions, the machine, where the data lay, the names of classes and methods."""
    return {
        "data": evaluation.samples if isinstance(evaluation.samples, str) else "arrays in memory",
        "classes": _class_names(dataset, spec, evaluation.target),
        "titles": {one.name: one.title for one in methods},
        **_versions(),
    }


def _anywhere(sample: Sample) -> Sample:
    """A sample without the folders that it lies in."""
    mask = sample.segmentation
    return sample._replace(paths=(), segmentation=None if mask is None else Path(mask.name))


def _arrays(dataset: Dataset) -> Iterator[Any]:
    for sample in dataset.samples if dataset.arrays is not None else ():
        loaded = (dataset.arrays or {})[sample.name]
        yield from (loaded.image, loaded.masks)


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


# The plan of an evaluation: every choice is made and checked before anything is computed.


class Plan(NamedTuple):
    """An evaluation made concrete: everything that can go wrong before the work has not."""

    model: Model
    methods: tuple[EvaluatedMethod, ...]
    metrics: tuple[Metric, ...]
    chunks: tuple[tuple[Sample, ...], ...]
    problems: tuple[Problem, ...]
    arrays: Mapping[str, LoadedSample]
    """The samples that are in memory already, by name."""
    gallery: frozenset[str]
    target: str
    keep_maps: bool
    depth: int | None
    setting: Setting
    config: dict[str, Any]
    """What determines the rows: a run is continued only with the same."""
    about: dict[str, Any]
    """For the record: versions, the machine, where the data lay, the names of classes and methods."""

    def read(self, sample: Sample) -> LoadedSample:
        """What the network sees of a sample; raises `InputError` as `read_sample` does."""
        if sample.name in self.arrays:
            return self.arrays[sample.name]
        loaded = read_sample(sample, self.model.spec.preprocess, depth=self.depth)
        if not any(metric.regions for metric in self.metrics):
            return loaded
        segmentation = read_segmentation(sample, self.model.spec.preprocess, loaded.size)
        if segmentation is None:
            return loaded
        masks = np.stack([segmentation.region(label) for label in sample.labels])
        return loaded._replace(masks=masks, void=segmentation.void)

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
    given, data = evaluation.model(), evaluation.dataset()
    load = functools.cache(
        lambda: (given if isinstance(given, Model) else load_model(given, evaluation.weights)).with_output(
            evaluation.output
        )
    )
    dataset = data if isinstance(data, Dataset) else _open(evaluation, data, load)
    if evaluation.depth is not None and dataset.arrays is not None:
        raise InputError("depth is of photographs in files: these samples are arrays, scaled already")
    model = _with_classes(load(), dataset)
    methods = choose_methods(
        evaluation.given_methods,
        preset=evaluation.preset,
        steps=evaluation.steps,
        architecture=model.spec.architecture,
        output=model.spec.output,
    )
    if evaluation.per_class is None and evaluation.preset == "paper" and dataset.kind == "imagenet":
        evaluation = dataclasses.replace(evaluation, per_class=5)
    dataset = take(dataset, limit=evaluation.limit, per_class=evaluation.per_class, seed=evaluation.seed)
    for sample in dataset.samples:
        label_indices(sample, model.spec)
    _check_no_rows(dataset, model.spec)
    several = any(len(sample.labels) > 1 for sample in dataset.samples)
    metrics = choose_metrics(
        evaluation.given_metrics or (("insertion", "complementary_insertion") if several else ("insertion",))
    )
    check_metrics(
        metrics,
        dataset,
        classes=len(model.spec.classes),
        maps_only=[one.name for one in methods if one.maps],
    )
    _check_maps(methods, dataset, model.spec, evaluation.target)
    gallery = (
        take(dataset, limit=evaluation.gallery, seed=evaluation.seed).samples if evaluation.gallery else ()
    )
    mesh = local_mesh()
    at_once = evaluation.batch_size
    if at_once == "auto":
        together = together or most_at_once(jax.local_devices()[0]) * jax.local_device_count()
        evaluation = dataclasses.replace(evaluation, batch_size=together)
    chunks = _chunks(dataset, model.spec, evaluation)
    return Plan(
        model,
        methods,
        metrics,
        chunks,
        dataset.problems,
        dataset.arrays or {},
        frozenset(sample.name for sample in gallery),
        evaluation.target,
        evaluation.keep_maps,
        evaluation.depth,
        Setting(model, jax.random.key(evaluation.seed), at_once, mesh, replicate(model.params, mesh)),
        config_of(evaluation, model, dataset, chunks, methods),
        about_of(evaluation, model.spec, dataset, methods),
    )


def _open(evaluation: Evaluation, data: str, load: Callable[[], Model]) -> Dataset:
    return open_dataset(
        data,
        split=evaluation.split,
        seed=evaluation.seed,
        grid=evaluation.grid,
        choose=lambda photographs: choose_recognized(
            photographs,
            _with_classes(load(), photographs),
            limit=evaluation.limit,
            seed=evaluation.seed,
            depth=evaluation.depth,
        ),
    )


def _with_classes(model: Model, dataset: Dataset) -> Model:
    """The model with classes, counted if need be; `InputError` for images that it cannot take."""
    if dataset.arrays is not None:
        return _with_classes_of(model, dataset)
    # The number of classes does not depend on the size.
    return count_classes(model, (*model.spec.preprocess.input_size(256, 256), 3))


def _with_classes_of(model: Model, dataset: Dataset) -> Model:
    """As `_with_classes` for arrays, each shape of which is tried."""
    check_network(model.apply, model.params)
    arrays = dataset.arrays or {}
    first = {arrays[sample.name].image.shape: sample.name for sample in reversed(dataset.samples)}
    for shape, name in first.items():
        try:
            logits = try_network(model.apply, model.params, np.zeros((1, *shape), np.float32))
        except InputError as error:
            raise InputError(f"the image {name!r}: {error}") from error
        model = count_classes(model, shape)
        if logits.shape[1] != len(model.spec.classes):
            raise InputError(
                f"the network has {logits.shape[1]} logits and {len(model.spec.classes)} names of classes: "
                "give a name for each"
            )
    return model


def _check_no_rows(dataset: Dataset, spec: ModelSpec) -> None:
    """Raise `InputError` where the targets of images may be one-hot rows of a network of two classes, which
    are whole numbers, as the indices of both classes are."""
    arrays = dataset.arrays
    if arrays is None or len(spec.classes) != 2:
        return
    if all(
        set(one.labels) == {"0", "1"} and len(one.labels) == 2 and arrays[one.name].masks is None
        for one in dataset.samples
    ):
        raise InputError(
            "each image has the targets 0 and 1, which may be a one-hot row: of such rows give "
            f"targets.argmax(axis=1), and for both classes of each image their names, {spec.classes!r}"
        )


def _check_maps(methods: Sequence[EvaluatedMethod], dataset: Dataset, spec: ModelSpec, target: str) -> None:
    """Raise `InputError` for a map that is not in its folder, before any other is measured."""
    for one in methods:
        if one.maps is None:
            continue
        for sample in dataset.samples:
            targets = label_indices(sample, spec) if target == "truth" else (None,)
            for index in targets:
                one.maps.find(sample.name, index, alone=len(targets) == 1)


def _chunks(dataset: Dataset, spec: ModelSpec, evaluation: Evaluation) -> tuple[tuple[Sample, ...], ...]:
    """Samples of one input size together, so that each size is compiled once and batches are full."""

    def shape(sample: Sample) -> tuple[int, int] | None:
        if dataset.arrays is None:
            return input_shape(sample, spec.preprocess)
        return dataset.arrays[sample.name].size

    return tuple(chunk for group in by_shape(dataset.samples, shape) for chunk in _cut(group, evaluation))


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
