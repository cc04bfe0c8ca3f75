"""State dicts in torchvision's names and layout, checked tensor by tensor and made into parameters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmbp_jax.checks import InputError
from dmbp_jax.models import Architecture, LayerShape, nest
from dmbp_jax.ops import BatchNorm, fold_batch_norm

StateDict = Mapping[str, np.ndarray]
_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


def to_params(state: StateDict, layers: Sequence[LayerShape], source: str) -> dict[str, Any]:
    """The parameters in a checked state dict: batch-norm folded, kernels HWIO, nested dicts of NumPy arrays.

    Raises `InputError` that names `source` and the layer, if folding gives a number that is not finite.
    """
    flat: dict[tuple[str, ...], np.ndarray] = {}
    for layer in layers:
        kernel, bias = _convert(layer, state)
        for name, tensor in (("kernel", kernel), ("bias", bias)):
            if not np.isfinite(tensor).all():
                raise InputError(f"{source}: folding {layer.batch_norm} into {layer.name} is not finite")
            flat[(*layer.name.split("."), name)] = tensor
    return nest(flat)


def check_state_dict(state: StateDict, architecture: Architecture, source: str) -> Sequence[LayerShape]:
    """The layers of the architecture, with as many classes as `state` has.

    Raises `InputError` that names `source` and the tensor, if one is missing, surplus, misshapen, of another
    kind than floating point, or not finite.
    """
    last = tuple(architecture.layout(1))[-1].name
    shape = state[f"{last}.weight"].shape if f"{last}.weight" in state else ()
    layers = tuple(architecture.layout(max((1, *shape[:1]))))
    expected = {name: shape for layer in layers for name, shape in _tensors(layer)}
    what = f"{source}, as {architecture.name}"
    missing = [name for name in expected if name not in state]
    if missing:
        raise InputError(
            f"{what}: tensor {missing[0]} is missing{_more(missing)}{_why(missing, state, layers)}"
        )
    # PyTorch counts batches beside every batch-norm; the count plays no part in inference.
    surplus = [k for k in state if k not in expected and not k.endswith(".num_batches_tracked")]
    if surplus:
        raise InputError(f"{what}: tensor {surplus[0]} does not belong there{_more(surplus)}")
    for name, shape in expected.items():
        tensor = state[name]
        if tensor.shape != shape:
            raise InputError(f"{what}: tensor {name} must have shape {shape}, got {tensor.shape}")
        if not np.issubdtype(tensor.dtype, np.floating):
            raise InputError(f"{what}: tensor {name} must be floating point, got {tensor.dtype}")
        if not np.isfinite(tensor).all():
            raise InputError(f"{what}: tensor {name} holds values that are NaN or infinite")
    return layers


def tensor_names(architecture: Architecture) -> list[str]:
    """The tensors of an architecture by their names."""
    return [name for layer in architecture.layout(1) for name, _ in _tensors(layer)]


def _why(missing: list[str], state: StateDict, layers: Sequence[LayerShape]) -> str:
    """What has been done to a network some of whose tensors are missing, where others tell."""
    module, _, kind = missing[0].rpartition(".")
    # As PyTorch's weight norm, pruning and parametrisations name them.
    parts = [k for k in state if k.startswith((f"{missing[0]}_", f"{module}.parametrizations.{kind}."))]
    if parts:
        return f": it is in parts, {', '.join(parts)}; make these one tensor again where it was trained"
    norms = {f"{layer.batch_norm}.{name}" for layer in layers for name in _NORM_TENSORS if layer.batch_norm}
    if set(missing) == norms or any(key.endswith(("zero_point", "_packed_params")) for key in state):
        return ": its layers are fused or quantised, it seems; port the checkpoint from before that"
    return ""


def _tensors(layer: LayerShape) -> list[tuple[str, tuple[int, ...]]]:
    width = (layer.weight[0],)
    tensors: list[tuple[str, tuple[int, ...]]] = [(f"{layer.name}.weight", layer.weight)]
    if layer.bias:
        tensors.append((f"{layer.name}.bias", width))
    if layer.batch_norm is not None:
        tensors += [(f"{layer.batch_norm}.{name}", width) for name in _NORM_TENSORS]
    return tensors


def _convert(layer: LayerShape, state: StateDict) -> tuple[np.ndarray, np.ndarray]:
    weight = state[f"{layer.name}.weight"]
    bias = state[f"{layer.name}.bias"] if layer.bias else np.zeros(layer.weight[0], weight.dtype)
    if weight.ndim == 4:
        kernel = weight.transpose(2, 3, 1, 0)
    elif layer.grid is not None:
        # PyTorch flattens channels first, this package channels last.
        out, inner = weight.shape
        channels = inner // layer.grid**2
        maps = weight.reshape(out, channels, layer.grid, layer.grid)
        kernel = maps.transpose(2, 3, 1, 0).reshape(math.prod(maps.shape[1:]), out)
    else:
        kernel = weight.T
    if layer.batch_norm is not None:
        scale, offset, mean, variance = (state[f"{layer.batch_norm}.{n}"] for n in _NORM_TENSORS)
        # A negative variance or an overflow is reported by the caller, once, as not finite.
        with np.errstate(all="ignore"):
            kernel, bias = fold_batch_norm(kernel, bias, BatchNorm(scale, offset, mean, variance))
    return np.ascontiguousarray(kernel), bias


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
