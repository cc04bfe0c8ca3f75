"""Where an evaluation keeps its rows: one SQLite file, to which whole units of work are added, each at once.

A unit is one method on one chunk of samples. Its rows, its pictures and the note that it is done are one
transaction, so a run that is killed at any moment finds on its return every unit either whole or absent.
SQLite was chosen over Parquet parts since it gives exactly that, and is read everywhere.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dmbp_jax.checks import InputError
from dmbp_jax.data import Problem
from dmbp_jax.data.atomic import atomic_path

FILE = "results.sqlite"
_FINGERPRINTS = {
    "samples_sha256": "other photographs, labels, boxes or sizes than there",
    "weights_sha256": "other weights than there",
}
"""What a difference in an unreadable number means."""
SCHEMA = """
CREATE TABLE config (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE units (chunk INTEGER, method TEXT, PRIMARY KEY (chunk, method));
CREATE TABLE rows (
    image TEXT, target INTEGER, method TEXT, metric TEXT, value REAL, seconds REAL, curve TEXT,
    PRIMARY KEY (image, target, method, metric)
);
CREATE TABLE problems (name TEXT PRIMARY KEY, message TEXT NOT NULL);
CREATE TABLE pictures (
    image TEXT, target INTEGER, method TEXT, png BLOB NOT NULL, PRIMARY KEY (image, target, method)
);
"""


class Row(NamedTuple):
    """One measurement."""

    image: str
    target: int
    """Class index."""
    method: str
    metric: str
    value: float | None
    """None where the metric is not defined, such as the correlation with a constant map."""
    seconds: float
    """That explaining this image for this target took: its share of its batch."""
    curve: tuple[float | None, ...] | None = None
    """What the metric sums up, if anything: probabilities, or one value per randomised layer."""


class Picture(NamedTuple):
    """A small picture for the report: a heat map, or with method `""` and target -1 the photograph."""

    image: str
    target: int
    method: str
    png: bytes


def storable(text: str) -> str:
    """`text` as it is stored: what is not valid in UTF-8, as a file's name may be, is spelled out.

    >>> storable("caf\\udce9.jpg")
    'caf\\\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Store:
    """The file of one run; made by `create_store` or `open_store`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    def config(self) -> dict[str, Any]:
        """What determines the rows."""
        return self._read("config")

    def about(self) -> dict[str, Any]:
        """Versions and the machine: recorded, not compared."""
        return self._read("about")

    def _read(self, table: str) -> dict[str, Any]:
        rows = self._connection.execute(f"SELECT name, value FROM {table} ORDER BY rowid")
        return {name: json.loads(value) for name, value in rows}

    def done(self) -> set[tuple[int, str]]:
        """The units, `(chunk, method)`, that are complete."""
        return set(self._connection.execute("SELECT chunk, method FROM units"))

    def add(self, chunk: int, method: str, rows: Iterable[Row], pictures: Iterable[Picture] = ()) -> None:
        """Add a unit whole; raises `InputError` if it is there, which another process must have added."""
        with self._transaction() as connection:
            try:
                connection.execute("INSERT INTO units VALUES (?, ?)", (chunk, method))
            except sqlite3.IntegrityError:
                raise InputError(
                    f"another process is adding to {self.path} at the same time; let one of them finish, "
                    "then run again"
                ) from None
            connection.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (storable(image), *rest, None if curve is None else json.dumps(curve))
                    for image, *rest, curve in rows
                ],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?)",
                [(storable(image), *rest) for image, *rest in pictures],
            )

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Note samples that cannot be evaluated; noting one again changes nothing."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO problems VALUES (?, ?)",
                [(storable(name), storable(message)) for name, message in problems],
            )

    def rows(self) -> Iterator[Row]:
        """Every row, in the order in which they were added."""
        for one in self._connection.execute("SELECT * FROM rows ORDER BY rowid"):
            row = Row(*one)
            yield row if row.curve is None else row._replace(curve=tuple(json.loads(one[-1])))

    def problems(self) -> list[Problem]:
        """What could not be evaluated, by image."""
        return [Problem(*one) for one in self._connection.execute("SELECT * FROM problems ORDER BY name")]

    def pictures(self) -> Iterator[Picture]:
        """Every picture."""
        for one in self._connection.execute("SELECT * FROM pictures ORDER BY rowid"):
            yield Picture(*one)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _reporting(self.path), self._connection:
            yield self._connection


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """The store of an existing run, for reading and adding.

    Raises `InputError` if `folder` holds no run, or one that is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no evaluation: there is no {FILE} in it")
    # A report of a very large run walks its rows for minutes, while nobody can write.
    with contextlib.closing(sqlite3.connect(path, timeout=900)) as connection:
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("SELECT * FROM units LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} is not the file of an evaluation, or damaged: {error}") from None
        yield Store(connection, path)


@contextlib.contextmanager
def resume_store(folder: Path, config: dict[str, Any], about: dict[str, Any]) -> Iterator[Store]:
    """The store of a run with that `config`: a new one, or the one that is there to be continued.

    Raises `InputError` that shows the differences if `folder` holds a run with another `config`.
    """
    path = folder / FILE
    if not path.exists():
        # The file appears whole, with its configuration: a kill between the two leaves nothing to trip over.
        with (
            atomic_path(path) as temporary,
            _reporting(path),
            contextlib.closing(sqlite3.connect(temporary)) as connection,
            connection,
        ):
            connection.executescript(SCHEMA)
            for table, values in (("config", config), ("about", about)):
                connection.executemany(
                    f"INSERT INTO {table} VALUES (?, ?)",
                    [(name, json.dumps(value)) for name, value in values.items()],
                )
    with open_store(folder) as store:
        differences = _differences(store.config(), json.loads(json.dumps(config)))
        if differences:
            raise InputError(
                f"{folder} holds a run of another configuration; take another folder, or the same options:\n"
                + "\n".join(differences)
            )
        yield store


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
def _reporting(path: Path) -> Iterator[None]:
    """SQLite's errors in writing, as the ones of this package."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot write {path}: {error}. What was finished is kept: make room or mend the folder, then "
            "run the same command again"
        ) from None
