"""Labels from CSV files, and the photographs that they name."""

import re
from pathlib import Path

import pytest
from datasets import make_imagenet, save_photo, shared_photos, write_csv

from dmbp_jax._checks import InputError
from dmbp_jax.images import Box, open_dataset, read_folder, read_imagenet
from dmbp_jax.images._folder import parse_prediction, read_labels

TENCH, HEN = "n01440764", "n01514859"


def labelled(folder: Path, text: str | bytes, *photos: str, name: str = "labels.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    for photo in photos:
        save_photo(folder / photo)
    return folder


def labels(folder: Path) -> dict[str, tuple[str, ...]]:
    return {sample.name: sample.labels for sample in read_folder(folder).samples}


def problems(folder: Path) -> dict[str, str]:
    return dict(read_folder(folder).problems)


def test_shared_photographs_come_in_the_order_of_their_file(shared):
    dataset = read_folder(shared / "images")
    assert (dataset.kind, len(dataset.samples), dataset.problems) == ("folder", 64, ())
    cock = dataset.samples[0]
    assert (cock.name, cock.labels, cock.boxes, cock.grid) == ("n01514668_cock.JPEG", ("7",), (), 1)
    assert cock.paths == (shared / "images" / "n01514668_cock.JPEG",)
    assert open_dataset(f"folder:{shared / 'images'}") == dataset


@pytest.mark.parametrize(
    ("header", "row", "label"),
    [
        ("file,class_index", "a.jpg,007", "7"),
        ("FileName,WNID", f"a.jpg,{TENCH}", TENCH),
        (" Image , Class ", " a.jpg , great white ", "great white"),
        ("label,file", '"a, with a comma",a.jpg', "a, with a comma"),
        ("class_name,wnid,class_index,file", f"tench,{TENCH},0,a.jpg", "0"),
        ("class_name,wnid,file", f"tench,{TENCH},a.jpg", TENCH),
        ("class,class_name,imageid", "x,tench,a.jpg", "tench"),
        ("file,other,wnid", f"./a.jpg,,{TENCH}", TENCH),
        ("ImageId,PredictionString", f"a,{TENCH} 1 2 3 4 ", TENCH),
        ("image,label", "a,suffix left out", "suffix left out"),
    ],
)
def test_columns_are_known_by_name_and_the_most_exact_label_is_taken(tmp_path, header, row, label):
    assert labels(labelled(tmp_path, f"{header}\n{row}\n", "a.jpg")) == {"a.jpg": (label,)}


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbffile,label\r\na.jpg,caf\xc3\xa9\r\n",
        b"file,label\ra.jpg,caf\xc3\xa9",
        b"\n\nfile,label\n\n,\na.jpg,caf\xc3\xa9\n\n",
        b'"file","label"\n"a.jpg","caf\xc3\xa9"\n',
    ],
    ids=["byte order mark", "old line ends", "blank lines", "quotes"],
)
def test_spreadsheets_write_csv_in_several_ways(tmp_path, text):
    assert labels(labelled(tmp_path, text, "a.jpg")) == {"a.jpg": ("café",)}


@pytest.mark.parametrize("written", ["below/a.jpg", "below\\a.jpg", "./below//a.jpg"])
def test_photograph_below_the_folder_is_named_with_slashes(tmp_path, written):
    folder = labelled(tmp_path, f"file,label\n{written},cat\n", "below/a.jpg")
    (sample,) = read_folder(folder).samples
    assert sample.name == "below/a.jpg"
    assert sample.paths == (tmp_path / "below" / "a.jpg",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "labels.csv is empty"),
        ("\n \n", "labels.csv is empty"),
        ("file,label\n", "has a header but no rows"),
        ("file,colour\na.jpg,red\n", "no column for the label: one of class_index, wnid, .*: file, colour"),
        ("file;label\na.jpg;cat\n", "no column for the photograph: .* commas .*: file;label"),
        ("path,label\na.jpg,cat\n", "no column for the photograph"),
        ("file,label,label\na.jpg,cat,dog\n", "several columns called label"),
        ("file,label\na.jpg,cat\nb.jpg\n", "line 3 has 1 cells and the header 2"),
        ("file,label\na.jpg,tench, Tinca tinca\n", "line 2 has 3 cells .* double quotes"),
        ('file,label\na.jpg,"cat\n', "line 2 is not CSV"),
        ("file,label\n,cat\n", "line 2 names no file"),
        ("file,label\na.jpg,cat\nb.jpg,dog\na.jpg,cat\n", "names a.jpg twice, in lines 2 and 4"),
        ("file,label\na.jpg,cat\n./a.jpg,cat\n", "lines 2 and 3 both mean a.jpg"),
        ("file,label\na,cat\na.jpg,dog\n", "lines 2 and 3 both mean a.jpg"),
        (b"file,label\na.jpg,caf\xe9\n", "is not UTF-8 text"),
        ("file,label\na.jpg,cat\n".encode("utf-16"), "is not UTF-8 text"),
        (
            "file,label\nc.jpg,cat\nd.jpg,cat\n",
            "no photograph in .* can be used .*c.jpg: .*no such photograph",
        ),
    ],
)
def test_unusable_file_is_refused_by_name_in_one_line(tmp_path, text, reason):
    folder = labelled(tmp_path, text, "a.jpg", "b.jpg")
    with pytest.raises(InputError, match=reason) as refusal:
        read_folder(folder)
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("c.jpg,1", "no such photograph"),
        ("sub,1", "no such photograph"),
        ("a.jpg/x.jpg,1", "no such photograph"),
        ("twin,1", r"may be any of twin\.jpg, twin\.png"),
        ("b.jpg,", "its class_index is empty"),
        ("b.jpg,cat", "its class_index 'cat' is not a whole number"),
        ("b.jpg,-1", "its class_index '-1' is not a whole number"),
        ("b.jpg,1.0", r"its class_index '1\.0' is not a whole number"),
        ("../b.jpg,1", "leads out of"),
        ("sub/../../b.jpg,1", "leads out of"),
        ("/etc/b.jpg,1", "leads out of"),
        ("C:\\b.jpg,1", "leads out of"),
    ],
)
def test_row_that_cannot_be_used_is_a_problem_with_its_line(tmp_path, row, reason):
    folder = labelled(
        tmp_path, f"file,class_index\na.jpg,3\n{row}\n", "a.jpg", "b.jpg", "twin.jpg", "twin.png"
    )
    (folder / "notes.txt").touch()
    (folder / "sub").mkdir()
    assert labels(folder) == {"a.jpg": ("3",)}
    found = problems(folder)[row.split(",")[0]]
    assert re.search(reason, found)
    assert "labels.csv, line 3" in found


def test_photographs_that_no_row_names_are_one_problem(tmp_path):
    folder = labelled(tmp_path, "file,label\na.jpg,cat\nb.jpg,\n", *(f"{name}.jpg" for name in "abcdef"))
    save_photo(tmp_path / "a_dmbp.png")
    save_photo(tmp_path / ".hidden.png")
    assert problems(folder) == {
        "b.jpg": "labels.csv, line 3: its label is empty",
        "labels.csv": f"does not name 4 photographs (c.jpg, d.jpg, e.jpg and others) of {folder}",
        "other files": f"not taken for photographs, by their names: 1 file (a_dmbp.png) of {folder}",
    }


def test_a_photograph_that_a_row_names_in_full_is_taken_whatever_its_ending(tmp_path):
    folder = labelled(tmp_path, "file,label\na.jfif,cat\nb.scan,dog\nc.d,cow\nd,hen\n", "d.mpo.png")
    for name in ("a.jfif", "b.scan", "c.d", "d", "notes.txt"):
        save_photo(folder / "any.png").rename(folder / name)
    assert labels(folder) == {"a.jfif": ("cat",), "b.scan": ("dog",), "c.d": ("cow",), "d": ("hen",)}
    assert problems(folder) == {
        "labels.csv": f"does not name 1 photograph (d.mpo.png) of {folder}",
        "other files": f"not taken for photographs, by their names: 1 file (notes.txt) of {folder}",
    }


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "holds no photographs"),
        (["notes.txt"], "holds no photographs"),
        (["a.jpg"], "holds no CSV file with labels; write labels.csv"),
        (["a.jpg", "x.csv", "y.csv"], r"several CSV files \(x.csv, y.csv\)"),
    ],
)
def test_folder_without_photographs_or_labels_is_refused(tmp_path, files, reason):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=reason):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["labels.csv", "LOC_val_solution.csv", "any.csv"])
def test_labels_file_may_have_any_name_if_it_is_the_only_one(tmp_path, name):
    folder = labelled(tmp_path, "file,label\na.jpg,cat\n", "a.jpg", name=name)
    assert labels(folder) == {"a.jpg": ("cat",)}


def test_labels_csv_is_preferred_to_others(tmp_path):
    labelled(tmp_path, "file,label\na.jpg,wrong\n", name="other.csv")
    assert labels(labelled(tmp_path, "file,label\na.jpg,right\n", "a.jpg")) == {"a.jpg": ("right",)}


def test_unreadable_labels_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*absent\.csv"):
        read_labels(tmp_path / "absent.csv")


def test_prediction_gives_every_box_and_each_class_once(tmp_path):
    text = f"{TENCH} 0 1 2 3 {HEN} 4 5 6 7 {TENCH} 8 9 10 11"
    write_csv(tmp_path / "LOC_val_solution.csv", ("ImageId", "PredictionString"), ("a", text))
    save_photo(tmp_path / "a.JPEG")
    (sample,) = read_imagenet(tmp_path).samples
    assert (sample.name, sample.labels) == ("a.JPEG", (TENCH, HEN))
    assert sample.boxes == (Box(TENCH, 0, 1, 3, 4), Box(HEN, 4, 5, 7, 8), Box(TENCH, 8, 9, 11, 12))


@pytest.mark.parametrize(
    "text", ["tench", TENCH, f"{TENCH} 1 2 3", f"{TENCH} 1 2 3 4 5", f"{TENCH} 9 2 3 4", f"{TENCH} 1 2 3 x"]
)
def test_malformed_prediction_is_none(text):
    assert parse_prediction(text) is None


@pytest.mark.parametrize("layout", ["folders", "flat", "kaggle"])
def test_imagenet_is_the_same_in_every_layout(tmp_path, shared, layout):
    photos = shared_photos(shared, 5)
    dataset = read_imagenet(make_imagenet(tmp_path / "val", [*photos, (photos[0][0], None)], layout=layout))
    assert (dataset.kind, dataset.problems) == ("imagenet", ())
    by_file = {sample.name.rsplit("/")[-1]: sample for sample in dataset.samples}
    wnids = [wnid for wnid, _ in photos] + [photos[0][0]]
    for number, wnid in enumerate(wnids, start=1):
        sample = by_file[f"ILSVRC2012_val_{number:08d}.JPEG"]
        assert sample.labels == (wnid,)
        assert sample.paths[0] == tmp_path / "val" / sample.name
        assert sample.paths[0].is_file()
        assert sample.boxes == ((Box(wnid, 10, 5, 30, 25),) if layout == "kaggle" else ())


def test_class_folders_are_sorted_and_what_is_amiss_in_them_is_told(tmp_path):
    make_imagenet(tmp_path, [(HEN, None), (TENCH, None), (HEN, None)])
    (tmp_path / "n09999999").mkdir()
    (tmp_path / ".cache").mkdir()
    save_photo(tmp_path / "stray.jpg")
    (tmp_path / HEN / "notes.txt").touch()
    dataset = read_imagenet(tmp_path)
    assert [sample.name for sample in dataset.samples] == [
        f"{TENCH}/ILSVRC2012_val_00000002.JPEG",
        f"{HEN}/ILSVRC2012_val_00000001.JPEG",
        f"{HEN}/ILSVRC2012_val_00000003.JPEG",
    ]
    assert dict(dataset.problems) == {
        "stray photographs": "1 photograph (stray.jpg) in no class folder, and so without a label",
        "n09999999": "the class folder holds no photographs",
        "other files": f"not taken for photographs, by their names: 1 file ({HEN}/notes.txt) of {tmp_path}",
    }


def test_kaggles_boxes_are_found_for_class_folders_too(tmp_path):
    make_imagenet(tmp_path, [(HEN, None)])
    rows = [("ILSVRC2012_val_00000001", f"{HEN} 1 2 3 4")]
    write_csv(tmp_path / "LOC_val_solution.csv", ("ImageId", "PredictionString"), *rows)
    (sample,) = read_imagenet(tmp_path).samples
    assert (sample.name, len(sample.boxes)) == (f"{HEN}/ILSVRC2012_val_00000001.JPEG", 1)


def test_labels_file_may_lie_beside_a_flat_folder(tmp_path, monkeypatch):
    folder = make_imagenet(tmp_path / "val", [(HEN, None)], layout="flat")
    (folder / "labels.csv").rename(tmp_path / "val.csv")
    assert read_imagenet(folder).samples[0].labels == (HEN,)
    monkeypatch.chdir(folder)
    assert read_imagenet(Path()).samples[0].labels == (HEN,)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "holds neither class folders such as n01440764 nor photographs"),
        (["a.jpg", "b.jpg"], r"no labels for the 2 photographs \(a.jpg, b.jpg\) in .*class folders"),
        ([f"{HEN}/notes.txt"], f"no photograph in .* can be used .*{HEN}: the class folder holds no"),
    ],
)
def test_imagenet_without_photographs_or_labels_is_refused(tmp_path, files, reason):
    (tmp_path / "val").mkdir()
    for name in files:
        (tmp_path / "val" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "val" / name).touch()
    with pytest.raises(InputError, match=reason):
        read_imagenet(tmp_path / "val")
