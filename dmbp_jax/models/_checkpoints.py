"""PyTorch checkpoints: read without running their code, and their tensors' names."""

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmbp_jax._checks import InputError, shorten
from dmbp_jax.models._architectures import Architecture
from dmbp_jax.models._layers import LayerShape, nest
from dmbp_jax.ops import BatchNorm, fold_batch_norm

# State dicts in torchvision's names and layout, checked tensor by tensor and converted to parameters.

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
            f"{what}: tensor {missing[0]} is missing{_and_more(missing)}{_why(missing, state, layers)}"
        )
    # PyTorch's batch-norms count batches; inference does not use the count.
    surplus = [k for k in state if k not in expected and not k.endswith(".num_batches_tracked")]
    if surplus:
        raise InputError(f"{what}: tensor {surplus[0]} is unexpected{_and_more(surplus)}")
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
    """The names of an architecture's tensors."""
    return [name for layer in architecture.layout(1) for name, _ in _tensors(layer)]


def _why(missing: list[str], state: StateDict, layers: Sequence[LayerShape]) -> str:
    """The probable reason for missing tensors, from the other tensors' names."""
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


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


# Containers, prefixes and other objects that training scripts save around a network's tensors.

CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
"""The keys under which training scripts save the network itself."""
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged)([._]|$)")
_TRAINING = re.compile(r"optim|sched|scaler|loops|callbacks|rng")
_DEPTH = 4

HARMLESS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(
        f"{module}.{kind}{system}Path"
        for module in ("pathlib", "pathlib._local")
        for kind in ("", "Pure")
        for system in ("Posix", "Windows")
    ),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.ndarray",
    "numpy.dtype",
    *(
        f"numpy.dtypes.{name}DType"
        for name in ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    ),
    *(f"numpy.dtypes.{name}DType" for name in ("Float16", "Float32", "Float64", "Str", "Bytes")),
    "decimal.Decimal",
    "fractions.Fraction",
    "uuid.UUID",
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"omegaconf.nodes.{name}Node" for name in ("Any", "String", "Integer", "Float", "Boolean")),
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "typing.Any",
    *(f"builtins.{name}" for name in ("list", "tuple", "int", "float", "str", "bool", "slice", "range")),
)
"""Classes that training scripts save beside the weights and `torch.load(weights_only=True)` refuses. Each is
read as a `StandIn`: the named class is never imported, called or instantiated."""
HARMLESS_DICTS = (
    "builtins.dict",
    "collections.defaultdict",
    *(
        f"{module}.AttributeDict"
        for module in (
            "lightning.fabric.utilities.data",
            "lightning_fabric.utilities.data",
            "lightning.pytorch.utilities.parsing",
            "pytorch_lightning.utilities.parsing",
        )
    ),
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "addict.addict.Dict",
    *(f"{module}.ConfigDict" for module in ("mmcv.utils.config", "mmengine.config.config")),
)
"""The same for kinds of dicts."""


class StandIn:
    """Replaces an object of another class: its stored contents, without its code."""

    def __new__(cls, *_arguments: object) -> "StandIn":
        """Takes any arguments of the replaced class."""
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.fields = dict(state) if isinstance(state, dict) else {}


class DictStandIn:
    """Replaces a dict of another class."""

    def __new__(cls, *_arguments: object) -> "OrderedDict[Any, Any]":  # type: ignore[misc]
        """An ordered dict, which torch fills."""
        return OrderedDict()


def stand_ins() -> list[type]:
    """A class for each of `HARMLESS` and `HARMLESS_DICTS`, under its name.

    >>> [kind.__module__ for kind in stand_ins() if kind.__name__ == "Namespace"]
    ['argparse']
    """
    return [
        type(name, (base,), {"__module__": module})
        for base, all_known in ((StandIn, HARMLESS), (DictStandIn, HARMLESS_DICTS))
        for module, _, name in (known.rpartition(".") for known in all_known)
    ]


def plain(value: Any) -> Any:
    """The stored contents of an object of another class.

    >>> namespace = StandIn()
    >>> namespace.__setstate__({"arch": "resnet50"})
    >>> plain(namespace)
    {'arch': 'resnet50'}
    """
    while isinstance(value, StandIn):
        # omegaconf wraps containers and values.
        value = value.fields.get("_content", value.fields.get("_val", value.fields))
    return value


class Found(NamedTuple):
    """The state dict in a checkpoint."""

    state: dict[str, Any]
    """Its tensors by their names."""
    note: str
    """What was used and what was left out; empty if the whole file is a state dict."""


def find_state(content: Any, tensor: type, path: Path) -> Found:
    """The network's state dict in a checkpoint's contents, at any depth.

    Averaged weights (`model_ema` and similar) are used only if the network's own are missing. `tensor` is the
    type of the tensors. Raises `InputError` if there is no state dict, or if there are several and no name
    identifies the network.

    >>> import numpy as np
    >>> content = {"epoch": 3, "model": {"fc.bias": np.ones(2)}, "model_ema": {"fc.bias": np.zeros(2)}}
    >>> found = find_state(content, np.ndarray, Path("w.pth"))
    >>> found.state["fc.bias"].tolist(), found.note
    ([1.0, 1.0], "took 'model' and left out epoch, and model_ema, which are averaged weights")
    """
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no state dict")
    found = dict(_state_dicts(content, tensor, ()))
    if not found:
        raise InputError(f"{path} holds no state dict: {shorten(_first_name(content))} is not a tensor")
    where = _choose(list(found), path)
    outer: Mapping[Any, Any] = content
    beside: list[str] = []
    averaged: list[str] = []
    for depth, key in enumerate(where):
        for other in outer:
            is_averaged = any(len(w) > depth and w[depth] == other and _is_averaged(w) for w in found)
            if other != key:
                (averaged if is_averaged else beside).append(shorten(other, most=30))
        outer = outer[key]
    state = {str(name): value for name, value in outer.items() if isinstance(value, tensor)}
    beside += [shorten(name, most=30) for name, value in outer.items() if not isinstance(value, tensor)]
    if not where and not beside:
        return Found(state, "")
    left = [_listed(beside)] if beside else []
    left += [f"{_listed(averaged)}, which are averaged weights"] if averaged else []
    taken = f"took {'.'.join(where)!r}" if where else "took the tensors"
    return Found(state, taken + (f" and left out {', and '.join(left)}" if left else ""))


def _state_dicts(content: Any, tensor: type, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(content, Mapping) or len(at) > _DEPTH:
        return
    names = [str(name) for name, value in content.items() if isinstance(value, tensor)]
    whole = len(names) == len(content) and (not at or at[-1] in CONTAINERS)
    if names and (whole or any("." in name for name in names)):
        yield at, content
        return
    for key, value in content.items():
        if isinstance(key, str) and not _TRAINING.search(key.lower()):
            yield from _state_dicts(value, tensor, (*at, key))


def _first_name(content: Mapping[Any, Any]) -> Any:
    name, value = next(iter(content.items()))
    return _first_name(value) if name in CONTAINERS and isinstance(value, Mapping) and value else name


def _is_averaged(where: tuple[str, ...]) -> bool:
    return any(_AVERAGED.search(key.lower()) for key in where)


def _choose(places: list[tuple[str, ...]], path: Path) -> tuple[str, ...]:
    own = [where for where in places if not _is_averaged(where)] or places
    named = [where for where in own if where and where[-1].lower() in CONTAINERS]
    chosen = own if len(own) == 1 else named
    if len(chosen) == 1:
        return chosen[0]
    listed = _listed([repr(shorten(".".join(where), most=30)) for where in own])
    raise InputError(
        f"{path} holds {len(own)} state dicts, {listed}, and does not say which one is the network: save the "
        "one that is meant by itself, torch.save(checkpoint[KEY], FILE)"
    )


def strip_prefix(state: StateDict, expected: Iterable[str], source: str) -> tuple[StateDict, str]:
    """The tensors of a network that was saved as part of another module, by the network's own names.

    `DistributedDataParallel` adds the prefix `module.` to each name, `torch.compile` `_orig_mod.`, Lightning
    the attribute that holds the network. The prefix of most `expected` names is removed. Tensors with another
    prefix are left out if they cannot be a layer (statistics, weights of a loss).

    Returns:
        The tensors, and one line on what was removed and left out, or an empty string.

    Raises:
        InputError: two networks with these names; or layers outside of the network, such as a head.

    >>> import numpy as np
    >>> state = {"module._orig_mod.fc.bias": np.ones(2), "steps": np.array(1)}
    >>> strip_prefix(state, ["fc.bias"], "w.pth")
    ({'fc.bias': array([1., 1.])}, "took off 'module._orig_mod.' and left out steps")
    """
    wanted = set(expected)
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in wanted:
                found[".".join((*parts[:at], ""))] += 1
    most = max(found.values(), default=0)
    # One name may be the suffix of another: `conv1.weight` of `layer1.0.conv1.weight`.
    best = [prefix for prefix, number in found.items() if number == most]
    if not best or found[""] == most:
        return state, ""
    own = [prefix for prefix in best if not _AVERAGED.search(prefix.lower())] or best
    if len(own) > 1 and 2 * most > len(wanted):
        raise InputError(
            f"{source} holds {len(own)} networks, {_listed([repr(prefix) for prefix in own])}: save the one "
            "that is meant by itself, torch.save(network.state_dict(), FILE)"
        )
    prefix = own[0]
    others = [name for name in state if not name.startswith(prefix)]
    averaged = tuple(other for other in best if other not in own)
    layers = [n for n in others if n.endswith(".weight") and state[n].ndim > 1 and not n.startswith(averaged)]
    if layers and 2 * most > len(wanted):
        raise InputError(
            f"{source}: {layers[0]}{_more(layers)} is outside of the network {prefix!r} and may be a layer "
            "of it, such as its head: save the network that is meant by itself, "
            "torch.save(network.state_dict(), FILE)"
        )
    stripped = {
        name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)
    }
    return stripped, f"took off {prefix!r}" + (f" and left out {_listed(others)}" if others else "")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
