"""What training scripts leave in a file around a network's tensors: containers, prefixes, other objects."""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.pretrained.state_dict import StateDict

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
"""What training scripts save beside the weights and `torch.load(weights_only=True)` refuses. Each is read as
a `StandIn`: nothing of the class that is named is imported, called or made."""
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
    """In place of an object of another class: what the file says was in it, and nothing that runs."""

    def __new__(cls, *_arguments: object) -> "StandIn":
        """Whatever the class of the file would have been made with."""
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.fields = dict(state) if isinstance(state, dict) else {}


class DictStandIn:
    """In place of a dict of another class."""

    def __new__(cls, *_arguments: object) -> "OrderedDict[Any, Any]":  # type: ignore[misc]
        """One that torch fills."""
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
    """What is in an object of another class, as far as the file says it.

    >>> namespace = StandIn()
    >>> namespace.__setstate__({"arch": "resnet50"})
    >>> plain(namespace)
    {'arch': 'resnet50'}
    """
    while isinstance(value, StandIn):
        # As omegaconf wraps containers and values.
        value = value.fields.get("_content", value.fields.get("_val", value.fields))
    return value


class Found(NamedTuple):
    """The state dict in a checkpoint."""

    state: dict[str, Any]
    """Its tensors by their names."""
    note: str
    """What was taken and what was left, or nothing where the whole file is a state dict."""


def find_state(content: Any, tensor: type, path: Path) -> Found:
    """The network's state dict in what a checkpoint holds, wherever the script has put it.

    Where averaged weights (`model_ema` and the like) are beside the network's own, these are taken; averaged
    ones only if there are no others. `tensor` is the type of the tensors. Raises `InputError` if there is
    none, or if there are several and no name tells which one is the network.

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
    """The tensors of a network that was saved as a part of something else, by the network's own names.

    `DistributedDataParallel` writes `module.` before each name, `torch.compile` `_orig_mod.`, Lightning the
    attribute that holds the network. Whatever stands before most of the `expected` names is taken off. What
    has another prefix is left out if it cannot be a layer (statistics, weights of a loss).

    Returns:
        The tensors, and what was taken off and left out in a line, or nothing.

    Raises:
        InputError: two networks of these names; or layers outside of the network, as a head is.

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
    # A name may end as another one does: `layer1.0.conv1.weight` as `conv1.weight`.
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
