"""What a run computes: its options checked, its parts in order; and what is recorded of it."""

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from dmbp_jax._calls.chunks import local_mesh, most_at_once, replicate
from dmbp_jax._calls.trial import check_network, try_network
from dmbp_jax._checks import InputError, check_choice, check_whole
from dmbp_jax.dmbp import PRESETS
from dmbp_jax.evaluation._fingerprint import code_of, fingerprint, fingerprint_tree
from dmbp_jax.evaluation._items import Metric, Setting, choose_recognized, label_indices
from dmbp_jax.evaluation._methods import Contestant, choose_contestants
from dmbp_jax.evaluation._own_metrics import MetricFunction
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
from dmbp_jax.images._depth import check_depth
from dmbp_jax.images._samples import input_shape, take
from dmbp_jax.models import Model, ModelSpec, load_model
from dmbp_jax.models._load import count_classes
from dmbp_jax.ops._derivatives import check_output
from dmbp_jax.result import Method
from dmbp_jax.typing import OutputActivation

# The record of a run: the settings that determine its rows; versions, devices and dates.


def config_of(
    options: dict[str, Any],
    model: Model,
    dataset: Dataset,
    chunks: Sequence[Sequence[Sample]],
    contestants: Sequence[Contestant],
) -> dict[str, Any]:
    """What determines the rows: a run is continued only with the same."""
    return {
        # Metrics may be added to a run; the same samples may be named by another path.
        **{name: value for name, value in options.items() if name not in ("data", "metrics")},
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
        "methods": {one.name: one.describe() for one in contestants},
        **_makers(),
    }


def about_of(
    options: dict[str, Any], spec: ModelSpec, dataset: Dataset, contestants: Sequence[Contestant]
) -> dict[str, Any]:
    """For the record: versions, the machine, where the data lay, the names of classes and methods."""
    return {
        "data": options["data"] if isinstance(options["data"], str) else "arrays in memory",
        "classes": _class_names(dataset, spec, options["target"]),
        "titles": {one.name: one.title for one in contestants},
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

TARGETS = ("truth", "predicted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is to be evaluated.

    Raises `InputError` for a value outside its range.
    """

    data: str | Dataset
    """`imagenet:PATH`, `voc2007:PATH`, `voc2012:PATH`, `folder:PATH`, a kind of `register_dataset`, or
    `grid:` or `pairs:` before any of the package's; pairs are of photographs that the network gets right. Or
    a dataset."""
    split: str | None = None
    """VOC's list of images in `ImageSets/Main`, by default `val`."""
    model: str | Model = "squeezenet1_1"
    """A name as `load_model` takes it, or a network."""
    weights: str | None = None
    """A tag of the manifest or a `.safetensors` file; None takes the first entry of the manifest."""
    output: OutputActivation | None = None
    """What makes probabilities of the logits; None: what the model says."""
    methods: tuple[str | Method, ...] = ("table2",)
    """Names of methods, `all`, names of groups of methods such as `table2`, `maps:FOLDER`, functions."""
    metrics: tuple[str | MetricFunction, ...] | None = None
    """Names of metrics, functions; None takes those of the paper that the dataset allows: `insertion`, and
    `complementary_insertion` where images have several classes."""
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
    depth: int | None = None
    """Bits of the photographs' values where their files do not say so."""
    batch_size: int | Literal["auto"] = "auto"
    """Targets that are explained at once, and as many images as have them are stored together. `"auto"`
    stores together what the devices explain at once at most, and explains at once as many of them as the free
    memory holds; a run that is continued keeps its number."""
    grid: int = 2
    """Composites have `grid * grid` cells."""
    gallery: int = 32
    """So many images, a random subset, keep small pictures of their maps for the report."""
    keep_maps: bool = False
    """Keep every map, in half precision, so that a metric that is added later explains nothing anew; all
    metrics measure the maps as they are kept."""

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, PRESETS)
        check_choice("target", self.target, TARGETS)
        check_output(self.output)
        check_depth(self.depth)
        choose_metrics(self.metrics or ())
        if self.metrics is not None and not self.metrics:
            raise InputError("no metric given: name one or several, or leave metrics out")
        for name, least in (("limit", 1), ("per_class", 1), ("grid", 2), ("gallery", 0), ("seed", -(2**63))):
            value = getattr(self, name)
            if value is not None or name not in ("limit", "per_class"):
                check_whole(name, value, least=least)
        if self.batch_size != "auto":
            check_whole("batch_size", self.batch_size, least=1)


class Plan(NamedTuple):
    """An evaluation made concrete: everything that can go wrong before the work has not."""

    model: Model
    contestants: tuple[Contestant, ...]
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
    given = evaluation.model
    load = functools.cache(
        lambda: (given if isinstance(given, Model) else load_model(given, evaluation.weights)).with_output(
            evaluation.output
        )
    )
    dataset = (
        evaluation.data if isinstance(evaluation.data, Dataset) else _open(evaluation, evaluation.data, load)
    )
    if evaluation.depth is not None and dataset.arrays is not None:
        raise InputError("depth is of photographs in files: these samples are arrays, scaled already")
    model = _with_classes(load(), dataset)
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
    _check_no_rows(dataset, model.spec)
    several = any(len(sample.labels) > 1 for sample in dataset.samples)
    metrics = choose_metrics(
        evaluation.metrics or (("insertion", "complementary_insertion") if several else ("insertion",))
    )
    check_metrics(
        metrics,
        dataset,
        classes=len(model.spec.classes),
        maps_only=[one.name for one in contestants if one.maps],
    )
    _check_maps(contestants, dataset, model.spec, evaluation.target)
    gallery = (
        take(dataset, limit=evaluation.gallery, seed=evaluation.seed).samples if evaluation.gallery else ()
    )
    mesh = local_mesh()
    at_once = evaluation.batch_size
    if at_once == "auto":
        together = together or most_at_once(jax.local_devices()[0]) * jax.local_device_count()
        evaluation = dataclasses.replace(evaluation, batch_size=together)
    chunks = _chunks(dataset, model.spec, evaluation)
    options = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    options["per_class"] = per_class
    return Plan(
        model,
        contestants,
        metrics,
        chunks,
        dataset.problems,
        dataset.arrays or {},
        frozenset(sample.name for sample in gallery),
        evaluation.target,
        evaluation.keep_maps,
        evaluation.depth,
        Setting(model, jax.random.key(evaluation.seed), at_once, mesh, replicate(model.params, mesh)),
        config_of(options, model, dataset, chunks, contestants),
        about_of(options, model.spec, dataset, contestants),
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


def _check_maps(contestants: Sequence[Contestant], dataset: Dataset, spec: ModelSpec, target: str) -> None:
    """Raise `InputError` for a map that is not in its folder, before any other is measured."""
    for one in contestants:
        if one.maps is None:
            continue
        for sample in dataset.samples:
            targets = label_indices(sample, spec) if target == "truth" else (None,)
            for index in targets:
                one.maps.find(sample.name, index, alone=len(targets) == 1)


def _chunks(dataset: Dataset, spec: ModelSpec, evaluation: Evaluation) -> tuple[tuple[Sample, ...], ...]:
    """Samples of one input size together, so that each size is compiled once and batches are full."""
    groups: dict[tuple[int, int] | None, list[Sample]] = {}
    for sample in dataset.samples:
        loaded = None if dataset.arrays is None else dataset.arrays[sample.name]
        shape = input_shape(sample, spec.preprocess) if loaded is None else loaded.size
        groups.setdefault(shape, []).append(sample)
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
