"""A dataset from what a person typed: its kind and its path; and kinds of one's own."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from dmbp_jax.checks import InputError, check_name
from dmbp_jax.data.arrays import Arrays, from_arrays
from dmbp_jax.data.find import expand, list_folder
from dmbp_jax.data.folder import read_folder
from dmbp_jax.data.grid import make_grids
from dmbp_jax.data.imagenet import read_imagenet
from dmbp_jax.data.labels import LABEL_FILES
from dmbp_jax.data.pairs import make_pairs
from dmbp_jax.data.sample import Dataset
from dmbp_jax.data.voc import read_voc

KINDS = ("folder", "imagenet", "voc2007", "voc2012", "grid", "pairs")
Reader: TypeAlias = Callable[[str], Dataset | Arrays]
"""What follows the colon of `KIND:PATH` to the samples: of photographs a `Dataset`, or arrays."""
REGISTERED: dict[str, Reader] = {}
"""The kinds of one's own."""
VOC_YEARS: dict[str, Literal["2007", "2012"]] = {"voc2007": "2007", "voc2012": "2012"}


def register_dataset(reader: Reader, *, name: str | None = None) -> Reader:
    """Make a kind of data known: `NAME:PATH` in `dmbp_jax.evaluate`, and as `--data` of the command.

    Args:
        reader: `reader(path) -> Dataset` of photographs, none of which it reads; or `-> (images, targets)`,
            or `-> [ArraySample(...), ...]`, as `from_arrays` takes them. `path` is what follows the colon, as
            it is written.
        name: of the kind, by default the function's; lower case.

    Returns:
        The reader, so that it may stand above a function as a decorator.

    Raises:
        InputError: a name that is one of the package's, or no plain word in lower case, or means something
            else, as `"all"` does.

    >>> def noise(path):
    ...     return np.zeros((int(path), 8, 8, 3), np.float32), [0] * int(path)
    >>> import numpy as np
    >>> register_dataset(noise) is noise, len(open_dataset("noise:3").samples)
    (True, 3)
    >>> del REGISTERED["noise"]
    """
    name = check_name("kind of data", getattr(reader, "__name__", "") if name is None else name)
    if not name.isidentifier() or name != name.lower():
        raise InputError(f"a kind of data needs a plain name in lower case, got {name!r}: give name=")
    if name in KINDS:
        raise InputError(f"there is a kind of data {name!r} in the package: give name= another one")
    REGISTERED[name] = reader
    return reader


def open_dataset(
    spec: str,
    *,
    split: str | None = None,
    grid: int = 2,
    seed: int = 0,
    choose: Callable[[Dataset], Dataset] | None = None,
) -> Dataset:
    """The dataset that `KIND:PATH` names, such as `imagenet:~/imagenet/val`; no photograph is read.

    `folder:PATH` is a folder with `labels.csv` (`read_folder`), `imagenet:PATH` ImageNet's validation set
    (`read_imagenet`), `voc2007:PATH` and `voc2012:PATH` a VOC devkit (`read_voc`), of which `split` names the
    list of images, by default `val`. `grid:SPEC` makes composites of `grid * grid` photographs of any of
    these, chosen by `seed` (`make_grids`); its SPEC may also be a mere path: to a folder with `labels.csv`,
    or else to ImageNet. `pairs:SPEC` puts two of them side by side (`make_pairs`), of those photographs that
    `choose` leaves, such as the ones that a network recognises; None leaves all. `NAME:...` of
    `register_dataset` is what its reader gives.

    Raises `InputError` for an unknown kind or a missing path, and as the readers do.
    """
    kind, path = _parse(spec)
    if kind in ("grid", "pairs"):
        inner, _ = _parse(path)
        if inner in ("grid", "pairs"):
            raise InputError(
                f"{spec!r} asks for composites of composites; write one of grid: and pairs: once"
            )
        if not inner:
            inner = "folder" if (expand(path) / LABEL_FILES[0]).is_file() else "imagenet"
            path = f"{inner}:{path}"
        photographs = open_dataset(path, split=split)
        if photographs.arrays is not None:
            raise InputError(f"{kind} is made of photographs, and {inner} gives arrays")
        if kind == "grid":
            return make_grids(photographs, grid=grid, seed=seed)
        return make_pairs(choose(photographs) if choose else photographs, seed=seed)
    if not kind or not path:
        known = ", ".join([*KINDS, *REGISTERED])
        raise InputError(f"{spec!r} names no dataset: write KIND:PATH with a kind of {known}")
    if kind in REGISTERED:
        if split is not None:
            raise InputError(f"{kind} has no splits, got split {split!r}; only voc2007 and voc2012 have")
        samples = REGISTERED[kind](path)
        return samples if isinstance(samples, Dataset) else from_arrays(samples, kind=kind)
    folder = expand(path)
    list_folder(folder)
    if kind in VOC_YEARS:
        return read_voc(folder, year=VOC_YEARS[kind], split=split or "val")
    if split is not None:
        raise InputError(f"{kind} has no splits, got split {split!r}; only voc2007 and voc2012 have")
    return read_folder(folder) if kind == "folder" else read_imagenet(folder)


def _parse(spec: str) -> tuple[str, str]:
    """The kind, empty if there is no known one, and what follows it."""
    kind, colon, rest = spec.strip().partition(":")
    return (kind.lower(), rest.strip()) if colon and kind.lower() in (*KINDS, *REGISTERED) else ("", spec)
