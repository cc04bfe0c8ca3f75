"""A file of weights as the tensors of a network, and porting one to a checked safetensors file."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dmbp_jax.checks import InputError
from dmbp_jax.models import LayerShape, get_architecture
from dmbp_jax.pretrained.checkpoints import strip_prefix
from dmbp_jax.pretrained.claims import check_claims, check_photographs
from dmbp_jax.pretrained.files import read_checkpoint, read_safetensors, write_safetensors
from dmbp_jax.pretrained.manifest import WeightsEntry, read_manifest
from dmbp_jax.pretrained.names import from_timm, from_torchray
from dmbp_jax.pretrained.state_dict import StateDict, check_state_dict, tensor_names

TORCHRAY_ARCHITECTURES = frozenset({"resnet50_caffe", "vgg16_caffe"})


class Weights(NamedTuple):
    """The checked tensors of a file, in torchvision's names and layout."""

    state: StateDict
    layers: Sequence[LayerShape]
    note: str
    """What was taken of the file, taken off its names and left out, in a line; or nothing."""


def read_weights(path: Path, entry: WeightsEntry) -> Weights:
    """The tensors of a file for the architecture of `entry`, whose preprocessing is to hold for it.

    Raises `InputError` for a missing, damaged or ill-fitting file, and for one that says that it is of
    another network or wants photographs prepared otherwise.
    """
    own = path.suffix == ".safetensors"
    state, says, taken = read_safetensors(path) if own else read_checkpoint(path)
    architecture = get_architecture(entry.architecture)
    check_claims(says, architecture.name, str(path))
    state, stripped = strip_prefix(state, tensor_names(architecture), str(path))
    if not own and architecture.name in TORCHRAY_ARCHITECTURES:
        state = from_torchray(state, architecture.name)
    else:
        state = from_timm(state)
    layers = check_state_dict(state, architecture, str(path))
    preprocess = read_manifest().preprocess[entry.preprocess]
    check_photographs(says, preprocess, layers[-1].weight[0], str(path))
    notes = "; ".join(note for note in (taken, stripped) if note)
    return Weights(state, layers, f"{path}: {notes}" if notes else "")


def port_checkpoint(source: Path, architecture: str, destination: Path) -> str:
    """Write the tensors of a checkpoint as safetensors, in torchvision's names and layout.

    `source` is a `.pth` of torchvision, a `.pth.tar` of TorchRay (for the `_caffe` architectures), what a
    training script has saved around one of them (`{"model": ..., "optimizer": ...}`, Lightning's `.ckpt`,
    `module.` before the names), or a `.safetensors` of timm. Every tensor is checked before anything is
    written. Batch-norm is folded when the result is loaded, not here, so that PyTorch can read it too.

    Returns what was taken, taken off the names and left out, in a line; or nothing.

    Raises `InputError` for an unknown architecture, and for a missing, damaged or ill-fitting file, or one
    that says that it is of another network.
    """
    get_architecture(architecture)
    # `load_model` knows a file from a tag by this ending.
    if destination.suffix != ".safetensors":
        raise InputError(f"cannot write {destination}: its ending must be .safetensors")
    weights = read_weights(source, read_manifest().find_for_file(architecture, source.name))
    write_safetensors(destination, weights.state, architecture)
    return weights.note
