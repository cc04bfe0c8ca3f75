"""The files of a run: one for each of its processes, each with the configuration of the run.

So no file has two writers: SQLite would let them take turns, but its locks cannot be relied on where
processes of several machines share a folder.
"""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dmbp_jax.checks import InputError
from dmbp_jax.data.atomic import atomic_path

FILE = "results.sqlite"
"""Of the first process; the second has `results-1.sqlite`."""
_PART = re.compile(r"results-([1-9]\d*)\.sqlite")
_FINGERPRINTS = {
    "samples_sha256": "other photographs, labels, boxes or sizes than there",
    "weights_sha256": "other weights than there",
}
"""What a difference in an unreadable number means."""
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
    """The file that a process adds to."""
    return folder / (FILE if process == 0 else f"results-{process}.sqlite")


def files_of(folder: Path) -> list[Path]:
    """All files of a run that there are, in the order of their processes."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(found[1]) for name in names if (found := _PART.fullmatch(name)))
    first = [folder / FILE] if FILE in names else []
    return [*first, *(file_of(folder, number) for number in numbers)]


def holds_run(folder: Path) -> bool:
    """Whether a run has been begun there."""
    return file_of(folder, 0).is_file()


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there; raises `InputError` for one that is damaged or something else."""
    # A report of a very large run walks its rows for minutes, while nobody can write.
    connection = sqlite3.connect(path, timeout=900)
    try:
        connection.execute("SELECT metric FROM units LIMIT 1")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise InputError(
            f"{path} is not the file of an evaluation, or damaged, or of another version: {error}"
        ) from None
    return connection


def settings(connection: sqlite3.Connection, table: str) -> dict[str, Any]:
    """The table `config` or `about`."""
    rows = connection.execute(f"SELECT name, value FROM {table} ORDER BY rowid")
    return {name: json.loads(value) for name, value in rows}


def settings_in(path: Path, table: str) -> dict[str, Any]:
    """The table `config` or `about` of a file."""
    with contextlib.closing(connect(path)) as connection:
        return settings(connection, table)


def make_file(path: Path, config: dict[str, Any], about: dict[str, Any]) -> None:
    """A file without units. It appears whole: a kill meanwhile leaves nothing to trip over."""
    with (
        atomic_path(path) as temporary,
        reporting(path),
        contextlib.closing(sqlite3.connect(temporary)) as connection,
    ):
        fill(connection, config, about)


def fill(connection: sqlite3.Connection, config: dict[str, Any], about: dict[str, Any]) -> None:
    """Make an empty database a run's, without units."""
    with connection:
        connection.executescript(SCHEMA)
        for table, values in (("config", config), ("about", about)):
            connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in values.items()],
            )


def check_config(folder: Path, config: dict[str, Any]) -> None:
    """Raise `InputError` that shows the differences if a file of the run there has another `config`."""
    given = json.loads(json.dumps(config))
    for path in files_of(folder):
        differences = _differences(settings_in(path, "config"), given)
        if differences:
            raise InputError(
                f"{folder} holds a run of another configuration; take another folder, or the same options:\n"
                + "\n".join(differences)
            )


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
    """SQLite's errors in writing, as the ones of this package."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot write {path}: {error}. What was finished is kept: make room or mend the folder, then "
            "run the same command again"
        ) from None
