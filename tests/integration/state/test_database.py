"""Transactions on one file between threads and processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etl.errors import StateError
from etl.state.ledger.database import IN_JSON, Connection, Database, json_list, ledger_error

#: Counts up in the database that it is given, as another process does.
COUNTS = """
import sys
from pathlib import Path
from etl.state.ledger.database import Database
database = Database(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    with database.write() as db:
        db.update("counts", {"n": db.scalar("SELECT n FROM counts") + 1}, "1")
database.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one count, at zero; its journal not copied yet."""
    path = tmp_path / "x.sqlite"
    path.touch()
    database = Database(path)
    with database.write() as db:
        db.execute("CREATE TABLE counts (n INTEGER NOT NULL)")
        db.insert("counts", {"n": 0})
    database.close()
    return path


def count(database: Database) -> int:
    with database.read() as db:
        return int(db.scalar("SELECT n FROM counts"))


def up(db: Connection) -> None:
    db.update("counts", {"n": db.scalar("SELECT n FROM counts") + 1}, "1")


def stumble(db: Connection) -> None:
    up(db)
    raise ZeroDivisionError


def test_steps_of_threads_and_processes_follow_each_other(path: Path) -> None:
    """Each reads what the one before it wrote: nothing is counted twice or lost."""
    other = subprocess.Popen([sys.executable, "-c", COUNTS, path, "50"])
    database = Database(path)

    def fifty(_: int) -> None:
        for _ in range(50):
            with database.write() as db:
                up(db)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(fifty, range(4)))
    assert other.wait() == 0
    assert count(database) == 250
    database.close()


def test_a_step_that_raises_is_undone(path: Path) -> None:
    """Whatever it raises, also where it was to become true; the next step finds what was before."""
    database = Database(path)

    class Deadly(Database):
        def _commit(self, connection: Connection) -> None:
            raise KeyboardInterrupt

    dying = Deadly(path)
    with pytest.raises(KeyboardInterrupt), dying.write() as db:
        up(db)
    with pytest.raises(ZeroDivisionError), database.write() as db:
        stumble(db)
    with database.write() as db:
        up(db)
    assert count(database) == 1
    dying.close()
    database.close()


def test_a_view_does_not_move(path: Path) -> None:
    """What is committed during a read is seen by the next one."""
    database = Database(path)
    with database.read() as db:
        assert db.scalar("SELECT n FROM counts") == 0
        with database.write() as writing:
            up(writing)
        assert db.scalar("SELECT n FROM counts") == 0
    assert count(database) == 1
    database.close()


def test_who_looks_writes_nothing(path: Path) -> None:
    """A database opened for reading refuses, and leaves journal and file alone when it is closed."""
    working = Database(path)
    with working.write() as db:
        up(db)
    before = path.read_bytes()
    looking = Database(path, read_only=True)
    with pytest.raises(StateError, match="readonly"), looking.write() as db:
        up(db)
    assert count(looking) == 1
    looking.close()
    assert path.read_bytes() == before
    working.close()


def test_durability_is_asked_for_on_every_connection(path: Path) -> None:
    """WAL, full synchronisation, no copying of the journal behind the seal's back, and a wait for others."""
    database = Database(path)
    with database.read() as one, database.read() as two:
        assert one is not two
        for db in (one, two):
            found = [
                db.scalar(f"PRAGMA {name}")
                for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout")
            ]
            assert found == ["wal", 2, 0, 30_000]
    database.close()


def test_settling_does_not_wait_for_a_reader(path: Path) -> None:
    """The journal is copied another time; afterwards a step waits for others again."""
    database = Database(path)
    with database.write() as db:
        up(db)
    holding, done = threading.Event(), threading.Event()

    def read() -> None:
        with database.read() as db:
            db.scalar("SELECT n FROM counts")
            holding.set()
            done.wait()

    reader = threading.Thread(target=read)
    reader.start()
    holding.wait()
    with database.write() as db:
        up(db)
    database.checkpoint()
    journal = path.with_name("x.sqlite-wal")
    assert journal.stat().st_size > 0
    done.set()
    reader.join()
    database.checkpoint()
    assert journal.stat().st_size == 0
    with database.read() as db:
        assert db.scalar("PRAGMA busy_timeout") == 30_000
    database.close()


def test_what_is_wrong_with_a_statement_is_no_fault_of_the_disk(path: Path) -> None:
    """A broken constraint is told as it is; damage and locks are StateErrors."""
    database = Database(path)
    with pytest.raises(sqlite3.IntegrityError), database.write() as db:
        db.insert("counts", {"n": None})
    with pytest.raises(StateError, match="malformed row: no number"), database.read():
        raise ValueError("no number")
    database.close()


def test_rows_are_written_replaced_and_found(path: Path) -> None:
    """Names that are words of SQL, any number of values in a condition, and what is not there."""
    database = Database(path)
    with database.write() as db:
        db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, "values" TEXT)')
        assert db.insert("t") == 0
        assert db.insert("t", {"values": "a"}, {"values": "b"}) == 2
        assert db.insert("t", {"id": 1, "values": "c"}, replace=True) == 1
        assert db.update("t", {"values": "d"}, f"id {IN_JSON}", json_list(range(2, 40_000))) == 1
        assert [tuple(row) for row in db.execute("SELECT * FROM t ORDER BY id")] == [(1, "c"), (2, "d")]
        assert db.scalar(f'SELECT id FROM t WHERE "values" {IN_JSON}', json_list(["c", 'x"'])) == 1
        assert db.scalar(f"SELECT id FROM t WHERE id {IN_JSON}", json_list(())) is None
    database.close()


def test_insert_returns_the_last_row_and_replaces_only_where_it_is_asked_to(path: Path) -> None:
    """Without rows there is none; a key that exists is an error otherwise."""
    database = Database(path)
    with database.write() as db:
        db.execute("CREATE TABLE named (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        assert db.insert("named") == 0
        assert db.insert("named", {"id": 5, "name": "a"}, {"id": 7, "name": "b"}) == 7
        with pytest.raises(sqlite3.IntegrityError):
            db.insert("named", {"id": 7, "name": "c"})
        assert db.insert("named", {"id": 7, "name": "c"}, replace=True) == 7
        assert [tuple(row) for row in db.execute("SELECT id, name FROM named ORDER BY id")] == [(5, "a"), (7, "c")]
    database.close()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("database is locked", "state-busy"),
        ("the file is busy", "state-busy"),
        ("database disk image is malformed", "state-corrupt"),
        ("file is not a database", "state-corrupt"),
        ("disk I/O error", "state-unusable"),
    ],
)
def test_errors_of_sqlite_have_a_code_a_place_and_a_hint(reason: str, code: str) -> None:
    """Busy, damaged, or not usable: each has a way out of its own."""
    error = ledger_error(reason, "/var/ledger.sqlite")
    assert (error.code, error.where) == (code, "/var/ledger.sqlite")
    assert error.hint


def test_a_database_names_its_file_in_errors(path: Path, tmp_path: Path) -> None:
    """Also where the file cannot be opened."""
    database = Database(path)
    assert database.location == str(path)
    with pytest.raises(StateError) as caught, database.read() as db:
        db.execute("SELECT 1 FROM nowhere")
    assert caught.value.where == str(path)
    database.close()
    with pytest.raises(StateError) as caught:
        Database(tmp_path / "missing.sqlite")
    assert caught.value.where == str(tmp_path / "missing.sqlite")
