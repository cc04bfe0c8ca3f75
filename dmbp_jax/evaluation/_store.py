"""The rows of a run in an SQLite file, written in transactions; kept maps."""

import contextlib
import json
import sqlite3
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dmbp_jax._checks import InputError, shorten
from dmbp_jax.evaluation._items import Metric, Shown
from dmbp_jax.evaluation._store_files import (
    FILE,
    add_methods,
    check_config,
    connect,
    file_of,
    files_of,
    fill,
    holds_run,
    make_file,
    reading,
    reporting,
    settings,
)
from dmbp_jax.images import Problem

# The stored records of an evaluation, and the types of their columns.

TEXT, WHOLE, NUMBER = (str,), (int,), (float, int, NoneType)
"""The types of a column."""
UNIT = (WHOLE, TEXT, TEXT)
ROW = (TEXT, WHOLE, TEXT, TEXT, NUMBER, NUMBER, (str, NoneType))
PICTURE = (TEXT, WHOLE, TEXT, (bytes,))
MAP = (TEXT, WHOLE, TEXT, NUMBER, WHOLE, WHOLE, (float,), (bytes,))


class Row(NamedTuple):
    """One measurement."""

    image: str
    target: int
    """Class index."""
    method: str
    metric: str
    value: float | None
    """None where the metric is not defined, such as the correlation with a constant map."""
    seconds: float | None
    """Seconds of explaining this image for this target, without compiling: its share of its batch. None for a
    map from a folder."""
    curve: tuple[float | None, ...] | None = None
    """The values that the metric summarises, if any: probabilities, or one value per randomised layer."""


class Picture(NamedTuple):
    """A small picture for the report: a heat map, or with method `""` and target -1 the photograph."""

    image: str
    target: int
    method: str
    png: bytes


def storable(text: str) -> str:
    """`text` as it is stored: bytes that are not valid UTF-8, as in a file's name, are escaped.

    >>> storable("caf\\udce9.jpg")
    'caf\\\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Unit(NamedTuple):
    """The unit of work, stored atomically: a metric of a method on a chunk."""

    chunk: int
    method: str
    metric: str
    """The name by which it is chosen: `contrast` has the rows `contrast_red` and `contrast_blue`."""


# Kept heat maps: half precision, compressed.

MAX_BYTES = 2**28
"""The most bytes of an uncompressed map: 134 million pixels."""


class KeptMap(NamedTuple):
    """The heat map of one target of one image by one method."""

    image: str
    target: int
    method: str
    seconds: float | None
    """Seconds of explaining."""
    height: int
    width: int
    scale: float
    """The map's largest magnitude, by which `values` are divided, since half precision ranges from 6e-8 to
    65504."""
    values: bytes
    """Float16, compressed by zlib; values that were not finite are NaN."""

    def heatmap(self) -> Float[np.ndarray, "h w"]:
        """The map, float32: to 11 bits of each value, and to 6e-8 of the largest.

        Raises `InputError` for a damaged one.
        """
        height, width = max(self.height, 0), max(self.width, 0)
        wanted = 2 * height * width
        unpack = zlib.decompressobj()
        try:
            # Limited, since a few compressed bytes may expand to any number.
            content = unpack.decompress(self.values, max(min(wanted, MAX_BYTES), 1))
        except zlib.error:
            content = b""
        if len(content) != wanted or not unpack.eof:
            raise InputError(
                f"the kept map of {shorten(self.image)} by {shorten(self.method)} is damaged: take another "
                "folder"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.frombuffer(content, np.float16).reshape(height, width)
            return values.astype(np.float32) * np.float32(self.scale)


def keep_map(
    image: str, target: int, method: str, seconds: float | None, heatmap: Float[np.ndarray, "h w"]
) -> KeptMap:
    """A heat map to be kept.

    >>> kept = keep_map("a.jpg", 3, "dmbp", 0.1, np.asarray([[1e-9, -2e9], [3e9, 0.0]], np.float32))
    >>> [float(f"{value:.3g}") for value in kept.heatmap().ravel()]
    [0.0, -2000000000.0, 3000000000.0, 0.0]
    """
    finite = np.where(np.isfinite(heatmap), heatmap, np.float32(np.nan))
    scale = float(np.nanmax(np.abs(finite))) if not np.isnan(finite).all() else 0.0
    values = (finite / np.float32(scale or 1.0)).astype(np.float16)
    height, width = heatmap.shape
    packed = zlib.compress(values.tobytes(), level=6)
    return KeptMap(image, target, method, seconds, height, width, scale, packed)


# The store of an evaluation: SQLite files. Work is added in units, each in one transaction.
#
# A unit is one metric of one method on one chunk of samples. Its rows, and the note that it is done, are
# added in one transaction, together with the other metrics of the same maps and with the maps. After a run is
# # killed at any moment, every unit is either complete or absent. SQLite was chosen over Parquet files for
#
# these transactions, and because it can be read everywhere. Every process of a run has its own file; readers
# see them as one; see `_store_files.py`. A run without a folder has one database in memory.


class Store:
    """The files of one run, one of which is written; see `resume_store` and `open_store`."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self.path = path
        """The file that is written; None in memory."""

    def config(self) -> dict[str, Any]:
        """The settings that determine the rows."""
        return settings(self._connection, "config", self.path)

    def about(self) -> dict[str, Any]:
        """Versions and the machine: recorded, not compared."""
        return settings(self._connection, "about", self.path)

    def metrics(self) -> dict[str, dict[str, Shown]]:
        """The metrics of the run in their order, and how the rows of each are shown."""
        found: dict[str, dict[str, Shown]] = {}
        for name, shown in self._read("SELECT name, shown FROM metrics ORDER BY rowid", (TEXT, TEXT)):
            with reading(self.path):
                found.setdefault(name, {row: _shown(one) for row, one in dict(json.loads(shown)).items()})
        return found

    def add_metrics(self, metrics: Sequence[Metric]) -> None:
        """Record the measured metrics; existing ones are unchanged.

        Raises `InputError` for a user's metric whose code has changed.
        """
        known = dict(self._read("SELECT name, code FROM metrics", (TEXT, TEXT)))
        for metric in metrics:
            if known.get(metric.name, metric.code) != metric.code:
                raise InputError(
                    f"the metric {metric.name} is another function than the one that this run has measured: "
                    "give it another name, or take another folder"
                )
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO metrics VALUES (?, ?, ?)",
                [
                    (
                        one.name,
                        one.code,
                        json.dumps({row: shown._asdict() for row, shown in one.shown.items()}),
                    )
                    for one in metrics
                ],
            )

    def add_methods(self, config: dict[str, Any], about: dict[str, Any]) -> None:
        """Record the methods of a run's settings; existing ones are unchanged."""
        add_methods(self._connection, self.path or Path(":memory:"), config, about)

    def done(self) -> set[Unit]:
        """The units that are complete."""
        return {Unit(*one) for one in self._read("SELECT chunk, method, metric FROM units", UNIT)}

    def add(
        self,
        chunk: int,
        method: str,
        rows: Mapping[str, Iterable[Row]],
        pictures: Iterable[Picture] = (),
        *,
        maps: Iterable[KeptMap] = (),
        compiling: float = 0.0,
    ) -> None:
        """Add the units of these metrics, with pictures and maps, in one transaction; existing units (of the
        same command running twice) are unchanged. `compiling` are the seconds of compiling."""
        with self._transaction() as connection:
            for metric, measured in rows.items():
                added = connection.execute(
                    "INSERT OR IGNORE INTO units VALUES (?, ?, ?)", (chunk, method, metric)
                )
                if not added.rowcount:
                    continue
                connection.executemany(
                    "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (storable(image), *rest, None if curve is None else json.dumps(curve))
                        for image, *rest, curve in measured
                    ],
                )
            connection.executemany(
                "INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?)",
                [(storable(image), *rest) for image, *rest in pictures],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO maps VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(storable(image), *rest) for image, *rest in maps],
            )
            if compiling:
                connection.execute("INSERT INTO compiling VALUES (?)", (compiling,))

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Record samples that cannot be evaluated; recording one again changes nothing."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO problems VALUES (?, ?)",
                [(storable(name), storable(message)) for name, message in problems],
            )

    def rows(self) -> Iterator[Row]:
        """Every row once, file by file in the order in which they were added."""
        units = list(self._read("SELECT chunk, method, metric FROM units", UNIT))
        # A process that was wrongly considered dead may have finished units that another one computed again.
        twice = len(set(units)) < len(units)
        seen: set[tuple[Any, ...]] = set()
        for one in self._read("SELECT * FROM rows ORDER BY rowid", ROW):
            row = Row(*one)
            if twice:
                if row[:4] in seen:
                    continue
                seen.add(row[:4])
            yield row if row.curve is None else row._replace(curve=self._curve(one[-1]))

    def problems(self) -> list[Problem]:
        """The samples that could not be evaluated, by image."""
        return [
            Problem(*one) for one in sorted(dict(self._read("SELECT * FROM problems", (TEXT, TEXT))).items())
        ]

    def pictures(self) -> Iterator[Picture]:
        """Every picture once."""
        seen: set[tuple[Any, ...]] = set()
        for one in self._read("SELECT * FROM pictures ORDER BY rowid", PICTURE):
            if one[:3] not in seen:
                seen.add(one[:3])
                yield Picture(*one)

    def kept_map(self, image: str, target: int, method: str) -> KeptMap | None:
        """The map of that target by that method, if it was kept."""
        found = self._read(
            "SELECT * FROM maps WHERE image = ? AND target = ? AND method = ?",
            MAP,
            (storable(image), target, method),
        )
        return next((KeptMap(*one) for one in found), None)

    def compiling(self) -> float:
        """The seconds of compiling so far, in all processes."""
        return sum((seconds for (seconds,) in self._read("SELECT seconds FROM compiling", ((float,),))), 0.0)

    def _curve(self, text: str) -> tuple[float | None, ...]:
        with reading(self.path):
            values = tuple(json.loads(text))
            if not all(isinstance(value, int | float | None) for value in values):
                raise TypeError("a curve has values that are no numbers")
            return values

    def _read(
        self, query: str, columns: Sequence[tuple[type, ...]], values: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """The results of a query in all files of the run, also those added meanwhile by other processes.

        `columns` are the types of each column, which SQLite does not enforce.
        """
        for path in [None] if self.path is None else files_of(self.path.parent):
            with contextlib.ExitStack() as stack:
                connection = self._connection
                if path is not None and path != self.path:
                    connection = stack.enter_context(contextlib.closing(connect(path)))
                with reading(path):
                    for one in connection.execute(query, values):
                        if not all(map(isinstance, one, columns)):
                            raise TypeError(f"a value of another kind in {one[:3]}")
                        yield one

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with reporting(self.path or Path(":memory:")), self._connection:
            yield self._connection


def _shown(fields: Mapping[str, Any]) -> Shown:
    shown = Shown(**fields)
    if not all(isinstance(text, str) for text in (shown.title, shown.short, shown.explanation)):
        raise TypeError("a metric has words that are no text")
    return shown if shown.curve is None else shown._replace(curve=(shown.curve[0], shown.curve[1]))


def make_store(config: dict[str, Any], about: dict[str, Any]) -> Store:
    """The store of a new run in memory."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    fill(connection, config, about)
    store = Store(connection, None)
    weakref.finalize(store, connection.close)
    return store


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
    """The store of a run with that `config`: a new one, or the existing one to be resumed.

    `process` is the number of the process whose file is written; the first process, 0, must come first.
    Methods can be added to a run, as metrics can; existing ones are kept.

    Raises `InputError` that shows the differences if `folder` holds a run with another `config`.
    """
    check_config(folder, config)
    path = file_of(folder, process)
    if not path.exists():
        make_file(path, config, about)
    with _open(folder, process) as store:
        store.add_methods(config, about)
        yield store


@contextlib.contextmanager
def _open(folder: Path, process: int) -> Iterator[Store]:
    if not holds_run(folder):
        raise InputError(f"{folder} holds no evaluation: there is no {FILE} in it")
    path = file_of(folder, process)
    with contextlib.closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        yield Store(connection, path)
