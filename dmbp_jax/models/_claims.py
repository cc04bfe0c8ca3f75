"""Check a weight file's metadata against the network into which its tensors are loaded.

Networks with other strides, dilations, pools, activations or preprocessing can have the same tensors.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmbp_jax._checks import InputError, shorten
from dmbp_jax.images import Preprocess
from dmbp_jax.models._checkpoints import plain

ARCHITECTURE_KEY = "dmbp_jax.architecture"
"""Keys in the metadata of the package's own files."""
CONFIG = "config.json"
"""The hub's description beside a file."""
HUB_NAMES = ("model.safetensors", "pytorch_model.bin")

_NAMES = frozenset({
    "architecture", "arch", "arch_name", "model", "model_name", "model_arch", "backbone", "base_model",
    "encoder", "net", "network",
})  # fmt: skip
_ROOMS = frozenset({
    "args", "cfg", "config", "hparams", "hyper_parameters", "meta", "metadata", "model_args", "model_config",
    "model_kwargs", "opt", "options", "pretrained_cfg", "training_args",
})  # fmt: skip
_FAMILY = re.compile(r"(resne|vgg|alexnet|squeezenet).*[0-9]|[0-9].*(resne|vgg|alexnet|squeezenet)")
_SAME_NETWORK = re.compile(r"^(tv|ssl|swsl)_|^gluon_(?=.*_v1b$)|(?<=[0-9])_v1b$")
"""Prefixes and suffixes of timm's names of torchvision's networks with other weights."""

_PLAIN: dict[str, tuple[Any, ...]] = {
    "output_stride": (32,),
    "replace_stride_with_dilation": (),
    "dilations": ([1, 1, 1, 1],),
    "strides": ([1, 2, 2, 2],),
    "stride_in_1x1": (),
    "style": ("pytorch",),
    "aa_layer": (),
    "act_layer": ("relu", "ReLU", "nn.ReLU", "torch.nn.ReLU"),
    "global_pool": ("avg", "fast"),
    "gp": ("avg", "fast"),
    "avg_down": (),
    "stem_type": (),
    "attn_layer": (),
}
"""Arguments with which a network computes other outputs from the same tensors, and their values in the
package's networks; None, false and empty are always accepted."""


def read_config(path: Path) -> dict[str, Any]:
    """The `config.json` beside a file with one of the hub's names; empty if there is none."""
    config = path.with_name(CONFIG)
    if path.name not in HUB_NAMES or not config.is_file():
        return {}
    try:
        content = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{config}, the description of {path.name}, cannot be read: {shorten(error)}; fetch it again"
        ) from None
    return content if isinstance(content, dict) else {}


def check_claims(says: Mapping[str, Any], architecture: str, source: str) -> None:
    """Raise `InputError` if a file says that its network is another one than `architecture`, by its name or
    by an argument.

    >>> check_claims({"arch": "resnetblur50"}, "resnet50", "w.pth")
    Traceback (most recent call last):
    dmbp_jax.InputError: w.pth says that it holds 'resnetblur50', not resnet50: ...
    """
    written_for = says.get(ARCHITECTURE_KEY, architecture)
    if written_for != architecture:
        raise InputError(f"{source} holds weights of {shorten(written_for)}, not of {architecture}")
    names = list(_names(says))
    if names and not any(_is_same(name, architecture) for name in names):
        raise InputError(
            f"{source} says that it holds {shorten(names[0])!r}, not {architecture}: the same tensors may "
            "mean another network. If that is wrong, save the tensors alone, in a file that says nothing else"
        )
    known = _PLAIN | ({"style": ("caffe",), "stride_in_1x1": (True,)} if "_caffe" in architecture else {})
    for key, value in _items(says):
        if key in known and _given(value) and value not in known[key]:
            raise InputError(
                f"{source} says that its network has {key}={shorten(value)}, which {architecture} of this "
                "package has not: its logits would be others. If that is wrong, save the tensors alone, in a "
                "file that says nothing else"
            )


def check_photographs(says: Mapping[str, Any], preprocess: Preprocess, classes: int, source: str) -> None:
    """Raise `InputError` if a hub's `pretrained_cfg` says that photographs are prepared otherwise than by
    `preprocess`, or that there is another number of classes.

    >>> check_photographs({"pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}}, Preprocess(), 1000, "w")
    Traceback (most recent call last):
    dmbp_jax.InputError: w says mean=[0.5, 0.5, 0.5], where [0.0, 0.0, 0.0] is used: ...
    """
    config = says.get("pretrained_cfg")
    if not isinstance(config, Mapping):
        return
    order = slice(None, None, -1 if preprocess.channels == "BGR" else 1)
    to_unit = 1 / (255 * preprocess.scale)
    size = preprocess.crop
    used: dict[str, Any] = {
        "mean": [m * to_unit for m in list(preprocess.mean)[order]],
        "std": [s * to_unit for s in list(preprocess.std)[order]],
        "interpolation": "bilinear",
        "crop_mode": "center",
        "num_classes": classes,
    }
    if size is not None:
        used["input_size"] = [3, size, size]
    if size is not None and preprocess.resize is not None:
        used["crop_pct"] = size / preprocess.resize
    for key, mine in used.items():
        theirs = config.get(key)
        if theirs is not None and not _agree(key, theirs, mine, size):
            shown = [round(value, 4) for value in mine] if isinstance(mine, list) else mine
            raise InputError(
                f"{source} says {key}={shorten(theirs)}, where {shown} is used: the maps would be of images "
                f"that the network was not trained on. To use it anyway, give it without {CONFIG}, and set "
                "spec.preprocess to what it wants"
            )


def _agree(key: str, theirs: Any, mine: Any, size: int | None) -> bool:
    try:
        if key == "crop_pct":
            # timm rounds down; four digits resolve half a pixel of 256.
            return abs(math.floor(float(size or 0) / theirs) - round(float(size or 0) / mine)) <= 1
        if isinstance(mine, list):
            return len(theirs) == len(mine) and bool(np.allclose(theirs, mine, atol=1e-3))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return False
    return bool(theirs == mine)


def _items(says: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The metadata's entries, level by level: the top, its arguments, its model's arguments."""
    if not isinstance(says, Mapping) or depth > 4:
        return
    for key, given in says.items():
        if not isinstance(key, str):
            continue
        value = plain(given)
        yield key.lower(), value
        if key.lower() in _ROOMS | _NAMES:
            yield from _items(value, depth + 1)


def _names(says: Any) -> Iterator[str]:
    """Names of networks whose tensors may be those of the package's networks."""
    for key, value in _items(says):
        if key in _NAMES and isinstance(value, Mapping):
            values = [plain(value.get(name)) for name in ("name", "type")]
            target = plain(value.get("_target_"))
            if isinstance(target, str) and target.startswith("torchvision.models."):
                values.append(target.rpartition(".")[2])
        else:
            values = [value] if key in _NAMES else []
        yield from (v for v in values if isinstance(v, str) and _FAMILY.search(v.lower()))


def _is_same(name: str, architecture: str) -> bool:
    lower = name.lower().strip().rpartition("/")[2]
    # A tag of weights follows a dot.
    return any(
        _letters(_SAME_NETWORK.sub("", one)) == _letters(architecture)
        for one in (lower, lower.partition(".")[0], lower.rpartition(".")[2])
    )


def _letters(name: str) -> str:
    return "".join(character for character in name if character.isalnum())


def _given(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_given(one) for one in value)
    return isinstance(value, str | int | float) and bool(value)
