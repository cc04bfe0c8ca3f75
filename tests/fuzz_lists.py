"""Labels, annotations and names to be spoiled."""

from pathlib import Path

from fuzz_images import PHOTO
from fuzz_mutate import mutate, of_files, programs
from hypothesis import strategies as st

from dmbp_jax._checks import InputError
from dmbp_jax.images import decode, open_dataset

LABELS = {
    "index.csv": b"file,class_index\na.png,3\nsub/b.png,4\n",
    "wnid.csv": b"ImageId,PredictionString\r\na,n03995372 5 1 9 7 n03995372 5 6 7 8\n\nb,n03995372 1 2 3 4\n",
    "escape.csv": b"file,label\n../outside/secret.png,cat\n/etc/passwd,cat\nC:\\\\x.png,dog\n../x,../y\n",
    "bom.csv": "\ufefffile,wnid,class_name\na.png,n01440764,tench\n".encode(),
}


def read_all(dataset: object) -> None:
    for sample in dataset.samples:
        for path in sample.paths:
            decode(path)


def run_labels(folder: Path, case: tuple[str, bytes]) -> None:
    (folder / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/b.png"):
        (folder / name).write_bytes(PHOTO)
    (folder / "labels.csv").write_bytes(case[1])
    read_all(open_dataset(f"folder:{folder}"))


ANNOTATION = b"""<annotation><folder>VOC2012</folder><filename>2008_000002.jpg</filename>
<size><width>36</width><height>24</height><depth>3</depth></size>
<object><name>tvmonitor</name><pose>Frontal</pose><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4.5</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""

LAUGHS = b"".join(b'<!ENTITY %c "%b">' % (98 + i, b"&%c;" % (97 + i) * 50) for i in range(9))

ANNOTATIONS = {
    "plain": ANNOTATION,
    "utf16": ANNOTATION.decode().encode("utf-16"),
    "laughs": b'<!DOCTYPE x [<!ENTITY a "ha">' + LAUGHS + b"]>" + ANNOTATION.replace(b"cat", b"&j;"),
    "outside": b'<!DOCTYPE x [<!ENTITY a SYSTEM "../outside/secret.png">]>'
    + ANNOTATION.replace(b"cat", b"&a;"),
    "deep": b"<annotation>" + b"<a>" * 2000 + ANNOTATION + b"</a>" * 2000 + b"</annotation>",
}


def run_voc(folder: Path, case: tuple[str, bytes, bytes]) -> None:
    _, annotation, split = case
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / "VOC2012" / name).mkdir(parents=True)
    root = folder / "VOC2012"
    (root / "ImageSets" / "Main" / "val.txt").write_bytes(split)
    (root / "JPEGImages" / "2008_000002.jpg").write_bytes(PHOTO)
    (root / "Annotations" / "2008_000002.xml").write_bytes(annotation)
    read_all(open_dataset(f"voc2012:{root}"))


def voc_cases() -> st.SearchStrategy:
    split = st.one_of(
        st.just(b"2008_000002\n"),
        st.sampled_from([b"../../outside/secret\n", b"/etc/passwd\n", b"2008_000002 1\n", b"\xff\xfe\n"]),
        programs().map(lambda program: mutate(b"2008_000002\n2008_000003\n", program)),
    )
    # Mostly the split is whole, else the annotation is never read; and mostly the annotation is a plain one.
    plain = st.tuples(st.just("plain"), programs().map(lambda program: mutate(ANNOTATION, program)))
    return st.tuples(st.integers(0, 3), of_files(ANNOTATIONS), plain, st.integers(0, 4), split).map(
        lambda c: (*(c[1] if c[0] == 3 else c[2]), c[4] if c[3] == 4 else b"2008_000002\n")
    )


NAMES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "..",
            "/",
            "~nobody",
            "a" * 5000,
            "\0",
            "folder:",
            "grid:pairs:x",
            "imagenet:\0",
            "voc2012:..",
            "folder:~nobody/x",
        ]
    ),
    st.tuples(
        st.sampled_from(["folder:", "imagenet:", "voc2007:", "voc2012:", "grid:", "pairs:"]),
        st.text(max_size=20),
    ).map("".join),
)


def run_name(folder: Path, case: str) -> None:
    for act in (open_dataset, lambda name: decode(folder / name)):
        try:
            act(case)
        except InputError:
            continue
    raise InputError("names of nothing")
