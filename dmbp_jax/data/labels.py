"""Labels from a CSV file: one photograph a row."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.data.sample import Box

FILE_COLUMNS = ("file", "filename", "image", "imageid")
LABEL_COLUMNS = ("class_index", "wnid", "class_name", "label", "class", "predictionstring")
"""In order of preference: what says most exactly which class is meant comes first."""
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

    Raises `InputError` where there are several and nothing tells which is meant.
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

    Columns are known by name, in whatever case and order, others are ignored: the photograph is `file`,
    `filename`, `image` or `ImageId`; its label the first there is of `class_index`, `wnid`, `class_name`,
    `label`, `class`, and `PredictionString`, which Kaggle's ImageNet has (see `parse_prediction`). A row
    whose label is missing or malformed is kept with its fault.

    Raises `InputError` for what makes the whole file doubtful: it cannot be read, is not UTF-8, has no rows,
    lacks a column, has a row of another length than its header, or names a file twice.
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
