"""The files of a run: one for each of its processes, each with the configuration of the run.

So no file has two writers: SQLite's locks are not reliable where processes of several machines share a
folder.
"""

import contextlib
import functools
import json
import re
import sqlite3
from collections.abc import Iterator, Set
from pathlib import Path
from types import UnionType
from typing import Any

from dmbp_jax._checks import InputError, shorten
from dmbp_jax.images._files import atomic_path

FILE = "results.sqlite"
"""The file of the first process; the second one's is `results-1.sqlite`."""
_PART = re.compile(r"results-([1-9]\d*)\.sqlite")
_FINGERPRINTS = {
    "samples_sha256": "other photographs, labels, boxes or sizes than there",
    "weights_sha256": "other weights than there",
    "apply_sha256": "another network than there: another function, or what it closes over",
    "preprocess_sha256": "another preprocessing than there",
    "classes_sha256": "other names of the classes than there",
}
"""The meaning of a difference in a hash."""
SETTINGS: dict[str, type | UnionType] = {
    **dict.fromkeys(("dataset", "model", "weights", "preset", "target", "data"), str),
    **dict.fromkeys(("samples", "chunks", "seed", "grid"), int),
    **dict.fromkeys(("limit", "per_class"), int | None),
    "split": str | None,
    "batch_size": int | str,
    **dict.fromkeys(("methods", "classes", "titles", "versions", "computed_by"), dict),
}
"""The types of settings that are read again; the others are compared or shown only."""
INSIDE: dict[str, type] = {"methods": dict, "classes": str, "titles": str}
"""The types of the values of settings that are tables."""
SCHEMA = """
CREATE TABLE config (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE metrics (name TEXT PRIMARY KEY, code TEXT NOT NULL, shown TEXT NOT NULL);
CREATE TABLE units (chunk INTEGER, method TEXT, metric TEXT, PRIMARY KEY (chunk, method, metric));
CREATE TABLE rows (
    image TEXT, target INTEGER, method TEXT, metric TEXT, value REAL, seconds REAL, curve TEXT,
    PRIMARY KEY (image, target, method, metric)
);
CREATE TABLE problems (name TEXT PRIMARY KEY, message TEXT NOT NULL);
CREATE TABLE pictures (
    image TEXT, target INTEGER, method TEXT, png BLOB NOT NULL, PRIMARY KEY (image, target, method)
);
CREATE TABLE maps (
    image TEXT, target INTEGER, method TEXT, seconds REAL, height INTEGER, width INTEGER, scale REAL,
    float16 BLOB NOT NULL, PRIMARY KEY (image, target, method)
);
CREATE TABLE compiling (seconds REAL);
"""


def file_of(folder: Path, process: int) -> Path:
    """The file that a process writes."""
    return folder / (FILE if process == 0 else f"results-{process}.sqlite")


def files_of(folder: Path) -> list[Path]:
    """All existing files of a run, in the order of their processes."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(found[1]) for name in names if (found := _PART.fullmatch(name)))
    first = [folder / FILE] if FILE in names else []
    return [*first, *(file_of(folder, number) for number in numbers)]


def holds_run(folder: Path) -> bool:
    """Whether the folder holds a run."""
    return file_of(folder, 0).is_file()


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file; raises `InputError` for a damaged file or another kind of file."""
    if not path.is_file():
        raise InputError(f"{path} is no file")
    try:
        # A report of a very large run reads its rows for minutes, during which nothing can be written.
        connection = sqlite3.connect(path, timeout=900)
    except sqlite3.Error as error:
        raise InputError(f"cannot open {path}: {error}") from None
    try:
        with reading(path):
            # An untrusted file may have views and triggers, which are programs, under the names of these
            # tables.
            connection.execute("PRAGMA trusted_schema = OFF")
            if _schema(connection) != _our_schema():
                raise ValueError("it has other tables")
    except InputError:
        connection.close()
        raise
    return connection


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    # Names with the prefix `sqlite_` are SQLite's own: the indices of the keys, statistics of `ANALYZE`.
    found = connection.execute("SELECT type, name, sql FROM sqlite_schema")
    return {tuple(one) for one in found if not str(one[1]).startswith("sqlite_")}


@functools.cache
def _our_schema() -> set[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _schema(connection)


@contextlib.contextmanager
def reading(path: Path | None) -> Iterator[None]:
    """A `with` block that reads a file of a run: damage raises an `InputError` that names the file."""
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path or 'the run'} is not the file of an evaluation, or damaged, or of another version: "
            f"{shorten(error, most=200)}"
        ) from None


def settings(connection: sqlite3.Connection, table: str, path: Path | None) -> dict[str, Any]:
    """The table `config` or `about`; `path` is for messages."""
    with reading(path):
        rows = connection.execute(f"SELECT name, value FROM {table} ORDER BY rowid")
        found = {name: json.loads(value) for name, value in rows}
        for name, value in found.items():
            if name in SETTINGS and not isinstance(value, SETTINGS[name]):
                raise TypeError(f"{name} of its {table} is {type(value).__name__}")
            if name in INSIDE and not all(isinstance(one, INSIDE[name]) for one in value.values()):
                raise TypeError(f"{name} of its {table} holds something else than {INSIDE[name].__name__}")
        return found


def settings_in(path: Path, table: str) -> dict[str, Any]:
    """The table `config` or `about` of a file."""
    with contextlib.closing(connect(path)) as connection:
        return settings(connection, table, path)


def make_file(path: Path, config: dict[str, Any], about: dict[str, Any]) -> None:
    """Create a file without units, atomically."""
    with (
        atomic_path(path) as temporary,
        reporting(path),
        contextlib.closing(sqlite3.connect(temporary)) as connection,
    ):
        fill(connection, config, about)


def fill(connection: sqlite3.Connection, config: dict[str, Any], about: dict[str, Any]) -> None:
    """Create the tables of a run without units in an empty database."""
    with connection:
        connection.executescript(SCHEMA)
        for table, values in (("config", config), ("about", about)):
            connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in values.items()],
            )


def check_config(folder: Path, config: dict[str, Any]) -> None:
    """Raise `InputError` that shows the differences if a file of the run has another `config`. Its methods
    may differ, except those of the same name."""
    given = json.loads(json.dumps(config))
    for path in files_of(folder):
        there = settings_in(path, "config")
        both = there.get("methods", {}).keys() & given.get("methods", {}).keys()
        differences = _differences(_with_methods(there, both), _with_methods(given, both))
        if differences:
            raise InputError(
                f"{folder} holds a run of another configuration; take another folder, or the same options:\n"
                + "\n".join(differences)
            )


def add_methods(
    connection: sqlite3.Connection, path: Path, config: dict[str, Any], about: dict[str, Any]
) -> None:
    """Record further methods of a run: their descriptions in `config`, their titles in `about`."""
    with reporting(path), connection:
        for table, name, given in (("config", "methods", config), ("about", "titles", about)):
            there = settings(connection, table, path).get(name, {})
            more = {one: what for one, what in given.get(name, {}).items() if one not in there}
            if more:
                connection.execute(f"DELETE FROM {table} WHERE name = ?", (name,))
                connection.execute(
                    f"INSERT INTO {table} VALUES (?, ?)", (name, json.dumps({**there, **more}))
                )


def _with_methods(config: dict[str, Any], names: Set[str]) -> dict[str, Any]:
    methods = {name: one for name, one in config.get("methods", {}).items() if name in names}
    return {**config, "methods": methods}


def _differences(there: Any, given: Any, name: str = "") -> list[str]:
    """One line for each leaf in which two nested dicts differ."""
    if isinstance(there, dict) and isinstance(given, dict):
        return [
            line
            for key in {**there, **given}
            for line in _differences(there.get(key), given.get(key), f"{name}.{key}" if name else key)
        ]
    if there == given:
        return []
    if name in _FINGERPRINTS:
        return [f"  {_FINGERPRINTS[name]}"]
    return [f"  {name}: there {json.dumps(there)}, now {json.dumps(given)}"]


@contextlib.contextmanager
def reporting(path: Path) -> Iterator[None]:
    """A `with` block that converts SQLite's errors of writing to `InputError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot write {path}: {error}. What was finished is kept: free disk space or repair the folder, "
            "then run the same command again"
        ) from None
