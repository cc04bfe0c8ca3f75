"""PASCAL VOC: labels and boxes as the devkit means them."""

import itertools
import os
import re
from pathlib import Path

import pytest
from datasets import VOC_IMAGES, VocImage, VocObject, annotation, make_voc, save_photo

from dmbp_jax._checks import InputError
from dmbp_jax.images import Box, Dataset, open_dataset, read_voc


def read_changed(folder: Path, name: str, old: str, new: str) -> Dataset:
    """The default devkit with `old` replaced in the annotation of one of its images."""
    devkit = make_voc(folder)
    file = devkit / "VOC2012" / "Annotations" / f"{name}.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return read_voc(devkit, year="2012")


def test_labels_are_the_classes_by_first_appearance_without_difficult_objects(tmp_path):
    dataset = read_voc(make_voc(tmp_path), year="2012")
    assert dataset.kind == "voc2012"
    assert {sample.name: sample.labels for sample in dataset.samples} == {
        "2008_000002": ("tvmonitor",),
        "2008_000003": ("person", "dog"),
        "2008_000007": ("boat",),
    }
    assert dict(dataset.problems) == {"2008_000009": "no label: it shows difficult objects only (cow)"}


def test_boxes_are_half_open_from_zero_with_difficult_ones_and_without_parts(tmp_path):
    first, second, third = read_voc(make_voc(tmp_path), year="2012").samples
    assert first.boxes == (Box("tvmonitor", 33, 10, 448, 293),)
    assert second.boxes == (
        Box("person", 2, 3, 10, 12),
        Box("dog", 0, 1, 8, 9),
        Box("person", 19, 3, 30, 28),
        Box("sofa", 0, 0, 40, 30, difficult=True),
    )
    assert third.boxes == (Box("boat", 7.5, 1.25, 36.75, 29), Box("boat", 0, 0, 20, 15, difficult=True))


def test_box_covers_as_many_pixels_as_voc_counts(tmp_path):
    """VOC's own overlap counts `xmax - xmin + 1` columns."""
    devkit = make_voc(tmp_path, [VocImage("a", (VocObject("dog", (5, 7, 5, 9)),))])
    (box,) = read_voc(devkit, year="2012").samples[0].boxes
    assert (box.right - box.left, box.bottom - box.top) == (1, 3)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012", "VOCdevkit/moved"])
def test_devkit_is_found_from_any_of_its_folders(tmp_path, below):
    make_voc(tmp_path)
    if below.endswith("moved"):
        (tmp_path / "VOCdevkit" / "VOC2012").rename(tmp_path / "VOCdevkit" / "moved")
    dataset = read_voc(tmp_path / below, year="2012")
    assert [sample.name for sample in dataset.samples] == ["2008_000002", "2008_000003", "2008_000007"]
    assert all(path.is_file() for sample in dataset.samples for path in sample.paths)


def test_years_and_splits_are_told_apart(tmp_path):
    for year, split in itertools.product(("2007", "2012"), ("val", "test")):
        make_voc(tmp_path, [VocImage(f"{year}_{split}", VOC_IMAGES[0].objects)], year=year, split=split)
        dataset = open_dataset(f"voc{year}:{tmp_path}", split=split)
        assert (dataset.kind, [sample.name for sample in dataset.samples]) == (
            f"voc{year}",
            [f"{year}_{split}"],
        )
    assert open_dataset(f"voc2007:{tmp_path}").samples[0].name == "2007_val"
    with pytest.raises(InputError, match=r"no VOC 2012 in .*VOC2007; looked for the folders"):
        read_voc(tmp_path / "VOCdevkit" / "VOC2007", year="2012")


def test_order_is_that_of_the_list(tmp_path):
    devkit = make_voc(tmp_path, VOC_IMAGES[::-1])
    assert [sample.name for sample in read_voc(devkit, year="2012").samples] == [
        "2008_000007",
        "2008_000003",
        "2008_000002",
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<annotation>", "<annotation", "is not XML"),
        ("<annotation>", '<?xml version="1.0" encoding="utf-99"?><annotation>', "is not XML"),
        ("<annotation>", '<!DOCTYPE x [<!ENTITY a "b">]><annotation>&c;', "declares a document type"),
        ("</object>", "", "is not XML"),
        ("<name>tvmonitor</name>", "", "object 1 of its annotation has no name"),
        ("<name>tvmonitor</name>", "<name> </name>", "object 1 of its annotation has no name"),
        ("<xmin>34</xmin>", "", "the xmin '', not a number"),
        ("<xmin>34</xmin>", "<xmin>left</xmin>", "the xmin 'left', not a number"),
        ("<xmin>34</xmin>", "<xmin>nan</xmin>", "the xmin 'nan', not a number"),
        ("<ymax>293</ymax>", "<ymax>inf</ymax>", "the ymax 'inf', not a number"),
        ("<xmin>34</xmin>", "<xmin>449</xmin>", "no extent"),
        ("<difficult>0</difficult>", "<difficult>maybe</difficult>", "the difficult flag 'maybe'"),
        ("bndbox", "polygon", "is not XML"),
    ],
)
def test_malformed_annotation_is_a_problem_of_its_image_alone(tmp_path, old, new, reason):
    dataset = read_changed(tmp_path, "2008_000002", old, new)
    assert [sample.name for sample in dataset.samples] == ["2008_000003", "2008_000007"]
    assert reason in dict(dataset.problems)["2008_000002"]
    assert "\n" not in dict(dataset.problems)["2008_000002"]


# Four levels of entities, which small parsers write out as 6 million words.
LAUGHS = (
    b'<!DOCTYPE annotation [<!ENTITY a "ha ">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + i, b"&%c;" % (97 + i) * 50) for i in range(4))
    + b"]><annotation><object><name>&e;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (None, "its annotation is missing"),
        (b"", "is not XML"),
        (b"\x00\xff\xfe", "is not XML"),
        (b"<html><object/></html>", "it begins with <html>"),
        (b"<annotation></annotation>", "its annotation names no object"),
        (b"<annotation><object><name>dog</name></object></annotation>", "object 1 .* has no bndbox"),
        (b"<annotation>" + b" " * 2**20 + b"</annotation>", "larger than 1,048,576 bytes"),
        (LAUGHS, "declares a document type"),
    ],
    ids=["missing", "empty", "bytes", "web page", "no object", "no box", "endless", "laughs"],
)
def test_annotation_that_is_none_is_a_problem(tmp_path, write, reason):
    devkit = make_voc(tmp_path)
    file = devkit / "VOC2012" / "Annotations" / "2008_000003.xml"
    file.unlink() if write is None else file.write_bytes(write)
    dataset = read_voc(devkit, year="2012")
    assert [sample.name for sample in dataset.samples] == ["2008_000002", "2008_000007"]
    assert re.search(reason, dict(dataset.problems)["2008_000003"])


@pytest.mark.parametrize("old", ["<difficult>0</difficult>", "<pose>Left</pose>", "<segmented>0</segmented>"])
def test_annotation_may_lack_what_is_not_needed(tmp_path, old):
    dataset = read_changed(tmp_path, "2008_000002", old, "")
    assert dataset.samples[0].boxes == (Box("tvmonitor", 33, 10, 448, 293),)


def test_an_annotation_that_is_a_pipe_is_not_waited_for(tmp_path):
    file = make_voc(tmp_path) / "VOC2012" / "Annotations" / "2008_000003.xml"
    file.unlink()
    os.mkfifo(file)
    assert dict(open_dataset(f"voc2012:{tmp_path}").problems)["2008_000003"] == "its annotation is no file"


def test_missing_photograph_is_a_problem(tmp_path):
    devkit = make_voc(tmp_path)
    (devkit / "VOC2012" / "JPEGImages" / "2008_000002.jpg").unlink()
    dataset = read_voc(devkit, year="2012")
    assert "no such photograph" in dict(dataset.problems)["2008_000002"]
    assert [sample.name for sample in dataset.samples] == ["2008_000003", "2008_000007"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "val.txt is empty"),
        (" \n", "val.txt is empty"),
        ("a\nb\na\n", "names the image a twice"),
        ("a -1\nb  1\n", "'a -1': it lists the images of one class"),
        ("../../secret\n", "which is not the id of an image"),
        ("a.jpg\n", "which is not the id of an image"),
        ("\xff", "cannot read .*val.txt"),
        ("unknown\n", "no photograph in .* can be used .*unknown: no such photograph"),
    ],
)
def test_malformed_list_is_refused_by_name(tmp_path, text, reason):
    devkit = make_voc(tmp_path)
    (devkit / "VOC2012" / "ImageSets" / "Main" / "val.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=reason):
        read_voc(devkit, year="2012")


@pytest.mark.parametrize("split", ["train", "", "../val", "dog-val"])
def test_unknown_split_is_refused_with_those_there_are(tmp_path, split):
    with pytest.raises(InputError, match=rf"no split '{split}'.* has val$"):
        read_voc(make_voc(tmp_path), year="2012", split=split)


def test_folder_without_a_devkit_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"no VOC 2012 in") as refusal:
        read_voc(tmp_path, year="2012")
    for place in (".", "VOC2012", "VOCdevkit/VOC2012"):
        assert str(tmp_path / place / "ImageSets" / "Main") in str(refusal.value)
    with pytest.raises(InputError, match=r"no such folder: .*absent"):
        read_voc(tmp_path / "absent", year="2012")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    save_photo(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    with pytest.raises(InputError, match=r"no photograph in .* can be used .*a: its annotation is missing"):
        read_voc(tmp_path, year="2012")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(annotation(VOC_IMAGES[0]))
    assert len(read_voc(tmp_path, year="2012").samples) == 1
