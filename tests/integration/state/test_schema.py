"""The ledger's file over versions, damage and crashes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.errors import StateError
from etl.model.runs import Run, RunState
from etl.state.ledger import database, migrations, schema, seal
from etl.state.ledger.facade import Ledger

#: Opens the ledger of the folder it is given, writes, and dies without a word.
DIES = """
import os, signal, sys
from pathlib import Path
from etl.state.ledger.facade import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
ledger.tokens.save("t", "one", 1.0, 2.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def shape(state: Path) -> dict[str, list[tuple[object, ...]]]:
    """Columns of every table, and the indexes."""
    with sqlite3.connect(schema.ledger_path(state)) as db:
        tables = [name for (name,) in db.execute("select name from sqlite_master where type = 'table' order by name")]
        found = {
            name: sorted(db.execute(f"select name, type, \"notnull\", pk from pragma_table_info('{name}')"))
            for name in tables
        }
        found["indexes"] = db.execute(
            "select name, tbl_name from sqlite_master where type = 'index' order by 1"
        ).fetchall()
    db.close()
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def older_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of a layout before ours: one table and one column are missing, and it has a run."""
    with Ledger.open(tmp_path) as ledger:
        ledger.open_run(Run("r1", "stock", "Product/ImportOnhands", "s.csv", "0" * 64, RunState.CLAIMED))
        with ledger.database.write() as db:
            db.execute("DROP TABLE alerts")
            db.execute("ALTER TABLE runs DROP COLUMN merged_into")

    def add_alerts(execute: migrations.Execute) -> None:
        execute(
            "CREATE TABLE alerts (name TEXT NOT NULL, message TEXT NOT NULL, since TEXT NOT NULL, PRIMARY KEY (name))"
        )

    def add_merged_into(execute: migrations.Execute) -> None:
        execute("ALTER TABLE runs ADD COLUMN merged_into TEXT")

    monkeypatch.setattr(migrations, "STEPS", {1: add_alerts, 2: add_merged_into})
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 3)
    return tmp_path


def test_each_older_layout_has_a_step() -> None:
    """From every version before ours a step leads to the next one."""
    assert sorted(migrations.STEPS) == list(range(1, migrations.SCHEMA_VERSION))


@pytest.mark.parametrize("open_ledger", [Ledger.open, Ledger.open_read_only])
def test_an_older_layout_becomes_ours(
    older_layout: Path, tmp_path_factory: pytest.TempPathFactory, open_ledger: Callable[[Path], Ledger]
) -> None:
    """An older ledger has after opening, also read-only, the tables of a new ledger, and its runs."""
    with open_ledger(older_layout) as ledger:
        assert [run.id for run in ledger.runs.list_recent()] == ["r1"]
    new = tmp_path_factory.mktemp("new")
    Ledger.open(new).close()
    assert shape(older_layout) == shape(new)


def test_a_step_that_fails_leaves_the_old_layout(older_layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps of an opening are one transaction; the next opening does them again."""
    before = shape(older_layout)

    def fail(execute: migrations.Execute) -> None:
        execute("CREATE TABLE half (id INTEGER)")
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", {**migrations.STEPS, 2: fail})
        with pytest.raises(RuntimeError):
            Ledger.open(older_layout)
    assert shape(older_layout) == before
    with Ledger.open(older_layout) as ledger:
        assert len(ledger.runs.list_recent()) == 1


def test_a_newer_layout_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program does not open the ledger of a newer one."""
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 2)
    Ledger.open(tmp_path).close()
    monkeypatch.undo()
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "state-version"


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A reader beside a working process neither moves the journal nor touches the seal."""
    with Ledger.open(tmp_path) as ledger:
        ledger.tokens.save("t", "one", 1.0, 2.0)
        before = schema.ledger_path(tmp_path).read_bytes(), seal.seal_path(schema.ledger_path(tmp_path)).read_bytes()
        with Ledger.open_read_only(tmp_path) as reader:
            assert reader.tokens.find("t") == ("one", 1.0, 2.0)
        after = schema.ledger_path(tmp_path).read_bytes(), seal.seal_path(schema.ledger_path(tmp_path)).read_bytes()
    assert before == after


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    """A value in the ledger that somebody else changed is refused, although SQLite finds nothing wrong with it."""
    path = schema.ledger_path(tmp_path)
    with Ledger.open(tmp_path) as ledger:
        ledger.open_run(Run("r1", "stock", "Product/ImportOnhands", "s.csv", "0" * 64, RunState.CLAIMED))
    at = path.read_bytes().index(b"0" * 64)
    flip(path, at + 7)
    with sqlite3.connect(path) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "state-corrupt"
    assert "etl state verify" in caught.value.hint


def test_a_killed_process_leaves_the_seal_whole(tmp_path: Path) -> None:
    """What a killed process wrote is in the journal; the main file is as it was sealed, and damage to it is seen."""
    Ledger.open(tmp_path).close()
    path = schema.ledger_path(tmp_path)
    sealed = path.read_bytes()
    assert subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == sealed
    assert path.with_name("ledger.sqlite-wal").stat().st_size > 0
    with Ledger.open_read_only(tmp_path) as reader:
        assert reader.tokens.find("t") == ("one", 1.0, 2.0)
    flip(path, len(sealed) // 2)
    with pytest.raises(StateError, match="not as this program left it"):
        Ledger.open(tmp_path)
    flip(path, len(sealed) // 2)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.tokens.find("t") == ("one", 1.0, 2.0)


def test_without_a_seal_sqlite_looks(tmp_path: Path) -> None:
    """After a crash in the middle of a copy there is no seal: a damaged file is found, an intact one is sealed."""
    path = schema.ledger_path(tmp_path)
    Ledger.open(tmp_path).close()
    seal.remove_seal(path)
    Ledger.open(tmp_path).close()
    assert seal.has_seal(path)
    seal.remove_seal(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 4))
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "state-corrupt"


def test_the_journal_is_copied_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many writes the journal starts anew, and the file is sealed again."""
    monkeypatch.setattr(database, "WRITES_PER_CHECKPOINT", 3)
    with Ledger.open(tmp_path) as ledger:
        for number in range(7):
            ledger.tokens.save(f"t{number}", "one", 1.0, 2.0)
        assert os.path.getsize(schema.ledger_path(tmp_path).with_name("ledger.sqlite-wal")) < 40_000
        seal.check_seal(schema.ledger_path(tmp_path))
        assert seal.has_seal(schema.ledger_path(tmp_path))


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """An empty file in the ledger's place, where a sealed one was, is refused and not begun anew."""
    Ledger.open(tmp_path).close()
    schema.ledger_path(tmp_path).write_bytes(b"")
    with pytest.raises(StateError, match="not as this program left it"):
        Ledger.open(tmp_path)


def test_without_a_seal_the_whole_file_is_checked(tmp_path: Path) -> None:
    """A page that no query of the start reads is damaged: only the check of the whole file finds it."""
    path = schema.ledger_path(tmp_path)
    with Ledger.open(tmp_path) as ledger:
        for number in range(300):
            ledger.tokens.save(f"t{number:03}", "one" * 20, 1.0, 2.0)
    sealed = path.read_bytes()
    data = bytearray(sealed)
    at = data.index(b"t150")
    page = at // 4096 * 4096
    data[page : page + 2] = b"\xff\xff"  # the kind of the page
    path.write_bytes(data)
    seal.remove_seal(path)
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path)
    assert (caught.value.code, caught.value.where) == ("state-corrupt", str(path))
    path.write_bytes(sealed)
    seal.seal_path(path).unlink(missing_ok=True)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.tokens.find("t150") is not None


def test_the_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    """It is made with its parents; one that exists with other rights gets these; nobody else may read the ledger."""
    folder = tmp_path / "a" / "b"
    old_mask = os.umask(0)
    try:
        Ledger.open(folder).close()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert schema.ledger_path(folder).stat().st_mode & 0o777 == 0o600
        folder.chmod(0o755)
        Ledger.open(folder).close()
    finally:
        os.umask(old_mask)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_an_error_with_its_place(tmp_path: Path) -> None:
    """A file stands where the state folder would be."""
    (tmp_path / "var").touch()
    path = schema.ledger_path(tmp_path / "var")
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path / "var")
    assert (caught.value.code, caught.value.where) == ("state-unusable", str(path))


def test_errors_of_the_ledger_name_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer layout, and a seal that does not match, in a ledger that is opened for writing or for reading."""
    path = schema.ledger_path(tmp_path)
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 2)
    Ledger.open(tmp_path).close()
    monkeypatch.undo()
    for opened in (Ledger.open, Ledger.open_read_only):
        with pytest.raises(StateError) as caught:
            opened(tmp_path)
        assert (caught.value.code, caught.value.where) == ("state-version", str(path))
    seal.seal_path(path).write_text("no seal")
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path)
    assert (caught.value.code, caught.value.where) == ("state-corrupt", str(path))


def test_a_seal_that_cannot_be_read_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """The seal is a folder: neither a match nor a mismatch."""
    path = schema.ledger_path(tmp_path)
    Ledger.open(tmp_path).close()
    seal.remove_seal(path)
    seal.seal_path(path).mkdir()
    with pytest.raises(StateError) as caught:
        seal.check_seal(path)
    assert (caught.value.code, caught.value.where) == ("state-disk-failed", str(seal.seal_path(path)))
    with pytest.raises(StateError) as caught:
        seal.remove_seal(path)
    assert caught.value.where == str(seal.seal_path(path))


def test_a_sealed_ledger_of_our_layout_is_opened_as_it_is(tmp_path: Path) -> None:
    """The start writes neither the file nor its seal anew."""
    Ledger.open(tmp_path).close()
    sealed = seal.seal_path(schema.ledger_path(tmp_path))
    before = sealed.stat().st_mtime_ns, sealed.stat().st_ino
    opened = schema.open_database(tmp_path)
    try:
        assert (sealed.stat().st_mtime_ns, sealed.stat().st_ino) == before
    finally:
        opened.close()
