"""The folder of a run to be spoiled: its files byte by byte, and what its tables hold."""

import json
import sqlite3
from pathlib import Path

from fuzz_images import PHOTO
from fuzz_mutate import mutate
from fuzz_tensors import KEPT
from hypothesis import strategies as st

from dmbp_jax.evaluation._registry import METRICS
from dmbp_jax.evaluation._report import write_report
from dmbp_jax.evaluation._store import Picture, Row, resume_store
from dmbp_jax.images import Problem

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
            store.add_metrics([METRICS["insertion"], METRICS["deletion"]])
            image = f"{process}.jpg"
            for method in ("dmbp", "gradient"):
                rows = {m: [Row(image, 3, method, m, 0.5, 0.1, curve)] for m in ("insertion", "deletion")}
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
    *(("metrics", column, "insertion") for column in ("name", "code", "shown")),
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
    "SELECT 'a' image, x target, 'm' method, 'i' metric, 1.0 value, 1.0 seconds, NULL curve, x rowid FROM n",
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
