"""Porting a checkpoint file: from PyTorch's format to a checked safetensors file."""

from pathlib import Path

from dmbp_jax.checks import InputError
from dmbp_jax.models import get_architecture
from dmbp_jax.pretrained.files import read_checkpoint, read_safetensors, write_safetensors
from dmbp_jax.pretrained.names import from_timm, from_torchray
from dmbp_jax.pretrained.state_dict import check_state_dict

TORCHRAY_ARCHITECTURES = frozenset({"resnet50_caffe", "vgg16_caffe"})


def port_checkpoint(source: Path, architecture: str, destination: Path) -> None:
    """Write the tensors of a checkpoint as safetensors, in torchvision's names and layout.

    `source` is a `.pth` of torchvision, a `.pth.tar` of TorchRay (for the `_caffe` architectures), or a
    `.safetensors` of timm. Every tensor is checked before anything is written. Batch-norm is folded when the
    result is loaded, not here, so that PyTorch can read it too.

    Raises `InputError` for an unknown architecture, and for a missing, damaged or ill-fitting file.
    """
    network = get_architecture(architecture)
    # `load_model` knows a file from a tag by this ending.
    if destination.suffix != ".safetensors":
        raise InputError(f"cannot write {destination}: its ending must be .safetensors")
    if source.suffix == ".safetensors":
        state, written_for = read_safetensors(source)
        if written_for not in (None, architecture):
            raise InputError(f"{source} holds weights of {written_for}, not of {architecture}")
        state = from_timm(state)
    else:
        state = read_checkpoint(source)
        if architecture in TORCHRAY_ARCHITECTURES:
            state = from_torchray(state, architecture)
        else:
            state = from_timm(state)
    check_state_dict(state, network, str(source))
    write_safetensors(destination, state, architecture)
