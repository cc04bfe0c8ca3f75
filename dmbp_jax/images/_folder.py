"""Photographs in a folder, and their labels."""

import csv
import os
import posixpath
import re
import warnings
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from dmbp_jax._checks import InputError, InputWarning, shorten
from dmbp_jax.images._decode import PHOTO_SUFFIXES
from dmbp_jax.images._samples import Box, Dataset, Problem, Sample, check_usable

# Labels from a CSV file: one photograph a row.

FILE_COLUMNS = ("file", "filename", "image", "imageid")
LABEL_COLUMNS = ("class_index", "wnid", "class_name", "label", "class", "predictionstring")
"""In order of preference: the most exact identifier of a class comes first."""
LABEL_FILES = ("labels.csv", "LOC_val_solution.csv")


class LabelRow(NamedTuple):
    """A row of a CSV file of labels."""

    line: int
    """Counted from 1, for messages."""
    file: str
    """As the row writes it."""
    labels: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    fault: str | None = None
    """Why the row cannot be used, or None."""


def find_labels(folder: Path) -> Path | None:
    """The CSV file of labels in a folder: one of `LABEL_FILES`, or else the only `*.csv`; None without any.

    Raises `InputError` where there are several and none has such a name.
    """
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.glob("*.csv") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(
            f"{folder} holds several CSV files ({names}); call the one with the labels labels.csv"
        )
    return found[0] if found else None


def read_labels(path: Path) -> list[LabelRow]:
    """The rows of a CSV file with a header, separated by commas, UTF-8 with or without a byte order mark.

    Columns are found by name, in any case and order, others are ignored: the photograph is `file`,
    `filename`, `image` or `ImageId`; its label is the first of `class_index`, `wnid`, `class_name`, `label`,
    `class`, and `PredictionString`, which Kaggle's ImageNet has (see `parse_prediction`). A row whose label
    is missing or malformed is kept with its fault.

    Raises `InputError` if the file cannot be read, is not UTF-8, has no rows, lacks a column, has a row of
    another length than its header, or names a file twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is not CSV: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise InputError(f"{path} is empty; it needs a header and a row for each photograph")
    header = [cell.lower() for cell in lines[0][1]]
    file_column = _column(path, header, FILE_COLUMNS, "the photograph")
    label_column = _column(path, header, LABEL_COLUMNS, "the label")
    if len(lines) == 1:
        raise InputError(f"{path} has a header but no rows")
    rows: list[LabelRow] = []
    seen: dict[str, int] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{path}, line {number} has {len(cells)} cells and the header {len(header)}; "
                "put text that holds a comma into double quotes"
            )
        name = cells[file_column]
        if not name:
            raise InputError(f"{path}, line {number} names no file")
        if name in seen:
            raise InputError(
                f"{path} names {shorten(name)} twice, in lines {seen[name]} and {number}; keep one of them"
            )
        seen[name] = number
        rows.append(_row(number, name, header[label_column], cells[label_column]))
    return rows


def _column(path: Path, header: list[str], known: tuple[str, ...], what: str) -> int:
    for name in known:
        if header.count(name) > 1:
            raise InputError(f"{path} has several columns called {name}; keep one of them")
        if name in header:
            return header.index(name)
    found = shorten(", ".join(cell or "(unnamed)" for cell in header), most=200)
    raise InputError(
        f"{path} has no column for {what}: one of {', '.join(known)}. Its header, "
        f"read with commas between the columns, is: {found}"
    )


def _row(line: int, file: str, column: str, text: str) -> LabelRow:
    if not text:
        return LabelRow(line, file, (), fault=f"its {column} is empty")
    if column == "class_index":
        if not re.fullmatch(r"[0-9]{1,9}", text):
            return LabelRow(
                line, file, (), fault=f"its class_index {shorten(text)!r} is not a whole number from 0"
            )
        return LabelRow(line, file, (str(int(text)),))
    if column == "predictionstring":
        boxes = parse_prediction(text)
        if boxes is None:
            fault = f"its PredictionString {shorten(text)!r} is not groups of a WordNet id and 4 numbers"
            return LabelRow(line, file, (), fault=fault)
        return LabelRow(line, file, tuple(dict.fromkeys(box.label for box in boxes)), boxes)
    return LabelRow(line, file, (text,))


def parse_prediction(text: str) -> tuple[Box, ...] | None:
    """The boxes of a `PredictionString`, `wnid x1 y1 x2 y2` once or several times; None if it is not that.

    ImageNet counts pixels from 0 and includes the last. Source: the file `LOC_val_solution.csv` of Kaggle's
    "ImageNet Object Localization Challenge".

    >>> parse_prediction("n03995372 85 1 499 272")
    (Box(label='n03995372', left=85.0, top=1.0, right=500.0, bottom=273.0, difficult=False),)
    """
    pattern = r"(n[0-9]{8}) ([0-9]+) ([0-9]+) ([0-9]+) ([0-9]+)"
    text = " ".join(text.split())
    if not re.fullmatch(rf"{pattern}( {pattern})*", text):
        return None
    boxes = tuple(
        Box(wnid, float(left), float(top), float(right) + 1, float(bottom) + 1)
        for wnid, left, top, right, bottom in re.findall(pattern, text)
    )
    return boxes if all(box.left < box.right and box.top < box.bottom for box in boxes) else None


# Photographs from files and folders that are given as arguments.


class Listing(NamedTuple):
    """The sorted names of a folder's direct contents, without hidden ones, which begin with a dot."""

    photos: tuple[str, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...]
    """Files without a photograph's suffix."""


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and the photographs in folders, sorted by name and not recursively; each once.

    Figures that the command wrote into a folder, `*_dmbp.*`, are left out. An `InputWarning` counts and names
    the files that are left out, except files of labels.

    Raises `InputError` for a path that does not exist and for a folder without photographs.
    """
    found: list[Path] = []
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            inside = list_folder(path)
            named = {given.name for given in paths if given.parent == path}
            others = [name for name in inside.others if name not in named and name not in LABEL_FILES]
            left = not_photographs(others, path) if others else ""
            if not inside.photos:
                raise InputError(f"the folder {path} holds no photographs{left and ': '}{left}")
            if left:
                warnings.warn(left, InputWarning, stacklevel=2)
            found += [path / name for name in inside.photos]
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"no such file or folder: {path}")
    return list(dict.fromkeys(found))


def expand(path: str) -> Path:
    """A path as typed, with `~` and `~name` replaced by the folder of that user.

    Raises `InputError` for a user whose folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"cannot tell the path {shorten(path)!r}: {error}") from None


def list_folder(path: Path) -> Listing:
    """What lies directly in a folder.

    Raises `InputError` if the folder does not exist or may not be read.
    """
    photos, folders, others = [], [], []
    try:
        # `scandir` distinguishes files from folders without a call for each, which is slow over a network.
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif is_photo(entry.name) and entry.is_file():
                    photos.append(entry.name)
                else:
                    others.append(entry.name)
    except FileNotFoundError:
        raise InputError(f"no such folder: {path}") from None
    except NotADirectoryError:
        raise InputError(f"{path} is not a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the folder {path} cannot be read: {error}") from None
    return Listing(tuple(sorted(photos)), tuple(sorted(folders)), tuple(sorted(others)))


def listed(names: Iterable[str], noun: str, *, most: int = 3) -> str:
    """The number of names and the first few of them, for messages.

    >>> listed(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "photograph")
    '4 photographs (a.jpg, b.jpg, c.jpg and others)'
    """
    names = list(names)
    shown = ", ".join(map(shorten, names[:most])) + (" and others" if len(names) > most else "")
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'} ({shown})"


def not_photographs(names: Iterable[str], folder: Path) -> str:
    """The message about files in a folder that are left out.

    >>> not_photographs(["cat.heic"], Path("photos"))
    'not taken for photographs, by their names: 1 file (cat.heic) of photos'
    """
    return f"not taken for photographs, by their names: {listed(names, 'file')} of {folder}"


def is_photo(name: str) -> bool:
    """Whether a file has a photograph's suffix and is not a figure that the command wrote.

    >>> is_photo("cat.JPEG"), is_photo("cat_dmbp.png"), is_photo("labels.csv")
    (True, False, False)
    """
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in PHOTO_SUFFIXES and not stem.endswith("_dmbp")


def example_photo() -> Path:
    """The path of `chelsea.png`, a tabby cat.

    Photograph by Stefan van der Walt, released to the public domain (CC0); from scikit-image's data folder.

    >>> example_photo().name
    'chelsea.png'
    """
    return Path(__file__).with_name("chelsea.png")


# A folder of photographs with a CSV file of labels.


def read_folder(path: Path) -> Dataset:
    """The photographs that the folder's CSV file names, in its order; see `read_labels` for the columns.

    A row whose photograph is missing, or lies outside the folder, is a problem. All photographs that no row
    names are one problem together, since the file may select some of many.

    Raises `InputError` if there is no such folder or no CSV file in it, if the file cannot be used, or none
    of its photographs exists.
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

    A name may lack its suffix, as in Kaggle's ImageNet, and its class folder. A file that is named in full
    may have any suffix.

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
        # A row that cannot be used names its photograph nevertheless.
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
    """The photographs below a folder; each folder is listed once, when it is first needed."""

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
            # A folder that only the CSV file names; its photographs are missing.
            listing = Listing((), (), ())
        self._listings[place] = listing
        self._stems[place] = {}
        for name in listing.photos:
            self._stems[place].setdefault(posixpath.splitext(name)[0], []).append(name)
        return listing


def _inside(name: str) -> str | None:
    """`name`, written on any system, as a relative path with slashes; None if it leads out of the folder."""
    path = PureWindowsPath(name)
    return None if path.anchor or ".." in path.parts or not path.name else path.as_posix()
