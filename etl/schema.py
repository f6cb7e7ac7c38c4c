"""The ledger's tables, and how a database of it is opened.

SQLite in WAL mode with synchronous=FULL: what was committed survives a power cut. Every write takes the write lock
at its start (BEGIN IMMEDIATE), so that read-then-write steps are atomic over processes. The journal is copied into
the main file by `settle` and by nobody else, because the main file is sealed (`etl.seal`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    exc,
    insert,
    select,
    update,
)

from etl import durable, migrations, seal
from etl.errors import StateError
from etl.model import Counts

#: Milliseconds that a write waits for another process.
_BUSY = 30_000

#: So many writes are kept in the journal before it is copied into the main file.
WRITES = 2000

metadata = MetaData()

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("feed", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("started", Text),
    Column("ended", Text),
    Column("error", Text),
    Column("claimed", Text),
    Column("archive", Text),
    Column("merged", Integer, nullable=False, default=0),
    *(Column(item.name, Integer, nullable=False, default=0) for item in fields(Counts)),
    Index("runs_of_feed", "feed", "state"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("run", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("operation", Text, nullable=False),
    Column("header", JSON, nullable=False),
    Column("payload", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("records", Integer, nullable=False),
    Column("values", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("without", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("repeats", Integer, nullable=False),
    Column("job_id", Integer, index=True),
    Column("job_status", Integer),
    Column("validation_failures", Integer, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("sent_at", Float),
    Column("polled_at", Float),
    Column("polls", Integer, nullable=False),
    Column("not_before", Float),
    Column("error", Text),
    Column("settled", Text),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", Text, nullable=False, index=True),
    Column("origin", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("source_row", Integer),
)

feeds = Table("feeds", metadata, Column("feed", Text, primary_key=True), Column("generation", Text))

files = Table("files", metadata, Column("path", Text, primary_key=True), Column("digest", Text, nullable=False))

fetched = Table(
    "fetched",
    metadata,
    Column("source", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("size", Integer, primary_key=True),
    Column("modified", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("since", Float, nullable=False),
)

#: What a person should know of, for as long as it holds; see `etl.notices`.
notices = Table(
    "notices",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sentence", Text, nullable=False),
    Column("since", Text, nullable=False),
)

#: What the mappings expect of their feeds, so that `etl status` need not read mappings.
expectations = Table(
    "expectations",
    metadata,
    Column("feed", Text, primary_key=True),
    Column("arrives", Text),
    Column("changes", Text),
    Column("since", Text, nullable=False),
)

sends = Table(
    "sends",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("lane", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("mono", Float, nullable=False),
    Column("wall", Float, nullable=False),
    Column("left", Integer, nullable=False, default=0),
)

pauses = Table(
    "pauses",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("boot", Text, nullable=False),
    Column("mono", Float, nullable=False),
    Column("wall", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("strikes", Integer, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("obtained", Float, nullable=False),
    Column("expires", Float, nullable=False),
)


class Database:
    """One opened ledger database; share it between the threads of a process."""

    def __init__(self, engine: Engine, path: Path, *, reading: bool = False) -> None:
        self._engine = engine
        self._writing = engine.execution_options(etl_write=True)
        self._reading = reading
        self._path = path
        self._writes = 0
        with durable.translated(path):
            self._handle = None if reading else os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # see `seal.put`
        self.place = str(path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view. Raises StateError when the database cannot be read."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One atomic step: durable when the block ends, undone when it raises. Raises StateError."""
        with self._translated(), self._writing.begin() as connection:
            yield connection
        self._writes += 1
        if self._writes >= WRITES:
            self.settle()

    def settle(self) -> None:
        """Copy the journal into the main file and seal it; where somebody is reading just now, another time."""
        self._writes = 0
        with contextlib.suppress(StateError, exc.DatabaseError):  # it is in the journal all the same
            seal.lift(self._path)
            with self._engine.connect() as connection:
                raw = connection.connection.cursor()
                raw.execute("PRAGMA busy_timeout=0")
                blocked = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                raw.execute(f"PRAGMA busy_timeout={_BUSY}")
                raw.close()
            if not blocked and self._handle is not None:
                seal.put(self._path, self._handle)

    def close(self) -> None:
        """Give back all connections."""
        if not self._reading:
            self.settle()
        self._engine.dispose()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.DatabaseError) as error:
            if isinstance(error, exc.IntegrityError | exc.ProgrammingError):
                raise
            raise _refused(str(error.orig), self.place) from error
        except ValueError as error:  # JSON, a state or a time that is none
            raise _refused(f"malformed row: {error}", self.place) from error


def ledger_path(state: Path) -> Path:
    """The file of a state folder's ledger."""
    return state / "ledger.sqlite"


def open_database(state: Path) -> Database:
    """The database of a state folder, created when missing (folder 0700, file 0600), brought to our layout when older.

    Raises StateError.
    """
    path = ledger_path(state)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.chmod(0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StateError(
            "state-unusable",
            f"the state folder cannot be used: {error.strerror}",
            where=str(path),
            hint="check owner, permissions and free space of the folder named by paths.state",
        ) from error
    seal.check(path)
    sealed = seal.is_put(path)
    database = Database(_engine(f"sqlite:///{path}", writing=True), path)
    try:
        with database.read() as connection:
            found = _version(connection, path)
            if found is not None and not sealed:
                _check_whole(connection, path)
        if found is None:
            with database.write() as connection:
                metadata.create_all(connection)
                if _version(connection, path) is None:
                    connection.execute(insert(meta).values(key="schema", value=str(migrations.NEWEST)))
        elif found < migrations.NEWEST:
            with database.write() as connection:
                migrations.bring(found, connection.exec_driver_sql)
                newest = str(migrations.NEWEST)
                connection.execute(update(meta).where(meta.c.key == "schema").values(value=newest))
        if found != migrations.NEWEST or not sealed:
            database.settle()
    except BaseException:
        database.close()
        raise
    return database


def read_database(state: Path) -> Database:
    """The same for looking only: changes nothing while somebody works. Raises StateError."""
    path = ledger_path(state)
    database = Database(
        _engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", writing=False), path, reading=True
    )
    try:
        with database.read() as connection:
            found = _version(connection, path)
    except BaseException:
        database.close()
        raise
    if found == migrations.NEWEST:
        return database
    database.close()
    return open_database(state)


def _version(connection: Connection, path: Path) -> int | None:
    """The layout; None in an empty database. Raises StateError when it is newer than ours."""
    if not connection.dialect.has_table(connection, meta.name):
        return None
    text = connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar_one_or_none()
    if text is None:
        return None
    if text.isdecimal() and 1 <= int(text) <= migrations.NEWEST:
        return int(text)
    raise StateError(
        "state-version",
        f"the ledger has layout {text}, this program knows layouts up to {migrations.NEWEST}",
        where=str(path),
        hint="use the program version that wrote it, or start with an empty state folder",
    )


def _check_whole(connection: Connection, path: Path) -> None:
    """Without a seal SQLite's own look at the file has to do."""
    said = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    if said != "ok":
        raise _refused(f"malformed: {said}", str(path))


def _engine(url: str, *, writing: bool) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_writing if writing else _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are opened by _begin, not guessed by the driver


def _prepare_writing(connection: Any, record: Any) -> None:
    _prepare(connection, record)
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("etl_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _refused(reason: str, place: str) -> StateError:
    if "locked" in reason or "busy" in reason:
        return StateError(
            "state-busy",
            "the ledger is locked by another process",
            where=place,
            hint="wait for it, or stop the process that holds it",
        )
    if "malformed" in reason or "not a database" in reason:
        return StateError(
            "state-corrupt",
            f"the ledger is damaged: {reason}",
            where=place,
            hint="`etl state verify` says what is wrong and what repairs it",
        )
    return StateError(
        "state-unusable",
        f"the ledger cannot be used: {reason}",
        where=place,
        hint="check permissions and free space of the folder named by paths.state",
    )
