"""A dataset from what a person typed: its kind and its path."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from dmbp_jax.checks import InputError
from dmbp_jax.data.find import list_folder
from dmbp_jax.data.folder import read_folder
from dmbp_jax.data.grid import make_grids
from dmbp_jax.data.imagenet import read_imagenet
from dmbp_jax.data.labels import LABEL_FILES
from dmbp_jax.data.pairs import make_pairs
from dmbp_jax.data.sample import Dataset
from dmbp_jax.data.voc import read_voc

KINDS = ("folder", "imagenet", "voc2007", "voc2012", "grid", "pairs")
VOC_YEARS: dict[str, Literal["2007", "2012"]] = {"voc2007": "2007", "voc2012": "2012"}


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
    `choose` leaves, such as the ones that a network recognises; None leaves all.

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
            inner = "folder" if (Path(path).expanduser() / LABEL_FILES[0]).is_file() else "imagenet"
            path = f"{inner}:{path}"
        photographs = open_dataset(path, split=split)
        if kind == "grid":
            return make_grids(photographs, grid=grid, seed=seed)
        return make_pairs(choose(photographs) if choose else photographs, seed=seed)
    if not kind or not path:
        raise InputError(f"{spec!r} names no dataset: write KIND:PATH with a kind of {', '.join(KINDS)}")
    folder = _expand(path)
    if kind in VOC_YEARS:
        return read_voc(folder, year=VOC_YEARS[kind], split=split or "val")
    if split is not None:
        raise InputError(f"{kind} has no splits, got split {split!r}; only voc2007 and voc2012 have")
    return read_folder(folder) if kind == "folder" else read_imagenet(folder)


def _parse(spec: str) -> tuple[str, str]:
    """The kind, empty if there is no known one, and what follows it."""
    kind, colon, rest = spec.strip().partition(":")
    return (kind.lower(), rest.strip()) if colon and kind.lower() in KINDS else ("", spec)


def _expand(path: str) -> Path:
    try:
        folder = Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"cannot tell the path {path!r}: {error}") from None
    list_folder(folder)
    return folder
