"""Data sets by name: ImageNet, PASCAL VOC, and registered ones."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

from dmbp_jax._checks import InputError, check_choice, check_name, shorten
from dmbp_jax.images._composites import make_grids, make_pairs
from dmbp_jax.images._depth import read_numbers
from dmbp_jax.images._folder import (
    LABEL_FILES,
    expand,
    find_labels,
    list_folder,
    listed,
    not_photographs,
    read_folder,
    read_labelled,
)
from dmbp_jax.images._image_file import open_image
from dmbp_jax.images._preprocess import Preprocess
from dmbp_jax.images._samples import Arrays, Box, Dataset, Problem, Sample, check_usable, from_arrays

# ImageNet's validation photographs.


def read_imagenet(path: Path) -> Dataset:
    """ImageNet's validation set, in class folders or with a CSV file of labels.

    Class folders, `n01440764/ILSVRC2012_val_00000293.JPEG`: the folder's name is the label; sorted by name.
    With a CSV file (see `read_labels`), such as Kaggle's `LOC_val_solution.csv`: its order, and its boxes. It
    is `labels.csv` or `LOC_val_solution.csv` in the folder; where photographs lie in the folder itself, it
    may also be the only `*.csv` in it, or any of these in the folder around it.

    Raises `InputError` if there is no such folder, nothing in it, or no labels for its photographs.
    """
    photos, folders, others = list_folder(path)
    table = next((path / name for name in LABEL_FILES if (path / name).is_file()), None)
    if table is None and photos:
        table = find_labels(path)
        # Beside class folders, single photographs are misplaced, and a CSV file around the folder is
        # unrelated.
        if table is None and not folders:
            table = find_labels(path.absolute().parent)
    if table is not None:
        return read_labelled(path, table, kind="imagenet")
    if folders:
        return _read_class_folders(path, photos, folders, others)
    if photos:
        raise InputError(
            f"no labels for the {listed(photos, 'photograph')} in {path}: put them into class folders, such "
            f"as n01440764, or put {' or '.join(LABEL_FILES)} beside them"
        )
    raise InputError(f"the folder {path} holds neither class folders such as n01440764 nor photographs")


def _read_class_folders(
    path: Path, strays: Sequence[str], folders: Sequence[str], others: Sequence[str]
) -> Dataset:
    samples: list[Sample] = []
    problems: list[Problem] = []
    if strays:
        message = f"{listed(strays, 'photograph')} in no class folder, and so without a label"
        problems.append(Problem("stray photographs", message))
    left = list(others)
    for folder in folders:
        photos, _, inside = list_folder(path / folder)
        left += [f"{folder}/{name}" for name in inside]
        if not photos:
            problems.append(Problem(folder, "the class folder holds no photographs"))
        samples += [Sample(f"{folder}/{photo}", (path / folder / photo,), (folder,)) for photo in photos]
    if left:
        problems.append(Problem("other files", not_photographs(left, path)))
    return check_usable(Dataset("imagenet", tuple(samples), tuple(problems)), path)


# Segmentations: which pixels of the cropped image belong to a class, and which are void.

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""In the order of their numbers in a segmentation, from 1; 0 is the background."""
VOID = 255
"""The class number of VOC's void pixels: outlines, and objects that were too difficult."""


class Segmentation(NamedTuple):
    """The class of each pixel that the network sees."""

    classes: UInt8[np.ndarray, "h w"]
    """Numbers of `VOC_CLASSES`, 0 for the background and beyond the photograph, 255 for void."""

    def region(self, label: str) -> Bool[np.ndarray, "h w"]:
        """Where objects of the class are; all False if the cropped image has none.

        Raises `InputError` for a class that VOC does not have.

        >>> Segmentation(np.asarray([[0, 12, 255]], np.uint8)).region("dog").tolist()
        [[False, True, False]]
        """
        check_choice("class", label, VOC_CLASSES)
        return self.classes == VOC_CLASSES.index(label) + 1

    @property
    def void(self) -> Bool[np.ndarray, "h w"]:
        """The void pixels, which a metric ignores.

        >>> Segmentation(np.asarray([[0, 12, 255]], np.uint8)).void.tolist()
        [[False, False, True]]
        """
        return self.classes == VOID


def read_segmentation(sample: Sample, preprocess: Preprocess, size: tuple[int, int]) -> Segmentation | None:
    """The segmentation of a sample, cropped as `read_sample` crops the photograph; None where the dataset has
    none.

    It is resized as the photograph is, with the nearest pixel: each pixel has the class of the photograph's
    pixel in which its centre lies.

    Args:
        sample: a photograph of VOC. Composites and pairs have no segmentation.
        preprocess: as the photograph is read with.
        size: `(height, width)` of the photograph, `LoadedSample.size`.

    Raises `InputError` that names the file if it cannot be read, is not an image of class numbers (a palette,
    as VOC's are, or shades of grey), is not of the photograph's size, or holds a number that no class has.
    """
    path = sample.segmentation
    if path is None:
        return None
    with open_image(path) as image:
        numbers = read_numbers(image)
        if numbers is None:
            raise InputError(
                f"{path} is no segmentation: it needs a palette or one channel of 8 bits, not {image.mode}"
            )
    if numbers.shape != size:
        raise InputError(
            f"{path} has {numbers.shape[1]} x {numbers.shape[0]} pixels, its photograph {size[1]} x {size[0]}"
        )
    unknown = numbers[(numbers > len(VOC_CLASSES)) & (numbers != VOID)]
    if unknown.size:
        raise InputError(
            f"{path} holds the number {unknown[0]}, which is no class of VOC: 0 to {len(VOC_CLASSES)}, "
            f"and {VOID} for void"
        )
    return Segmentation(preprocess.cut_classes(numbers))


# PASCAL VOC 2007 and 2012: photographs of several objects, with their boxes.

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
    `dmbp_jax.images.read_segmentation` reads: `SegmentationClass/{name}.png`.

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
        # Not only `ParseError`: `LookupError` for an unknown encoding, and others.
        raise InputError(f"its annotation is not XML: {shorten(error, most=200)}") from None
    if root.tag != "annotation":
        raise InputError(f"its annotation is no VOC annotation: it begins with <{shorten(root.tag)}>")
    return tuple(_read_object(number, node) for number, node in enumerate(root.findall("object"), start=1))


class _Builder(ET.TreeBuilder):
    """Refuses document types: they can define entities that expand until memory is full."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:  # noqa: ARG002
        raise InputError("its annotation declares a document type, as no real one does")


def _read_object(number: int, node: ET.Element) -> Box:
    # `find` searches direct children only: a part has its own box, one level further down.
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


# Data sets by name, `KIND:PATH`, and kinds that a user registers.

KINDS = ("folder", "imagenet", "voc2007", "voc2012", "grid", "pairs")
Reader: TypeAlias = Callable[[str], Dataset | Arrays]
"""From the text after the colon of `KIND:PATH` to the samples: a `Dataset` of photographs, or arrays."""
REGISTERED: dict[str, Reader] = {}
"""The kinds that users have registered."""
VOC_YEARS: dict[str, Literal["2007", "2012"]] = {"voc2007": "2007", "voc2012": "2012"}


def register_dataset(reader: Reader, *, name: str | None = None) -> Reader:
    """Register a kind of data: `NAME:PATH` in `dmbp_jax.evaluate`, and in `--data` of the command.

    Args:
        reader: `reader(path) -> Dataset` of photographs, which it does not read; or `-> (images, targets)`,
            or `-> [ArraySample(...), ...]`, as `from_arrays` takes them. `path` is the text after the colon.
        name: of the kind, by default the function's; lower case.

    Returns:
        The reader, so that it may stand above a function as a decorator.

    Raises:
        InputError: a name that the package uses or reserves, such as `"all"`, or that is no plain word in
            lower case.

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
    these, chosen by `seed` (`make_grids`); its SPEC may also be a path without a kind: a folder with
    `labels.csv`, otherwise ImageNet. `pairs:SPEC` puts two of them side by side (`make_pairs`), from the
    photographs that `choose` selects, such as those that a network recognises; None selects all. `NAME:...`
    of `register_dataset` is what its reader gives.

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
