"""What a run records: what determines its rows, and what else is worth knowing of it."""

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from dmbp_jax.data import Dataset, Sample
from dmbp_jax.evaluation.code import code_of, fingerprint, fingerprint_tree
from dmbp_jax.evaluation.contestants import Contestant
from dmbp_jax.evaluation.items import label_indices
from dmbp_jax.pretrained import Model, ModelSpec


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
