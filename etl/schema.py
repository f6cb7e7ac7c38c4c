"""The ledger's tables, and how a database of it is opened.

SQLite in WAL mode with synchronous=FULL: what was committed survives a power cut. Every write takes the write lock
at its start (BEGIN IMMEDIATE), so that read-then-write steps are atomic over processes. Only generic SQL: another
database by URL stays thinkable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

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
)

from etl.errors import StateError
from etl.model import Counts

#: Raised by one with every change of the tables below; a newer one than ours is refused.
VERSION = "1"

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

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._writing = engine.execution_options(etl_write=True)
        self.place = place

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

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.DatabaseError) as error:
            if isinstance(error, exc.IntegrityError | exc.ProgrammingError):
                raise
            raise _refused(str(error.orig), self.place) from error


def open_database(state: Path) -> Database:
    """The database of a state folder, created when missing (folder 0700, file 0600). Raises StateError."""
    path = state / "ledger.sqlite"
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
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    database = Database(engine, str(path))
    try:
        with database.read() as connection:
            found = _version(connection)
        if found is None:
            with database.write() as connection:
                metadata.create_all(connection)
                if _version(connection) is None:
                    connection.execute(insert(meta).values(key="schema", value=VERSION))
        elif found != VERSION:
            raise StateError(
                "state-version",
                f"the ledger has layout {found}, this program knows {VERSION}",
                where=str(path),
                hint="use the program version that wrote it, or start with an empty state folder",
            )
    except BaseException:
        database.close()
        raise
    return database


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, meta.name):
        return None
    return connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar_one_or_none()


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are opened by _begin, not guessed by the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
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
            hint="restore it from a backup; or move the state folder away, and every feed is sent in full again",
        )
    return StateError(
        "state-unusable",
        f"the ledger cannot be used: {reason}",
        where=place,
        hint="check permissions and free space of the folder named by paths.state",
    )
