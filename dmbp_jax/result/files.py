"""Explanations in a `.safetensors` file.

Each field is an array of that name; those of `scores`, `history` and `masks` have the field's name before
their own: `scores.total`, `masks.layer1.0.relu1`. In a file of several explanations the name of each stands
in front: `rise/values`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.data.tensors import read_tensors, write_tensors
from dmbp_jax.result.describe import is_known
from dmbp_jax.result.scores import Scores

Fields = Mapping[str, Any]
"""The fields of an explanation: arrays, or arrays by name, or None."""


def write_explanations(path: Path, explanations: Mapping[str, Fields], beside: Fields) -> None:
    """Write explanations by their names, "" for one that has none, with the arrays `beside` them.

    Raises `InputError` where the numbers are not here (inside `jit`), for an array beside them whose name is
    taken, and where `path` cannot be written.
    """
    arrays: dict[str, Any] = {}
    for name, fields in explanations.items():
        for field, value in fields.items():
            key = f"{name}/{field}" if name else field
            if isinstance(value, Mapping):
                arrays |= {f"{key}.{part}": array for part, array in value.items()}
            elif value is not None:
                arrays[key] = value
    for key, value in beside.items():
        if key in arrays or ("" in explanations and key in explanations[""]):
            raise InputError(f"{key!r} is the name of a part of the explanation: choose another one")
        arrays[key] = np.asarray(value)
    for key, array in arrays.items():
        if not is_known(array):
            raise InputError(f"cannot save {key}, whose numbers are not here: save outside of jit and vmap")
    write_tensors(path, {key: _storable(array) for key, array in arrays.items()}, {})


def read_explanation(path: Path, name: str, known: Mapping[str, bool]) -> dict[str, Any]:
    """The fields of the explanation of that name; of the `known` ones, the True ones are several arrays.

    Raises `InputError` for a file that is missing, damaged, or holds no explanation, or none of that name.
    """
    tensors, _ = read_tensors(path)
    names = {
        key.removesuffix("values").removesuffix("/") for key in tensors if key.rpartition("/")[2] == "values"
    }
    if not names:
        raise InputError(f"{path} holds no explanation: it has no array `values`")
    if name not in names:
        if names == {""}:
            raise InputError(f"{path} holds one explanation, without a name: leave out name={name!r}")
        check_choice("explanation", name, names)
    fields: dict[str, Any] = {}
    for key, array in tensors.items():
        prefix = f"{name}/" if name else ""
        field, _, part = key.removeprefix(prefix).partition(".")
        if not key.startswith(prefix) or field not in known:
            continue
        if known[field]:
            fields.setdefault(field, {})[part] = array
        else:
            fields[field] = array
    return fields


def check_fields(path: Path, fields: Fields) -> None:
    """Raise `InputError` unless the fields, read from a file, have the shapes of one explanation."""
    values, finite = fields["values"], fields.get("finite")
    if finite is None or finite.dtype != bool:
        raise InputError(f"{path} is damaged: its array `finite` must be flags, one for each explanation")
    for field in ("scores", "history"):
        if field in fields and set(fields[field]) != set(Scores._fields):
            raise InputError(f"{path} is damaged: its {field} must be {', '.join(Scores._fields)}")
    whole = {"values": values.shape, "positive": values.shape, "negative": values.shape}
    for field, given in fields.items():
        for part, array in given.items() if isinstance(given, dict) else [("", given)]:
            key = f"{field}.{part}" if part else field
            if field != "finite" and not np.issubdtype(array.dtype, np.floating):
                raise InputError(
                    f"{path} is damaged: its array {key} must be floating point, not {array.dtype}"
                )
            # One number for each image, or one explanation: with axes of its own behind those of the batch.
            more = field in ("values", "positive", "negative", "masks", "history")
            leading = array.shape[: finite.ndim] if more else array.shape
            if (
                leading != finite.shape
                or (more and array.ndim == finite.ndim)
                or array.shape != whole.get(field, array.shape)
            ):
                raise InputError(
                    f"{path} is damaged: its array {key} has the shape {array.shape}, which does not fit the "
                    "others"
                )


def _storable(array: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(array)
    # Every bfloat16 is a float32; older versions of the library cannot read the former as NumPy.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
