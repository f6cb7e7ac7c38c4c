"""The ledger's file over versions, damage and crashes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from etl.errors import StateError
from etl.model.runs import Run, RunState
from etl.state.ledger import database, migrations, schema, seal
from etl.state.ledger.facade import Ledger
from tests.migrations import unpack

PACKED = sorted(Path(__file__).parents[2].glob("migrations/v*.tar.gz"))

#: Opens the ledger of the folder it is given, writes, and dies without a word.
DIES = """
import os, signal, sys
from pathlib import Path
from etl.state.ledger.facade import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
ledger.keep_token("t", "one", 1.0, 2.0)
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


def test_there_is_a_folder_of_every_older_layout() -> None:
    """Each step of the migrations has a packed state folder of the layout it starts from."""
    assert [path.name for path in PACKED] == [f"v{version}.tar.gz" for version in sorted(migrations.STEPS)]


@pytest.mark.parametrize("packed", PACKED, ids=lambda path: path.name)
def test_an_older_layout_becomes_ours(packed: Path, tmp_path: Path) -> None:
    """What an older version wrote has after opening the tables of a new ledger, and its runs."""
    state = unpack(packed, tmp_path)
    with Ledger.open(state) as ledger:
        assert [run.state.value for run in ledger.list_runs()] == ["sending", "held", "done", "done", "done"]
        assert len(ledger.overlays("stock")) == 0
    Ledger.open(tmp_path / "new").close()
    assert shape(state) == shape(tmp_path / "new")


def test_looking_brings_an_older_layout_up_to_date_too(tmp_path: Path) -> None:
    """`status` of a new version works on the folder of an old one."""
    with Ledger.open_read_only(unpack(PACKED[0], tmp_path)) as ledger:
        assert len(ledger.list_runs()) == 5


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A reader beside a working process neither moves the journal nor touches the seal."""
    with Ledger.open(tmp_path) as ledger:
        ledger.save_token("t", "one", 1.0, 2.0)
        before = schema.ledger_path(tmp_path).read_bytes(), seal.seal_path(schema.ledger_path(tmp_path)).read_bytes()
        with Ledger.open_read_only(tmp_path) as reader:
            assert reader.find_token("t") == ("one", 1.0, 2.0)
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
        assert reader.find_token("t") == ("one", 1.0, 2.0)
    flip(path, len(sealed) // 2)
    with pytest.raises(StateError, match="not as this program left it"):
        Ledger.open(tmp_path)
    flip(path, len(sealed) // 2)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.find_token("t") == ("one", 1.0, 2.0)


def test_without_a_seal_sqlite_looks(tmp_path: Path) -> None:
    """After a crash in the middle of a copy there is no seal: a torn file is found all the same, a whole one sealed."""
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
            ledger.save_token(f"t{number}", "one", 1.0, 2.0)
        assert os.path.getsize(schema.ledger_path(tmp_path).with_name("ledger.sqlite-wal")) < 40_000
        seal.check_seal(schema.ledger_path(tmp_path))
        assert seal.has_seal(schema.ledger_path(tmp_path))


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """An empty file in the ledger's place, where a sealed one was, is refused and not begun anew."""
    Ledger.open(tmp_path).close()
    schema.ledger_path(tmp_path).write_bytes(b"")
    with pytest.raises(StateError, match="not as this program left it"):
        Ledger.open(tmp_path)
