"""Small datasets in the shapes of the real ones, written to a folder."""

import csv
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image


def save_photo(path: Path, *, size: tuple[int, int] = (40, 30)) -> Path:
    """A photograph of coarse noise, which its name determines; `size` is `(width, height)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    coarse.resize(size).save(path)
    return path


def make_folder(folder: Path, count: int) -> Path:
    """A folder of photographs of the first ten classes in turn, with its `labels.csv`; returns the folder."""
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        save_photo(folder / name)
    write_csv(folder / "labels.csv", ("file", "class_index"), *[(n, i % 10) for i, n in enumerate(names)])
    return folder


def shared_photos(shared: Path, count: int) -> list[tuple[str, Path]]:
    """WordNet ids and paths of the first photographs beside the repository."""
    with (shared / "images" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[:count]
    return [(row["wnid"], shared / "images" / row["file"]) for row in rows]


def write_csv(path: Path, *rows: Sequence[object]) -> Path:
    """A CSV file, the first of whose rows is its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def make_imagenet(
    folder: Path,
    photos: Iterable[tuple[str, Path | None]],
    *,
    layout: Literal["folders", "flat", "kaggle"] = "folders",
) -> Path:
    """ImageNet's validation set of `(wnid, photograph)`; None paints one. Returns the folder.

    `folders` has class folders, `flat` a `labels.csv` with the columns file and wnid, and `kaggle` a
    `LOC_val_solution.csv`, in which every photograph has the one box `10 5 29 24`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (wnid, photo) in enumerate(photos, start=1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        path = folder / wnid / name if layout == "folders" else folder / name
        path.parent.mkdir(exist_ok=True)
        if photo is None:
            save_photo(path)
        else:
            shutil.copyfile(photo, path)
        rows.append((name, wnid))
    if layout == "flat":
        write_csv(folder / "labels.csv", ("file", "wnid"), *rows)
    if layout == "kaggle":
        solution = [(name.removesuffix(".JPEG"), f"{wnid} 10 5 29 24 ") for name, wnid in rows]
        write_csv(folder / "LOC_val_solution.csv", ("ImageId", "PredictionString"), *solution)
    return folder


class VocObject(NamedTuple):
    """An object of a VOC annotation; the box is VOC's own, counted from 1, the last pixel included."""

    name: str
    box: tuple[object, object, object, object] = (1, 1, 20, 15)
    difficult: object = 0
    parts: tuple[str, ...] = ()


class VocImage(NamedTuple):
    """An image of a VOC devkit; without a `photo` one is painted."""

    name: str
    objects: tuple[VocObject, ...]
    photo: Path | None = None


VOC_IMAGES = (
    VocImage("2008_000002", (VocObject("tvmonitor", (34, 11, 448, 293)),)),
    VocImage(
        "2008_000003",
        (
            VocObject("person", (3, 4, 10, 12), parts=("head", "hand", "hand")),
            VocObject("dog", (1, 2, 8, 9)),
            VocObject("person", (20, 4, 30, 28)),
            VocObject("sofa", (1, 1, 40, 30), difficult=1),
        ),
    ),
    VocImage(
        "2008_000007", (VocObject("boat", ("8.5", "2.25", "36.75", "29")), VocObject("boat", difficult=1))
    ),
    VocImage("2008_000009", (VocObject("cow", difficult=1), VocObject("cow", (2, 2, 9, 9), difficult=1))),
)
"""Several classes, one class, parts, fractions of pixels, and an image of difficult objects only."""


def make_voc(
    folder: Path, images: Sequence[VocImage] = VOC_IMAGES, *, year: str = "2012", split: str = "val"
) -> Path:
    """A VOC devkit below `folder`; returns the folder `VOCdevkit`."""
    root = folder / "VOCdevkit" / f"VOC{year}"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for image in images:
        path = root / "JPEGImages" / f"{image.name}.jpg"
        if image.photo is None:
            save_photo(path)
        else:
            PIL.Image.open(image.photo).convert("RGB").save(path)
        (root / "Annotations" / f"{image.name}.xml").write_text(annotation(image))
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{i.name}\n" for i in images))
    # The devkit also lists, class by class, who shows it; these must not be taken for splits.
    (root / "ImageSets" / "Main" / f"dog_{split}.txt").write_text("".join(f"{i.name} -1\n" for i in images))
    return folder / "VOCdevkit"


def save_segmentation(path: Path, numbers: np.ndarray, *, mode: str = "P") -> Path:
    """The class numbers of a photograph's pixels, with colours for them as VOC's have, or grey (`"L"`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PIL.Image.fromarray(numbers)
    if mode == "P":
        # Of a palette that does not show the numbers as they are.
        image.putpalette([(7 * channel + 85 * number) % 256 for number in range(256) for channel in range(3)])
    image.save(path)
    return path


def annotation(image: VocImage) -> str:
    """The XML of an annotation, laid out as VOC's are."""
    objects = "".join(_object(one) for one in image.objects)
    return (
        f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{image.name}.jpg</filename>\n"
        "\t<source><database>The VOC2008 Database</database></source>\n"
        "\t<size><width>40</width><height>30</height><depth>3</depth></size>\n"
        f"\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _object(one: VocObject) -> str:
    # Parts come first here, so that whoever takes the first box below an object takes a wrong one.
    parts = "".join(f"<part><name>{part}</name>{_box((1, 1, 2, 2))}</part>" for part in one.parts)
    return (
        f"\t<object>{parts}\n\t\t<name>{one.name}</name>\n\t\t<pose>Left</pose><truncated>1</truncated>\n"
        f"\t\t<difficult>{one.difficult}</difficult>\n\t\t{_box(one.box)}\n\t</object>\n"
    )


def _box(box: tuple[object, object, object, object]) -> str:
    # The order of the four is not the same in all years.
    xmin, ymin, xmax, ymax = box
    return f"<bndbox><xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymax>{ymax}</ymax><ymin>{ymin}</ymin></bndbox>"
