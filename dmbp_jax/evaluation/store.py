"""Where an evaluation keeps its rows: SQLite files, to which whole units of work are added, each at once.

A unit is one method on one chunk of samples. Its rows, its pictures and the note that it is done are one
transaction, so a run that is killed at any moment finds on its return every unit either whole or absent.
SQLite was chosen over Parquet parts since it gives exactly that, and is read everywhere.

Every process of a run has a file of its own, and whoever reads sees them all as one; see `store_files`.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dmbp_jax.checks import InputError
from dmbp_jax.data import Problem
from dmbp_jax.evaluation.store_files import (
    FILE,
    check_config,
    connect,
    file_of,
    files_of,
    holds_run,
    make_file,
    reporting,
    settings_in,
)


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
    """The files of one run, one of which is added to; made by `resume_store` or `open_store`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        """The file that is added to."""

    def config(self) -> dict[str, Any]:
        """What determines the rows."""
        return settings_in(file_of(self.path.parent, 0), "config")

    def about(self) -> dict[str, Any]:
        """Versions and the machine: recorded, not compared."""
        return settings_in(file_of(self.path.parent, 0), "about")

    def done(self) -> set[tuple[int, str]]:
        """The units, `(chunk, method)`, that are complete."""
        return set(self._read("SELECT chunk, method FROM units"))

    def add(self, chunk: int, method: str, rows: Iterable[Row], pictures: Iterable[Picture] = ()) -> None:
        """Add a unit whole; one that is there, since the same command runs twice, stays as it is."""
        with self._transaction() as connection:
            added = connection.execute("INSERT OR IGNORE INTO units VALUES (?, ?)", (chunk, method))
            if not added.rowcount:
                return
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
        """Every row once, file by file in the order in which they were added."""
        units = list(self._read("SELECT chunk, method FROM units"))
        # A process that was taken for dead, and was not, may have finished what another then did again.
        twice = len(set(units)) < len(units)
        seen: set[tuple[Any, ...]] = set()
        for one in self._read("SELECT * FROM rows ORDER BY rowid"):
            row = Row(*one)
            if twice:
                if row[:4] in seen:
                    continue
                seen.add(row[:4])
            yield row if row.curve is None else row._replace(curve=tuple(json.loads(one[-1])))

    def problems(self) -> list[Problem]:
        """What could not be evaluated, by image."""
        return [Problem(*one) for one in sorted(dict(self._read("SELECT * FROM problems")).items())]

    def pictures(self) -> Iterator[Picture]:
        """Every picture once."""
        seen: set[tuple[Any, ...]] = set()
        for one in self._read("SELECT * FROM pictures ORDER BY rowid"):
            if one[:3] not in seen:
                seen.add(one[:3])
                yield Picture(*one)

    def _read(self, query: str) -> Iterator[tuple[Any, ...]]:
        """What a query finds in all files of the run, also those that other processes have made meanwhile."""
        for path in files_of(self.path.parent):
            if path == self.path:
                yield from self._connection.execute(query)
            else:
                with contextlib.closing(connect(path)) as connection:
                    yield from connection.execute(query)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with reporting(self.path), self._connection:
            yield self._connection


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """The store of an existing run, for reading and adding.

    Raises `InputError` if `folder` holds no run, or one that is damaged.
    """
    with _open(folder, 0) as store:
        yield store


@contextlib.contextmanager
def resume_store(
    folder: Path, config: dict[str, Any], about: dict[str, Any], *, process: int = 0
) -> Iterator[Store]:
    """The store of a run with that `config`: a new one, or the one that is there to be continued.

    `process` says whose file is added to; the first process, 0, comes before the others.
    Raises `InputError` that shows the differences if `folder` holds a run with another `config`.
    """
    check_config(folder, config)
    path = file_of(folder, process)
    if not path.exists():
        make_file(path, config, about)
    with _open(folder, process) as store:
        yield store


@contextlib.contextmanager
def _open(folder: Path, process: int) -> Iterator[Store]:
    if not holds_run(folder):
        raise InputError(f"{folder} holds no evaluation: there is no {FILE} in it")
    path = file_of(folder, process)
    with contextlib.closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        yield Store(connection, path)
