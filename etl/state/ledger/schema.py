"""Defines the ledger's tables, and opens its database: creates, checks and migrates it."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from etl.errors import StateError
from etl.model.runs import Counts
from etl.state.ledger import database, migrations, seal
from etl.state.ledger.database import Connection, Database
from etl.state.ledger.meta import get_meta, set_meta

_COUNT_COLUMNS = ", ".join(f"{item.name} INTEGER NOT NULL" for item in fields(Counts))

#: The tables of a new ledger; `etl.state.ledger.migrations` brings an older one to the same layout.
CREATE_STATEMENTS = (
    "CREATE TABLE meta (key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (key))",
    f"""CREATE TABLE runs (
        seq INTEGER NOT NULL, id TEXT NOT NULL, feed TEXT NOT NULL, operation TEXT NOT NULL, file TEXT NOT NULL,
        digest TEXT NOT NULL, state TEXT NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL,
        started TEXT, ended TEXT, error TEXT, claimed TEXT, archive TEXT,
        compacted INTEGER NOT NULL, {_COUNT_COLUMNS}, merged_into TEXT,
        PRIMARY KEY (seq), UNIQUE (id))""",
    "CREATE INDEX runs_of_feed ON runs (feed, state)",
    """CREATE TABLE chunks (
        run TEXT NOT NULL, number INTEGER NOT NULL, wave INTEGER NOT NULL, operation TEXT NOT NULL,
        header JSON NOT NULL, payload TEXT NOT NULL, digest TEXT NOT NULL, records INTEGER NOT NULL,
        "values" INTEGER NOT NULL, state TEXT NOT NULL, origin_chunk INTEGER NOT NULL, first INTEGER NOT NULL,
        excluded_indexes JSON NOT NULL, attempts INTEGER NOT NULL, repeats INTEGER NOT NULL, job_id INTEGER,
        job_status INTEGER, validation_failures INTEGER NOT NULL, messages JSON NOT NULL, sent_at FLOAT,
        job_total INTEGER, job_counts TEXT NOT NULL, warnings JSON NOT NULL,
        polled_at FLOAT, polls INTEGER NOT NULL, absent_since FLOAT, retry_after FLOAT, error TEXT, resolution TEXT,
        PRIMARY KEY (run, number))""",
    "CREATE INDEX ix_chunks_job_id ON chunks (job_id)",
    """CREATE TABLE record_errors (
        id INTEGER NOT NULL, run TEXT NOT NULL, origin_chunk INTEGER NOT NULL, key TEXT NOT NULL,
        severity INTEGER NOT NULL, message TEXT NOT NULL, source_row INTEGER,
        source_file TEXT, source_run TEXT,
        PRIMARY KEY (id))""",
    "CREATE INDEX ix_record_errors_run ON record_errors (run)",
    "CREATE TABLE feeds (feed TEXT NOT NULL, generation TEXT, PRIMARY KEY (feed))",
    "CREATE TABLE file_digests (path TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (path))",
    """CREATE TABLE fetched_files (
        source TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, modified INTEGER NOT NULL,
        state TEXT NOT NULL, digest TEXT NOT NULL, verified_at FLOAT NOT NULL,
        PRIMARY KEY (source, path, size, modified))""",
    # Conditions that need a person for as long as they are active; see `etl.runs.alerts`.
    """CREATE TABLE alerts (
        name TEXT NOT NULL, message TEXT NOT NULL, since TEXT NOT NULL, PRIMARY KEY (name))""",
    # What the mappings expect of their feeds: `etl status` reads them here and not from the mappings.
    """CREATE TABLE expectations (
        feed TEXT NOT NULL, arrives TEXT, changes TEXT, since TEXT NOT NULL, PRIMARY KEY (feed))""",
    """CREATE TABLE permits (
        id INTEGER NOT NULL, lane TEXT NOT NULL, boot TEXT NOT NULL, mono FLOAT NOT NULL, wall FLOAT NOT NULL,
        sent INTEGER NOT NULL, PRIMARY KEY (id))""",
    """CREATE TABLE pauses (
        lane TEXT NOT NULL, boot TEXT NOT NULL, mono FLOAT NOT NULL, wall FLOAT NOT NULL, seconds FLOAT NOT NULL,
        strikes INTEGER NOT NULL, PRIMARY KEY (lane))""",
    """CREATE TABLE tokens (
        name TEXT NOT NULL, value TEXT NOT NULL, obtained FLOAT NOT NULL, expires FLOAT NOT NULL,
        PRIMARY KEY (name))""",
)


def ledger_path(state_folder: Path) -> Path:
    """Return the path of a state folder's ledger."""
    return state_folder / "ledger.sqlite"


def open_database(state_folder: Path) -> Database:
    """Open the ledger's database; create it when it is missing, and migrate it when its layout is older.

    The folder gets mode 0700, the file 0600.

    Raises:
        StateError: the folder cannot be used, the ledger is damaged, or its layout is newer than this program's.
    """
    path = ledger_path(state_folder)
    _create_file(path)
    seal.check_seal(path)
    is_sealed = seal.has_seal(path)
    opened = Database(path)
    try:
        is_current = _bring_to_current_layout(opened, path, is_sealed=is_sealed)
        if not (is_current and is_sealed):
            opened.checkpoint()
    except BaseException:
        opened.close()
        raise
    return opened


def open_database_read_only(state_folder: Path) -> Database:
    """Open the ledger's database for reading, also while another process writes. Raises StateError.

    A ledger of an older layout is opened for writing and migrated.
    """
    path = ledger_path(state_folder)
    opened = Database(path, read_only=True)
    try:
        with opened.read() as db:
            version = _schema_version(db, path)
    except BaseException:
        opened.close()
        raise
    if version == migrations.SCHEMA_VERSION:
        return opened
    opened.close()
    return open_database(state_folder)


def _create_file(path: Path) -> None:
    """Create the state folder and an empty file for the ledger, unless they exist."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StateError(
            "state-unusable",
            f"the state folder cannot be used: {error.strerror}",
            where=str(path),
            hint="check owner, permissions and free space of the folder named by paths.state",
        ) from error


def _bring_to_current_layout(opened: Database, path: Path, *, is_sealed: bool) -> bool:
    """Create or migrate the tables; return whether neither was necessary."""
    with opened.read() as db:
        version = _schema_version(db, path)
        if version is not None and not is_sealed:
            _check_integrity(db, path)
    if version == migrations.SCHEMA_VERSION:
        return True
    with opened.write() as db:
        version = _schema_version(db, path)  # read again under the write lock: another process may have been faster
        if version is None:
            for statement in CREATE_STATEMENTS:
                db.execute(statement)
        elif version < migrations.SCHEMA_VERSION:
            migrations.migrate(version, db.execute)
        set_meta(db, "schema", str(migrations.SCHEMA_VERSION))
    return False


def _schema_version(db: Connection, path: Path) -> int | None:
    """Return the version of the layout; None in an empty database. StateError when it is newer than ours."""
    if db.scalar("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'meta'") is None:
        return None
    text = get_meta(db, "schema")
    if text is None:
        return None
    if text.isdecimal() and 1 <= int(text) <= migrations.SCHEMA_VERSION:
        return int(text)
    raise StateError(
        "state-version",
        f"the ledger has layout {text}, this program knows layouts up to {migrations.SCHEMA_VERSION}",
        where=str(path),
        hint="use the program version that wrote it, or start with an empty state folder",
    )


def _check_integrity(db: Connection, path: Path) -> None:
    """Let SQLite check the file; StateError when it is damaged. Needed only where no seal vouches for the file."""
    result = db.scalar("PRAGMA integrity_check(1)")
    if result != "ok":
        raise database.ledger_error(f"malformed: {result}", str(path))
