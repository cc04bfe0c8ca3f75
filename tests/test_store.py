"""The store of a run: whole units or nothing, one configuration, clear messages."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from dmbp_jax._checks import InputError
from dmbp_jax.evaluation._store import FILE, Picture, Row, Unit, open_store, resume_store
from dmbp_jax.images import Problem

CONFIG = {"seed": 0, "methods": {"dmbp": {"steps": 10}}, "metrics": ["insertion"]}
ROWS = [
    Row("a.jpg", 3, "dmbp", "insertion", 0.25, 1.5, (0.0, 0.5, 0.25)),
    Row("a.jpg", 3, "dmbp", "cascade", None, 1.5, (None, 0.5)),
]
OF_BOTH = {"insertion": ROWS[:1], "cascade": ROWS[1:]}
DONE = {Unit(0, "dmbp", "insertion"), Unit(0, "dmbp", "cascade")}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    with resume_store(folder, CONFIG, {"device": "cpu"}) as store:
        store.add(0, "dmbp", OF_BOTH, [Picture("a.jpg", 3, "dmbp", b"png")])
        store.add_problems([Problem("b.jpg", "no such file")])
    return folder


def test_what_was_added_is_read_again(run):
    with open_store(run) as store:
        assert list(store.rows()) == ROWS
        assert list(store.pictures()) == [Picture("a.jpg", 3, "dmbp", b"png")]
        assert store.problems() == [Problem("b.jpg", "no such file")]
        assert store.done() == DONE
        assert store.config() == CONFIG
        assert store.about() == {"device": "cpu"}


def test_the_same_configuration_continues(run):
    with resume_store(run, CONFIG, {"device": "another machine"}) as store:
        store.add(1, "dmbp", {"insertion": [ROWS[0]._replace(image="c.jpg")]})
        store.add_problems([Problem("b.jpg", "no such file")])
        assert len(list(store.rows())) == 3
        assert len(store.problems()) == 1
        assert store.about() == {"device": "cpu"}


def test_another_configuration_is_refused_with_every_difference(run):
    other = {"seed": 1, "methods": {"dmbp": {"steps": 20}, "rise": {}}, "metrics": ["insertion"]}
    with pytest.raises(InputError) as refusal, resume_store(run, other, {}):
        pass
    assert str(refusal.value).splitlines()[1:] == [
        "  seed: there 0, now 1",
        "  methods.dmbp.steps: there 10, now 20",
    ]
    with open_store(run) as store:
        assert store.config() == CONFIG


def test_a_run_takes_more_methods_and_keeps_those_that_it_has(run):
    rise, other = ({**CONFIG, "methods": {"rise": options}} for options in ({"n_masks": 3}, {}))
    with resume_store(run, rise, {"titles": {"rise": "R"}}):
        pass
    with (
        pytest.raises(InputError, match=r"methods\.rise\.n_masks: there 3, now null"),
        resume_store(run, other, {}),
    ):
        pass
    with resume_store(run, CONFIG, {}) as store:
        assert store.config() == {**CONFIG, "methods": {**CONFIG["methods"], **rise["methods"]}}
        assert store.about()["titles"] == {"rise": "R"}
        assert list(store.rows()) == ROWS


def test_a_unit_that_fails_half_way_leaves_nothing(run):
    good, doubled = ROWS[0]._replace(image="c.jpg"), ROWS[0]
    with open_store(run) as store:
        # Twice the same row is a mistake of ours, not of another process.
        with pytest.raises(sqlite3.IntegrityError):
            store.add(1, "dmbp", {"insertion": [good, doubled]})
        assert list(store.rows()) == ROWS
        assert store.done() == DONE


def test_a_unit_is_never_added_twice(run):
    again = ROWS[0]._replace(image="c.jpg")
    with open_store(run) as one, open_store(run) as other:
        one.add(1, "dmbp", {"insertion": [again]})
        other.add(1, "dmbp", {"insertion": [again._replace(value=0.75), again._replace(image="d.jpg")]})
        assert list(other.rows()) == [*ROWS, again]


def test_every_process_has_a_file_and_readers_see_them_as_one(run):
    row = ROWS[0]._replace(image="c.jpg")
    with open_store(run) as reader:
        for process in (10, 2):
            with resume_store(run, CONFIG, {"device": "another"}, process=process) as store:
                assert store.path.name == f"results-{process}.sqlite"
                rows = {"insertion": [row._replace(target=process)]}
                store.add(process, "dmbp", rows, [Picture("a.jpg", 3, "dmbp", b"2")])
                store.add_problems([Problem("b.jpg", "no such file"), Problem("a", f"{process}")])
        assert reader.done() == DONE | {Unit(2, "dmbp", "insertion"), Unit(10, "dmbp", "insertion")}
        assert list(reader.rows()) == [*ROWS, row._replace(target=2), row._replace(target=10)]
        assert [problem.name for problem in reader.problems()] == ["a", "b.jpg"]
        assert list(reader.pictures()) == [Picture("a.jpg", 3, "dmbp", b"png")]
        assert reader.about() == {"device": "cpu"}


def test_a_unit_that_two_processes_finished_counts_once(run):
    with resume_store(run, CONFIG, {}, process=1) as store:
        again = {name: [row._replace(seconds=9.0) for row in rows] for name, rows in OF_BOTH.items()}
        store.add(0, "dmbp", again)
        store.add(1, "dmbp", {"insertion": [ROWS[0]._replace(image="c.jpg")]})
        assert list(store.rows()) == [*ROWS, ROWS[0]._replace(image="c.jpg")]


def test_a_part_of_another_run_is_refused(run):
    with resume_store(run, CONFIG, {}, process=1):
        pass
    (run / FILE).unlink()
    other = CONFIG | {"seed": 1}
    for process in (0, 1):
        refused = pytest.raises(InputError, match="seed: there 0, now 1")
        with refused, resume_store(run, other, {}, process=process):
            pass
    assert not (run / FILE).exists()


def test_a_full_disk_is_named_and_costs_nothing_that_was_finished(run):
    # SQLite's own limit on a file's size raises what a full disk raises.
    with open_store(run) as store:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [ROWS[0]._replace(image=f"{i}.jpg", curve=(0.1,) * 100) for i in range(1000)]
        with pytest.raises(InputError, match=r"cannot write .*full.*finished is kept") as refusal:
            store.add(1, "dmbp", {"insertion": many})
        assert str(run / FILE) in str(refusal.value)
    with open_store(run) as store:
        assert list(store.rows()) == ROWS
        store.add(1, "dmbp", {"insertion": many})
        assert len(list(store.rows())) == 1002


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no evaluation"), open_store(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_file_that_is_no_run_is_named_and_kept(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    refused = pytest.raises(InputError, match="is not the file of an evaluation, or damaged")
    with refused, resume_store(tmp_path, CONFIG, {}):
        pass
    assert (tmp_path / FILE).read_bytes() == content


def change(run, statements: str) -> None:
    with contextlib.closing(sqlite3.connect(run / FILE)) as connection:
        connection.executescript(statements)


ENDLESS = (
    "DROP TABLE rows; CREATE VIEW rows AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT 'a' image, x target, 'm' method, 'i' metric, 1.0 value, 1.0 seconds, NULL curve, x rowid FROM n"
)


@pytest.mark.parametrize(
    "statements",
    [
        ENDLESS,
        "CREATE TRIGGER t AFTER INSERT ON problems BEGIN DELETE FROM rows; END",
        "ALTER TABLE rows ADD COLUMN more TEXT",
        "DROP TABLE problems",
    ],
    ids=["view", "trigger", "column", "table"],
)
def test_tables_that_are_not_ours_are_refused_before_anything_is_read(run, statements):
    """A view or a trigger is a program that a reader would run."""
    change(run, statements)
    refused = pytest.raises(InputError, match=r"is not the file of an evaluation, or damaged.*other tables")
    with refused, open_store(run):
        pass


def test_statistics_of_sqlite_are_no_damage(run):
    change(run, "ANALYZE")
    with open_store(run) as store:
        assert list(store.rows()) == ROWS


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE rows SET value = 'much'", lambda store: list(store.rows())),
        ("UPDATE rows SET target = 'cat' WHERE metric = 'insertion'", lambda store: list(store.rows())),
        ("UPDATE rows SET curve = '[1, 2'", lambda store: list(store.rows())),
        ("UPDATE rows SET curve = '[1, \"a\"]'", lambda store: list(store.rows())),
        ("UPDATE rows SET curve = '3'", lambda store: list(store.rows())),
        ("UPDATE rows SET image = CAST(X'ff' AS TEXT)", lambda store: list(store.rows())),
        ("UPDATE units SET chunk = 'one'", lambda store: store.done()),
        ("UPDATE pictures SET png = 'png'", lambda store: list(store.pictures())),
        ("UPDATE problems SET message = X'00'", lambda store: store.problems()),
        ("INSERT INTO compiling VALUES ('long')", lambda store: store.compiling()),
        ("INSERT INTO metrics VALUES ('insertion', '', '[]x')", lambda store: store.metrics()),
        (
            "INSERT INTO metrics VALUES ('insertion', '', '{\"insertion\": {\"name\": 3}}')",
            lambda store: store.metrics(),
        ),
        ("UPDATE config SET value = '{' WHERE name = 'seed'", lambda store: store.config()),
        ("UPDATE config SET value = '\"one\"' WHERE name = 'seed'", lambda store: store.config()),
        ("UPDATE config SET value = '{\"dmbp\": 3}' WHERE name = 'methods'", lambda store: store.config()),
        ("INSERT INTO about VALUES ('classes', '{\"3\": null}')", lambda store: store.about()),
    ],
)
def test_values_of_another_kind_are_one_message(run, statement, read):
    change(run, statement)
    with open_store(run) as store, pytest.raises(InputError, match="or damaged") as refusal:
        read(store)
    assert str(run / FILE) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_damage_behind_the_first_page_is_one_message(run):
    """The file opens, and what is read later is not there."""
    content = (run / FILE).read_bytes()
    (run / FILE).write_bytes(content[:4096] + bytes(len(content) - 4096))
    with open_store(run) as store, pytest.raises(InputError, match="or damaged"):
        list(store.rows())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), resume_store(tmp_path / "file" / "run", CONFIG, {}):
        pass


def test_the_file_is_plain_sqlite(run):
    connection = sqlite3.connect(run / FILE)
    assert connection.execute("SELECT value FROM rows WHERE metric = 'insertion'").fetchall() == [(0.25,)]
    connection.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from dmbp_jax.evaluation._store import open_store
from dmbp_jax.evaluation._store import Picture, Row

def kill_before(statement):
    if statement.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

with open_store(Path(sys.argv[1])) as store:
    store._connection.set_trace_callback(kill_before)
    rows = [Row(f"{i}.jpg", 3, "dmbp", "insertion", 0.5, 1.0) for i in range(2000)]
    store.add(1, "dmbp", {"insertion": rows}, [Picture("0.jpg", 3, "dmbp", b"png")])
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "statement",
    ["INSERT OR IGNORE INTO units", "INSERT INTO rows", "INSERT OR IGNORE INTO pictures", "COMMIT"],
)
def test_a_kill_in_the_middle_of_a_unit_leaves_nothing_of_it(run, statement):
    """`kill -9` from within SQLite, before each of the statements that make a unit."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(run), statement], check=False)
    assert done.returncode == -signal.SIGKILL
    with open_store(run) as store:
        assert list(store.rows()) == ROWS
        assert store.done() == DONE
        assert len(list(store.pictures())) == 1
        store.add(1, "dmbp", {"insertion": [ROWS[0]._replace(image="0.jpg")]})


def test_names_that_are_not_utf_8_are_spelled_out(run):
    name = os.fsdecode(b"caf\xe9.jpg")
    with open_store(run) as store:
        store.add(1, "dmbp", {"insertion": [ROWS[0]._replace(image=name)]}, [Picture(name, -1, "", b"png")])
        store.add_problems([Problem(name, f"cannot read {name}")])
        assert list(store.rows())[-1].image == "caf\\udce9.jpg"
        assert store.problems()[-1] == Problem("caf\\udce9.jpg", "cannot read caf\\udce9.jpg")


def test_differences_that_only_a_fingerprint_shows_are_put_into_words(tmp_path):
    with resume_store(tmp_path, {"samples_sha256": "a", "weights_sha256": "b"}, {}):
        pass
    other = {"samples_sha256": "c", "weights_sha256": "b"}
    refused = pytest.raises(InputError, match="other photographs, labels, boxes or sizes than there")
    with refused, resume_store(tmp_path, other, {}):
        pass
