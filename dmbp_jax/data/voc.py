"""PASCAL VOC 2007 and 2012: photographs of several objects, with their boxes."""

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Literal

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.data.find import list_folder
from dmbp_jax.data.sample import Box, Dataset, Problem, Sample, check_usable

MAX_ANNOTATION = 2**20
"""Bytes of an annotation; a real one has a few thousand."""


def read_voc(path: Path, *, year: Literal["2007", "2012"], split: str = "val") -> Dataset:
    """The photographs of `ImageSets/Main/{split}.txt`, in its order, with every class in them and all boxes.

    `path` is `VOCdevkit/VOC2012`, `VOCdevkit`, or the folder that holds `VOCdevkit`. An image's labels are
    the classes of its objects by first appearance. Objects that VOC flags as difficult give no label: VOC's
    own class lists, such as `ImageSets/Main/dog_val.txt`, mark images where a class has no others with 0,
    neither positive nor negative. Their boxes are kept, with the flag.
    The split `test` has annotations in VOC 2007 only.

    Some photographs, about a quarter of those of VOC 2012, have a segmentation, which
    `dmbp_jax.data.read_segmentation` reads: `SegmentationClass/{name}.png`.

    A photograph or annotation that is missing or malformed is a problem, and so is an image without a label.

    Raises `InputError` if the devkit or the split is not there, the split is malformed, or nothing is usable.
    """
    root = _find_root(path, year)
    names = _read_split(root, split)
    photos = set(list_folder(root / "JPEGImages").photos)
    folder = root / "SegmentationClass"
    segmented = set(list_folder(folder).photos) if folder.is_dir() else set()
    samples: list[Sample] = []
    problems: list[Problem] = []
    for name in names:
        if f"{name}.jpg" not in photos:
            problems.append(Problem(name, f"no such photograph: {root / 'JPEGImages' / name}.jpg"))
            continue
        try:
            boxes = read_annotation(root / "Annotations" / f"{name}.xml")
        except InputError as error:
            problems.append(Problem(name, str(error)))
            continue
        labels = tuple(dict.fromkeys(box.label for box in boxes if not box.difficult))
        if labels:
            mask = folder / f"{name}.png" if f"{name}.png" in segmented else None
            photo = root / "JPEGImages" / f"{name}.jpg"
            samples.append(Sample(name, (photo,), labels, boxes, segmentation=mask))
        else:
            problems.append(Problem(name, _without_label(boxes)))
    return check_usable(Dataset(f"voc{year}", tuple(samples), tuple(problems)), root)


def _without_label(boxes: tuple[Box, ...]) -> str:
    if not boxes:
        return "its annotation names no object"
    return f"no label: it shows difficult objects only ({', '.join(dict.fromkeys(b.label for b in boxes))})"


def _find_root(path: Path, year: str) -> Path:
    list_folder(path)
    name = f"VOC{year}"
    inside = (path / name, path / "VOCdevkit" / name)
    # A folder of another name may be a devkit that was moved; one of the other year's name is a mistake.
    itself = () if re.fullmatch(r"VOC[0-9]{4}", path.name) and path.name != name else (path,)
    places = (*itself, *inside)
    for place in places:
        if (place / "ImageSets" / "Main").is_dir():
            return place
    looked = ", ".join(str(place / "ImageSets" / "Main") for place in places)
    raise InputError(f"no VOC {year} in {path}; looked for the folders {looked}")


def _read_split(root: Path, split: str) -> list[str]:
    folder = root / "ImageSets" / "Main"
    file = folder / f"{split}.txt"
    if not re.fullmatch(r"\w+", split) or not file.is_file():
        known = sorted(path.stem for path in folder.glob("*.txt") if "_" not in path.stem)
        raise InputError(
            f"no split {split!r}: there is no {file}; {folder} has {', '.join(known) or 'no splits'}"
        )
    try:
        lines = [line.split() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from None
    if not lines:
        raise InputError(f"{file} is empty; it needs the id of an image in each line")
    seen: set[str] = set()
    for words in lines:
        if len(words) > 1:
            raise InputError(
                f"{file} has the line {shorten(' '.join(words))!r}: it lists the images of one class; "
                "name a split such as val"
            )
        if not re.fullmatch(r"[\w-]{1,100}", words[0]):
            raise InputError(f"{file} has the line {shorten(words[0])!r}, which is not the id of an image")
        if words[0] in seen:
            raise InputError(f"{file} names the image {words[0]} twice")
        seen.add(words[0])
    return [words[0] for words in lines]


def read_annotation(path: Path) -> tuple[Box, ...]:
    """The objects of a VOC annotation in its order, difficult ones included and the parts of objects not.

    VOC counts pixels from 1 and includes the last, so `xmin` 1 is the left edge 0, and `xmax` the right edge.
    Some coordinates are fractions; they are converted alike. Source: Everingham and Winn, "The PASCAL Visual
    Object Classes Challenge 2012 Development Kit".

    Raises `InputError`, whose message does not repeat the path, if the file is missing or malformed.
    """
    try:
        if not path.is_file():
            raise InputError(
                "its annotation is missing" if not path.exists() else "its annotation is no file"
            )
        if path.stat().st_size > MAX_ANNOTATION:
            raise InputError(f"its annotation is larger than {MAX_ANNOTATION:,} bytes, as no real one is")
        root = ET.parse(path, ET.XMLParser(target=_Builder())).getroot()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"its annotation cannot be read: {error.strerror or error}") from None
    except Exception as error:
        # Beside `ParseError`: `LookupError` for an encoding that Python does not know, and what others raise.
        raise InputError(f"its annotation is not XML: {shorten(error, most=200)}") from None
    if root.tag != "annotation":
        raise InputError(f"its annotation is no VOC annotation: it begins with <{shorten(root.tag)}>")
    return tuple(_read_object(number, node) for number, node in enumerate(root.findall("object"), start=1))


class _Builder(ET.TreeBuilder):
    """Only a document type can define entities, which may be made to fill any memory."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:  # noqa: ARG002
        raise InputError("its annotation declares a document type, as no real one does")


def _read_object(number: int, node: ET.Element) -> Box:
    # `find` looks at direct children only: a part has a box of its own, one level further down.
    name = _text(node, "name")
    frame = node.find("bndbox")
    if not name or frame is None:
        raise InputError(f"object {number} of its annotation has no {'bndbox' if name else 'name'}")
    xmin, ymin, xmax, ymax = (_number(number, frame, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if xmax < xmin or ymax < ymin:
        raise InputError(f"the box of object {number} of its annotation has no extent")
    difficult = _text(node, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise InputError(
            f"object {number} of its annotation has the difficult flag {shorten(difficult)!r}, not 0 or 1"
        )
    return Box(name, xmin - 1, ymin - 1, xmax, ymax, difficult == "1")


def _number(number: int, frame: ET.Element, tag: str) -> float:
    text = _text(frame, tag)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"the box of object {number} of its annotation has the {tag} {shorten(text)!r}, not a number"
        )
    return value


def _text(node: ET.Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()
