"""The manifest of weights, and the names of their tensors."""

import dataclasses
import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.images import Preprocess
from dmbp_jax.models._checkpoints import StateDict
from dmbp_jax.typing import OutputActivation

# Other packages' names of the same tensors, mapped to torchvision's.

_TIMM_VGG = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}
_TORCHRAY_VGG = {"classifier.2": "classifier.3", "classifier.4": "classifier.6"}


def from_timm(state: StateDict) -> StateDict:
    """timm's VGG has its classifier as convolutions under other names; its ResNets have torchvision's
    names."""
    if not any(name.startswith(tuple(_TIMM_VGG)) for name in state):
        return state
    return _flatten_classifier(_rename_modules(state, _TIMM_VGG))


def from_torchray(state: StateDict, architecture: str) -> StateDict:
    """TorchRay's PASCAL VOC checkpoints, converted from Caffe, in torchvision's layout.

    Caffe splits a batch-norm in two layers (`bn1.0` normalises, `bn1.1` scales) and has no dropout modules in
    the numbering of VGG's classifier. The first convolution takes BGR; it is converted to RGB.
    """
    if architecture == "vgg16_caffe":
        state = _flatten_classifier(_rename_modules(state, _TORCHRAY_VGG))
        first = "features.0.weight"
    else:
        state = {_join_batch_norm(name): tensor for name, tensor in state.items()}
        first = "conv1.weight"
    if first in state and state[first].ndim == 4:
        state = {**state, first: state[first][:, ::-1]}
    return state


def _rename_modules(state: StateDict, modules: dict[str, str]) -> StateDict:
    def rename(name: str) -> str:
        module, _, tensor = name.rpartition(".")
        return f"{modules.get(module, module)}.{tensor}"

    return {rename(name): tensor for name, tensor in state.items()}


def _flatten_classifier(state: StateDict) -> StateDict:
    def flatten(name: str, tensor: np.ndarray) -> np.ndarray:
        is_kernel = name.startswith("classifier.") and name.endswith(".weight") and tensor.ndim > 2
        return tensor.reshape(tensor.shape[0], -1) if is_kernel else tensor

    return {name: flatten(name, tensor) for name, tensor in state.items()}


def _join_batch_norm(name: str) -> str:
    return re.sub(r"(bn\d|downsample\.1)\.[01]\.", r"\1.", name)


# `weights/manifest.toml`: the available weights, their sources and their preprocessing.


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One trained set of weights of one architecture."""

    architecture: str
    tag: str
    licence: str
    classes: str
    """The key of a list of class names."""
    preprocess: str
    """The key of a preprocessing."""
    input_size: int
    output: OutputActivation
    """The output activation."""
    file: str | None = None
    """A file in the folder `weights/`, embedded in the package."""
    hub: str | None = None
    """A Hugging Face repository with a `model.safetensors`."""
    checkpoint: str | None = None
    """The address of a PyTorch checkpoint, which is ported after download."""
    sha256: str | None = None
    """The hash of `file`, or of `checkpoint` (there its first digits, as in the file's name)."""

    @property
    def name(self) -> str:
        """`architecture.tag`, as timm writes it."""
        return f"{self.architecture}.{self.tag}"

    @property
    def source(self) -> str:
        """The source of the weights, for display."""
        return self.file or self.hub or self.checkpoint or "nowhere"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of the manifest."""

    entries: tuple[WeightsEntry, ...]
    classes: dict[str, tuple[str, ...]]
    wnids: dict[str, tuple[str, ...]]
    """WordNet ids, for those lists of classes that have them."""
    preprocess: dict[str, Preprocess]

    def find_for_file(self, architecture: str, name: str) -> WeightsEntry:
        """The entry that describes a file of that name: its own if embedded, else the published one."""
        found = [entry for entry in self.entries if entry.architecture == architecture]
        own = [entry for entry in found if entry.file == name]
        return next(iter(own or [entry for entry in found if entry.file is None]))

    def find(self, architecture: str, tag: str | None = None) -> WeightsEntry:
        """The entry of an architecture with that tag, by default its first.

        Raises `InputError` if there is none, naming the known tags.
        """
        found = [entry for entry in self.entries if entry.architecture == architecture]
        if not found:
            raise InputError(f"the manifest has no weights for {architecture!r}")
        if tag is None:
            return found[0]
        check_choice(f"weights of {architecture}", tag, [entry.tag for entry in found])
        return next(entry for entry in found if entry.tag == tag)


def weights_folder() -> Path:
    """The folder `weights/`: inside the package when installed, beside it in a checkout."""
    installed = Path(__file__).parents[1] / "weights"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "weights"


@functools.cache
def read_manifest() -> Manifest:
    """The manifest that ships with the package.

    >>> read_manifest().find("squeezenet1_1").tag
    'caffe'
    """
    folder = weights_folder()
    content = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))

    def lists(table: str) -> dict[str, tuple[str, ...]]:
        return {
            key: tuple((folder / name).read_text("utf-8").splitlines())
            for key, name in content[table].items()
        }

    return Manifest(
        entries=tuple(WeightsEntry(**entry) for entry in content["weights"]),
        classes=lists("classes"),
        wnids=lists("wnids"),
        preprocess={key: _preprocess(one) for key, one in content["preprocess"].items()},
    )


def _preprocess(table: dict[str, Any]) -> Preprocess:
    # TOML has lists where the dataclass has tuples; steps that TOML leaves out, such as the crop, are not
    # done.
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return Preprocess(**{"resize": None, "crop": None, **fields})
