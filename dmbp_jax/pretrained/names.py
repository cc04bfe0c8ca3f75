"""Names that others give to the same tensors, mapped to torchvision's."""

import re

import numpy as np

from dmbp_jax.pretrained.state_dict import StateDict

_TIMM_VGG = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}
_TORCHRAY_VGG = {"classifier.2": "classifier.3", "classifier.4": "classifier.6"}


def from_timm(state: StateDict) -> StateDict:
    """timm's VGG has its classifier as convolutions under its own names; its ResNets bear torchvision's."""
    if not any(name.startswith(tuple(_TIMM_VGG)) for name in state):
        return state
    return _flatten_classifier(_rename_modules(state, _TIMM_VGG))


def from_torchray(state: StateDict, architecture: str) -> StateDict:
    """TorchRay's PASCAL VOC checkpoints, converted from Caffe, as torchvision would write them.

    Caffe splits a batch-norm in two layers (`bn1.0` normalises, `bn1.1` scales) and has no dropout modules in
    the numbering of VGG's classifier. The first convolution takes BGR; it is turned to take RGB.
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
