"""A folder of photographs with a CSV file of labels."""

import posixpath
from pathlib import Path, PureWindowsPath

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.data.find import Listing, is_photo, list_folder, listed, not_photographs
from dmbp_jax.data.labels import LABEL_FILES, LabelRow, find_labels, read_labels
from dmbp_jax.data.sample import Dataset, Problem, Sample, check_usable


def read_folder(path: Path) -> Dataset:
    """The photographs that the folder's CSV file names, in its order; see `read_labels` for the columns.

    A row whose photograph is missing, or lies outside the folder, is a problem; the photographs that no row
    names are one problem together, as the file may well choose some of many.

    Raises `InputError` if there is no such folder or no CSV file in it, if the file is unusable as a whole,
    or none of its photographs is there.
    """
    photos, folders, _ = list_folder(path)
    if not photos and not folders:
        raise InputError(f"the folder {path} holds no photographs")
    table = find_labels(path)
    if table is None:
        raise InputError(
            f"{path} holds no CSV file with labels; "
            f"write {LABEL_FILES[0]} with the columns file and class_index"
        )
    return read_labelled(path, table, kind="folder")


def read_labelled(folder: Path, table: Path, *, kind: str) -> Dataset:
    """The photographs in `folder` that the CSV file `table` names, in its order.

    A name may lack its suffix, as in Kaggle's ImageNet, and the class folder that its photograph lies in.
    What is named in full is taken whatever its suffix.

    Raises `InputError` as `read_labels` does, if two rows mean the same photograph, and if none is usable.
    """
    rows = read_labels(table)
    shelf = _Shelf(folder)
    samples: dict[str, Sample] = {}
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for row in rows:
        where = f"{table.name}, line {row.line}"
        inside = _inside(row.file)
        if inside is None:
            problems.append(Problem(row.file, f"{where}: the path leads out of {folder}"))
            continue
        found = shelf.find(inside, row)
        # Also a row that cannot be used accounts for its photograph.
        for name in found:
            if name in lines:
                raise InputError(
                    f"{table}, lines {lines[name]} and {row.line} both mean {shorten(name)}; keep one"
                )
            lines[name] = row.line
        if len(found) > 1:
            problems.append(Problem(row.file, f"{where}: it may be any of {', '.join(found)}"))
        elif row.fault is not None:
            problems.append(Problem(row.file, f"{where}: {row.fault}"))
        elif not found:
            problems.append(Problem(row.file, f"{where}: no such photograph in {folder}"))
        else:
            samples[found[0]] = Sample(found[0], (folder / found[0],), row.labels, row.boxes)
    others = sorted(shelf.others() - set(lines) - {table.name})
    if others:
        problems.append(Problem("other files", not_photographs(others, folder)))
    unnamed = sorted(shelf.seen() - set(lines))
    if unnamed:
        problems.append(Problem(table.name, f"does not name {listed(unnamed, 'photograph')} of {folder}"))
    return check_usable(Dataset(kind, tuple(samples.values()), tuple(problems)), folder)


class _Shelf:
    """The photographs below a folder, each of whose folders is listed once and only when asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._listings: dict[str, Listing] = {}

    def find(self, name: str, row: LabelRow) -> list[str]:
        """The names, with slashes, of the photographs that a row may mean: one, none, or several."""
        place, last = posixpath.split(name)
        places = [place] if place else ["", *(inside for inside in map(_inside, row.labels) if inside)]
        for place in places:
            listing = self._list(place)
            if last in listing.photos:
                return [posixpath.join(place, last)]
            if not is_photo(last) and last in self._stems[place]:
                return [posixpath.join(place, photo) for photo in self._stems[place][last]]
            if last in listing.others:
                return [posixpath.join(place, last)]
        return []

    def seen(self) -> set[str]:
        """All photographs in the folders listed so far, the outermost included."""
        self._list("")
        return {posixpath.join(place, name) for place, one in self._listings.items() for name in one.photos}

    def others(self) -> set[str]:
        """All other files there."""
        self._list("")
        return {posixpath.join(place, name) for place, one in self._listings.items() for name in one.others}

    def _list(self, place: str) -> Listing:
        if place in self._listings:
            return self._listings[place]
        try:
            listing = list_folder(self._root / place)
        except InputError:
            # A folder that only the CSV file knows; its photographs are missing.
            listing = Listing((), (), ())
        self._listings[place] = listing
        self._stems[place] = {}
        for name in listing.photos:
            self._stems[place].setdefault(posixpath.splitext(name)[0], []).append(name)
        return listing


def _inside(name: str) -> str | None:
    """`name`, written on whatever system, as a relative path with slashes; None if it leads out."""
    path = PureWindowsPath(name)
    return None if path.anchor or ".." in path.parts or not path.name else path.as_posix()
