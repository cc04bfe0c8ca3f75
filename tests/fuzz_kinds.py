"""What is fuzzed: kinds of files, good ones of each kind, and what reads them.

A case is a file and what is done with it. It may be read, or refused by one `InputError`; see `fuzz_child`.
"""

import functools
import io
import json
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import safetensors.numpy
from fuzz_mutate import mutate, programs
from hypothesis import strategies as st
from state_dicts import TINY, random_state

from dmbp_jax import Attribution
from dmbp_jax.checks import InputError
from dmbp_jax.data import Preprocess, Problem, Sample, decode, input_shape, open_dataset, read_segmentation
from dmbp_jax.evaluation.kept_maps import KeptMap, keep_map
from dmbp_jax.evaluation.map_folder import MapFolder
from dmbp_jax.evaluation.registry import METRICS
from dmbp_jax.evaluation.store import Picture, Row, resume_store
from dmbp_jax.pretrained.files import read_checkpoint, read_safetensors
from dmbp_jax.pretrained.state_dict import check_state_dict, to_params
from dmbp_jax.report.write import write_report
from dmbp_jax.result.scores import Scores


class Kind(NamedTuple):
    """A kind of input."""

    name: str
    cases: st.SearchStrategy
    run: Callable[[Path, object], None]
    """Called with an empty folder and a case; ends well, or with `InputError`."""
    share: int = 1
    """How many of all cases, relative to the others'."""


NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
NOISE[:, 18:] = NOISE[:, 18:19]  # half of it compresses


def encoded(image: PIL.Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def npy(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def photographs() -> dict[str, bytes]:
    """Good photographs in all that is read, by the file's name."""
    rgb = PIL.Image.fromarray(NOISE)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    grey16 = PIL.Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    palette, alpha = rgb.quantize(32), rgb.copy()
    alpha.putalpha(PIL.Image.fromarray(NOISE[..., 1]))
    frames = [rgb.rotate(90 * k) for k in range(3)]
    found = {
        "plain.jpg": encoded(rgb, "JPEG", exif=exif),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True, quality=60, comment=b"words"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "plain.png": encoded(rgb, "PNG", exif=exif, dpi=(72, 72)),
        "palette.png": encoded(palette, "PNG", transparency=3),
        "grey16.png": encoded(grey16, "PNG"),
        "alpha.png": encoded(alpha, "PNG"),
        "frames.png": encoded(rgb, "PNG", save_all=True, append_images=frames[1:]),
        "lossy.webp": encoded(rgb, "WEBP", exif=exif),
        "lossless.webp": encoded(alpha, "WEBP", lossless=True),
        "frames.webp": encoded(rgb, "WEBP", save_all=True, append_images=frames[1:], duration=9),
        "plain.bmp": encoded(rgb, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "plain.gif": encoded(palette, "GIF", comment=b"words"),
        "frames.gif": encoded(palette, "GIF", save_all=True, append_images=frames[1:], duration=9),
        "plain.tif": encoded(rgb, "TIFF"),
        "grey16.tif": encoded(grey16, "TIFF"),
        "float.tif": encoded(PIL.Image.fromarray(NOISE[..., 0] / np.float32(255)), "TIFF"),
        "frames.tif": encoded(rgb, "TIFF", save_all=True, append_images=frames[1:]),
        "plain.npy": npy(NOISE),
        "float.npy": npy(NOISE / 255),
    }
    for way in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"{way}.tif"] = encoded(rgb, "TIFF", compression=way)
    found["group4.tif"] = encoded(rgb.convert("1"), "TIFF", compression="group4")
    return found


@functools.cache
def foreign() -> dict[str, bytes]:
    """What Pillow would read, and what is not promised: each must be refused, whatever it is called."""
    rgb = PIL.Image.fromarray(NOISE)
    ways = (
        "EPS",
        "SPIDER",
        "DDS",
        "ICO",
        "JPEG2000",
        "PPM",
        "TGA",
        "PCX",
        "SGI",
        "MSP",
        "XBM",
        "AVIF",
        "ICNS",
    )
    modes = {"SPIDER": "F", "MSP": "1", "XBM": "1"}
    found = {}
    for way in ways:
        try:
            found[way] = encoded(rgb.convert(modes.get(way, "RGB")), way)
        except (OSError, KeyError):
            continue  # a library that this machine lacks
    found["BLP"] = b"BLP2" + struct.pack("<IBBBBII", 1, 1, 0, 0, 0, 8, 8) + bytes(2000)
    return found


def of_files(files: dict[str, bytes]) -> st.SearchStrategy:
    """A name, and the file of that name or another, mutated."""
    names, contents = list(files), list(files.values())
    return st.tuples(
        st.sampled_from(names),
        st.integers(0, len(names) - 1),
        st.booleans(),
        programs(),
    ).map(lambda c: (c[0], mutate(contents[names.index(c[0]) if c[2] else c[1]], c[3])))


def run_photo(folder: Path, case: tuple[str, bytes]) -> None:
    name, content = case
    path = folder / name
    path.write_bytes(content)
    input_shape(Sample(name, (path,), ("1",)), Preprocess(crop=None))
    decode(path)
    Preprocess(resize=16, crop=12)(path)


def tiled(width: int, height: int, across: int, down: int) -> bytes:
    """A TIFF of one grey tile, packed."""
    data = zlib.compress(bytes(min(across * down, 2**24)), 9)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: across, 323: down, 325: len(data)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data


@functools.cache
def sized(form: str, width: int, height: int) -> bytes:
    """A good file of few bytes that says it has so many pixels."""
    image = PIL.Image.fromarray(NOISE)
    if form == "PNG":
        # Sound to the last, and rows of nothing: as many as 2 MB of packed zeros hold.
        rows = min(height, max(2**31 // (3 * width + 1), 1))
        packer = zlib.compressobj(9)
        data = (
            b"".join(packer.compress(bytes(3 * width + 1)) for _ in range(min(rows, 2000))) + packer.flush()
        )
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            (b"IDAT", data),
            (b"IEND", b""),
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    if form == "BMP":
        content = bytearray(encoded(image, "BMP"))
        content[18:26] = struct.pack("<ii", min(width, 2**31 - 1), min(height, 2**31 - 1))
        return bytes(content)
    if form == "TIFF":
        return tiled(width, height, 256, 256)
    if form == "tile":
        return tiled(60, 40, min(width, 2**20), min(height, 2**20))
    width, height = width % 2**16, height % 2**16
    if form == "GIF":
        content = bytearray(encoded(image, "GIF"))
        frame = content.rindex(b"\x2c\0\0\0\0\x24\0\x18\0")
        content[6:10] = content[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
        return bytes(content)
    if form == "WEBP":
        content = bytearray(encoded(image, "WEBP"))
        content[26:30] = struct.pack("<HH", width % 2**14, height % 2**14)
        return bytes(content)
    content = bytearray(encoded(image, "JPEG", progressive=form == "scans"))
    frame = content.index(b"\xff\xc2" if form == "scans" else b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    if form == "scans":
        last = content.rindex(b"\xff\xda")
        content[last:last] = content[last:-2] * 500
    return bytes(content)


SIDES = (1, 36, 4000, 4096, 4097, 8192, 11586, 16383, 20000, 65535, 2**20, 2**31 - 1)


def sized_cases() -> st.SearchStrategy:
    """Every format at every size; of some a program spoils a little besides."""
    forms = st.sampled_from(["PNG", "BMP", "TIFF", "tile", "GIF", "WEBP", "JPEG", "scans"])
    plain = st.tuples(forms, st.sampled_from(SIDES), st.sampled_from(SIDES)).map(lambda c: sized(*c))
    return plain.map(lambda content: ("cat.jpg", content))


def run_foreign(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / "cat.jpg"
    path.write_bytes(case[1])
    decode(path)
    raise AssertionError(f"read what is no photograph: {case[0]}")


def segmentations() -> dict[str, bytes]:
    classes = PIL.Image.fromarray((np.arange(24 * 36) // 44 % 21).astype(np.uint8).reshape(24, 36))
    palette = classes.copy().convert("P")
    palette.putpalette(list(range(256)) * 3)
    return {"grey.png": encoded(classes, "PNG"), "palette.png": encoded(palette, "PNG")}


def run_segmentation(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / case[0]
    path.write_bytes(case[1])
    read_segmentation(
        Sample("x", (path,), ("cat",), segmentation=path), Preprocess(resize=16, crop=12), (24, 36)
    )


LABELS = {
    "index.csv": b"file,class_index\na.png,3\nsub/b.png,4\n",
    "wnid.csv": b'ImageId,PredictionString\r\na,n03995372 85 1 9 27 n03995372 5 6 7 8\r\n"b",n03995372 1 2 3 4\n',
    "escape.csv": b"file,label\n../outside/secret.png,cat\n/etc/passwd,cat\nC:\\\\x.png,dog\n../x,../y\n",
    "bom.csv": "\ufefffile,wnid,class_name\na.png,n01440764,tench\n".encode(),
}
PHOTO = encoded(PIL.Image.fromarray(NOISE), "PNG")


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
        lambda c: (*(c[2] if c[0] else c[1]), b"2008_000002\n" if c[3] else c[4])
    )


def tensors_of(state: dict[str, np.ndarray], **metadata: str) -> bytes:
    return safetensors.numpy.save(state, metadata or None)


def with_header(content: bytes, change: Callable[[dict], None]) -> bytes:
    """A safetensors file whose header is another, with its length made right."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


HEADER_VALUES = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**32, 2**62, 2**63, 2**64, 2**70, 1.5, None, "x", [], {}, True]),
    st.integers(-5, 100),
)
DTYPES = (
    "F64",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F6_E2M3",
    "F4",
    "C64",
    "I64",
    "U16",
    "BOOL",
    "X",
)


def header_cases(contents: list[bytes]) -> st.SearchStrategy:
    """Headers that are JSON and say something else: dtypes, shapes, offsets, names, metadata."""

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        def change(header: dict) -> None:
            for _ in range(draw(st.integers(1, 3))):
                name = draw(st.sampled_from(sorted(header)))
                entry = header[name]
                if not isinstance(entry, dict) or "shape" not in entry:
                    header[name] = draw(st.one_of(HEADER_VALUES, st.dictionaries(st.text(), HEADER_VALUES)))
                    continue
                what = draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", "values", "drop"]))
                if what == "dtype":
                    entry["dtype"] = draw(st.sampled_from(DTYPES))
                elif what in ("shape", "data_offsets"):
                    entry[what] = draw(st.lists(HEADER_VALUES, max_size=6))
                elif what == "name":
                    header[draw(st.text(max_size=20))] = header.pop(name)
                elif what == "values":
                    # One that no byte has to stand for: a length of nothing beside a length beyond counting.
                    entry["shape"] = [0, draw(st.sampled_from([2**31, 2**62, 2**63, 2**64 - 1])), 2]
                    entry["data_offsets"] = [*entry["data_offsets"], 0][:1] * 2
                else:
                    del header[name]

        return with_header(draw(st.sampled_from(contents)), change)

    return draw()


def tensor_cases(contents: dict[str, bytes]) -> st.SearchStrategy:
    return st.one_of(
        of_files(contents).map(lambda c: c[1]),
        of_files(contents).map(lambda c: c[1]),
        header_cases(list(contents.values())),
    )


STATE = random_state(TINY)
WEIGHTS = {
    "plain": tensors_of(STATE),
    "half": tensors_of({name: tensor.astype(np.float16) for name, tensor in STATE.items()}, format="pt"),
    "double": tensors_of({name: tensor.astype(np.float64) * 1e300 for name, tensor in STATE.items()}),
}


def run_weights(folder: Path, case: bytes) -> None:
    path = folder / "w.safetensors"
    path.write_bytes(case)
    state, _ = read_safetensors(path)
    to_params(state, check_state_dict(state, TINY, str(path)), str(path))


def explanations() -> dict[str, bytes]:
    one = {"values": np.ones((1, 4, 4, 3), np.float32), "finite": np.ones(1, bool)}
    one |= {f"history.{name}": np.ones((1, 3), np.float32) for name in Scores._fields}
    scores = {f"scores.{name}": np.ones(1, np.float32) for name in Scores._fields}
    masks = {"masks.layer1.0.relu1": np.ones((1, 4, 4, 2), np.float32), "photo": NOISE}
    return {
        "one": tensors_of(one | scores | masks),
        "two": tensors_of({f"{method}/{key}": a for method in ("rise", "dmbp") for key, a in one.items()}),
    }


def run_explanation(folder: Path, case: tuple[bytes, str]) -> None:
    path = folder / "why.safetensors"
    path.write_bytes(case[0])
    found = Attribution.load(path, case[1])
    repr(found)
    _ = found.heatmap


def run_map(folder: Path, case: tuple[str, bytes]) -> None:
    (folder / "x.npy").write_bytes(case[1])
    maps = MapFolder.at(str(folder))
    maps.fingerprint()
    maps.read("x", 3, (6, 5), alone=True)


MAPS = {
    "plain": npy(np.ones((6, 5), np.float32)),
    "channels": npy(np.ones((6, 5, 3), np.float64) * 1e300),
    "objects": npy(np.asarray([[{}, None]], object), allow_pickle=True),
    "complex": npy(np.ones((6, 5), np.complex64)),
    "version2": b"\x93NUMPY\2\0"
    + struct.pack("<I", 60)
    + b"{'descr': '<f4', 'fortran_order': True, 'shape': (6, 5)}   \n"
    + bytes(120),
}
KEPT = keep_map("a.jpg", 3, "dmbp", 0.1, np.ones((6, 5), np.float32))
BOMB = zlib.compress(bytes(2**24), 9)


def kept_cases() -> st.SearchStrategy:
    numbers = st.one_of(st.sampled_from([0, 5, 6, -1, 2**13, 2**31, 2**62]), st.integers(-10, 100))
    content = st.one_of(st.just(BOMB), programs().map(lambda program: mutate(KEPT.values, program)))
    return st.tuples(
        st.one_of(st.just(6), numbers),
        st.one_of(st.just(5), numbers),
        st.floats(width=64),
        st.one_of(st.just(KEPT.values), content),
    )


def run_kept(folder: Path, case: tuple[int, int, float, bytes]) -> None:
    height, width, scale, values = case
    heatmap = KeptMap("a", 3, "dmbp", 0.1, height, width, scale, values).heatmap()
    assert heatmap.shape == (height, width)


CONFIG = {
    **{
        "dataset": "imagenet",
        "model": "squeezenet1_1",
        "weights": "caffe",
        "preset": "paper",
        "target": "truth",
    },
    **{"samples": 2, "chunks": 1, "split": None, "limit": None, "per_class": 5, "batch_size": 8, "seed": 0},
    "methods": {"dmbp": {"options": {"steps": 200}}, "gradient": {"options": {}}},
}
ABOUT = {
    "data": "imagenet:/data",
    "classes": {"3": "cat", "4": "dog"},
    "titles": {},
    "versions": {"python": "3"},
}


def make_run(folder: Path) -> None:
    """A small run with everything in it, some of it in a second process's file."""
    curve = (0.0, 0.5, None)
    for process in (0, 1):
        with resume_store(folder, CONFIG, ABOUT, process=process) as store:
            store.add_metrics([METRICS["im"], METRICS["deletion"]])
            image = f"{process}.jpg"
            for method in ("dmbp", "gradient"):
                rows = {m: [Row(image, 3, method, m, 0.5, 0.1, curve)] for m in ("im", "deletion")}
                pictures = [Picture(image, 3, method, PHOTO), Picture(image, -1, "", PHOTO)]
                kept = KEPT._replace(image=image, method=method)
                store.add(process, method, rows, pictures, maps=[kept], compiling=1.0)
            store.add_problems([Problem("b.jpg", "no such file")])


def read_run(folder: Path) -> None:
    with resume_store(folder, CONFIG, ABOUT) as store:
        store.metrics(), store.done(), store.problems(), store.compiling(), store.about()
        list(store.rows()), list(store.pictures())
        kept = store.kept_map("1.jpg", 3, "dmbp")
        if kept is not None:
            kept.heatmap()
        store.add_problems([Problem("c.jpg", "no such file")])
    write_report(folder)


class RunFiles:
    """A good run, made once."""

    def __init__(self, folder: Path) -> None:
        make_run(folder)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".sqlite"}

    def lay_out(self, folder: Path) -> None:
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
TEXTS = st.one_of(
    JSON.map(json.dumps),
    st.sampled_from(["", "{", "[" * 5000, "NaN", "1" * 5000, '"\\ud800"', "<script>alert(1)</script>"]),
)
SQL_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=9),
    TEXTS,
)
COLUMNS = [
    *(("config", "value", name) for name in CONFIG),
    *(("about", "value", name) for name in ABOUT),
    *(("metrics", column, "im") for column in ("name", "code", "shown")),
    *(
        ("rows", column, None)
        for column in ("image", "target", "method", "metric", "value", "seconds", "curve")
    ),
    *(("units", column, None) for column in ("chunk", "method", "metric")),
    *(("pictures", column, None) for column in ("image", "target", "method", "png")),
    *(("maps", column, None) for column in ("image", "seconds", "height", "width", "scale", "float16")),
    *(("problems", column, None) for column in ("name", "message")),
    ("compiling", "seconds", None),
]
STATEMENTS = (
    "DELETE FROM config WHERE name = 'model'",
    "DELETE FROM about WHERE name = 'classes'",
    "DELETE FROM config",
    "DROP TABLE units",
    "DROP TABLE rows; CREATE VIEW rows AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT 'a' image, x target, 'm' method, 'im' metric, 1.0 value, 1.0 seconds, NULL curve, x rowid FROM n",
    "CREATE TRIGGER t AFTER INSERT ON problems BEGIN DELETE FROM rows; END",
    "ALTER TABLE rows ADD COLUMN more TEXT",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 7",
    "ANALYZE",
)


def settings_cases() -> st.SearchStrategy:
    """Statements, and values in single columns of which SQLite takes any."""
    return st.one_of(
        st.tuples(st.sampled_from(COLUMNS), st.one_of(SQL_VALUES, TEXTS)),
        st.tuples(st.sampled_from(COLUMNS), st.one_of(SQL_VALUES, TEXTS)),
        st.sampled_from(STATEMENTS),
    )


def run_settings(good: RunFiles, folder: Path, case: object) -> None:
    good.lay_out(folder)
    connection = sqlite3.connect(folder / "results.sqlite")
    try:
        if isinstance(case, str):
            connection.executescript(case)
        else:
            (table, column, name), value = case
            where = f"WHERE name = '{name}'" if name else ""
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ? {where}", (value,))
        connection.commit()
    except (sqlite3.Error, UnicodeError):
        pass  # SQLite itself refuses to write it
    finally:
        connection.close()
    read_run(folder)


def run_store(good: RunFiles, folder: Path, case: tuple[str, list[tuple], str]) -> None:
    which, program, extra = case
    good.lay_out(folder)
    path = folder / which
    path.write_bytes(mutate(good.files.get(which, b""), program))
    if extra == "folder":
        (folder / "results-2.sqlite").mkdir()
    elif extra == "link":
        (folder / "results-2.sqlite").symlink_to(folder / "results-2.sqlite")
    elif extra == "outside":
        (folder / "report.html").symlink_to(folder.parent / "outside" / "report.html")
    elif extra == "journal":
        (folder / "results.sqlite-journal").write_bytes(mutate(good.files["results.sqlite"], program))
    read_run(folder)


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


def checkpoints() -> dict[str, bytes]:
    import torch

    def saved(content: object, **options: object) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    state = {name: torch.from_numpy(tensor) for name, tensor in STATE.items()}
    return {
        "plain": saved(state),
        "inside": saved({"state_dict": state, "epoch": 3}),
        "legacy": saved(state, _use_new_zipfile_serialization=False),
        "half": saved({name: tensor.half() for name, tensor in state.items()}),
        "endless": saved({"x": torch.ones(1).half().expand(10**6, 10**6)}),
        "sparse": saved({"x": torch.eye(3).to_sparse()}),
        "code": saved({"x": Trap()}),
    }


class Trap:
    """Unpickled, it would start a program."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch trapped",)


def run_checkpoint(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / "w.pth"
    path.write_bytes(case[1])
    state = read_checkpoint(path)
    to_params(state, check_state_dict(state, TINY, str(path)), str(path))


def kinds(scratch: Path, *, torch: bool = False) -> dict[str, Kind]:
    """All kinds by name; with `torch` those alone that need PyTorch."""
    # So that no case pays for what JAX sets up once.
    to_params(STATE, check_state_dict(STATE, TINY, ""), "")
    if torch:
        return {"pth": Kind("pth", of_files(checkpoints()), run_checkpoint)}
    good = RunFiles(scratch / "good")
    read_run(scratch / "good")
    store_cases = st.tuples(
        st.sampled_from([*good.files, "results.sqlite", "results-3.sqlite"]),
        programs(),
        st.sampled_from(["", "", "", "folder", "link", "outside", "journal"]),
    )
    explanation_cases = st.tuples(tensor_cases(explanations()), st.sampled_from(["", "rise", "x"]))
    all_kinds = [
        Kind("photograph", of_files(photographs()), run_photo, share=10),
        Kind("declared size", sized_cases(), run_photo, share=1),
        Kind("foreign format", of_files(foreign()), run_foreign, share=2),
        Kind("segmentation", of_files(segmentations()), run_segmentation, share=2),
        Kind("labels CSV", of_files(LABELS), run_labels, share=2),
        Kind("VOC XML", voc_cases(), run_voc, share=3),
        Kind("weights", tensor_cases(WEIGHTS), run_weights, share=3),
        Kind("explanation", explanation_cases, run_explanation, share=3),
        Kind("map .npy", of_files(MAPS), run_map, share=2),
        Kind("kept map", kept_cases(), run_kept, share=1),
        Kind("run's SQLite", store_cases, lambda folder, case: run_store(good, folder, case), share=1),
        Kind(
            "run's settings", settings_cases(), lambda folder, case: run_settings(good, folder, case), share=1
        ),
        Kind("names", NAMES, run_name, share=1),
    ]
    shutil.rmtree(scratch / "good")
    return {kind.name: kind for kind in all_kinds}
