"""PASCAL VOC 2007 and 2012: photographs of several objects, with their boxes."""

import re
from pathlib import Path
from typing import Literal

from dmbp_jax.checks import InputError
from dmbp_jax.data.find import list_folder
from dmbp_jax.data.sample import Box, Dataset, Problem, Sample, check_usable
from dmbp_jax.data.voc_annotation import read_annotation


def read_voc(path: Path, *, year: Literal["2007", "2012"], split: str = "val") -> Dataset:
    """The photographs of `ImageSets/Main/{split}.txt`, in its order, with every class in them and all boxes.

    `path` is `VOCdevkit/VOC2012`, `VOCdevkit`, or the folder that holds `VOCdevkit`. An image's labels are
    the classes of its objects by first appearance. Objects that VOC flags as difficult give no label: VOC's
    own class lists, such as `ImageSets/Main/dog_val.txt`, mark images where a class has no others with 0,
    neither positive nor negative. Their boxes are kept, with the flag.
    The split `test` has annotations in VOC 2007 only.

    A photograph or annotation that is missing or malformed is a problem, and so is an image without a label.

    Raises `InputError` if the devkit or the split is not there, the split is malformed, or nothing is usable.
    """
    root = _find_root(path, year)
    names = _read_split(root, split)
    photos = set(list_folder(root / "JPEGImages")[0])
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
            samples.append(Sample(name, (root / "JPEGImages" / f"{name}.jpg",), labels, boxes))
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
                f"{file} has the line {' '.join(words)[:60]!r}: it lists the images of one class; "
                "name a split such as val"
            )
        if not re.fullmatch(r"[\w-]+", words[0]):
            raise InputError(f"{file} has the line {words[0][:60]!r}, which is not the id of an image")
        if words[0] in seen:
            raise InputError(f"{file} names the image {words[0]} twice")
        seen.add(words[0])
    return [words[0] for words in lines]
