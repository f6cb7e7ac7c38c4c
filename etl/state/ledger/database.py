"""One SQLite file for the threads of a process: transactions that are whole and durable, and what SQLite refuses.

WAL mode with synchronous=FULL: what was committed survives a power cut. Every write takes the write lock at its start
(BEGIN IMMEDIATE), so that read-then-write steps are atomic over processes. The journal is copied into the main file by
`Database.settle` and by nobody else, because the main file is sealed (`etl.state.ledger.seal`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from etl import filesystem as durable
from etl.errors import StateError
from etl.state.ledger import seal

#: Milliseconds that a write waits for another process.
_BUSY = 30_000

#: So many writes are kept in the journal before it is copied into the main file.
WRITES = 2000

#: In a condition: one of any number of values, which are given as one, by `many`.
AMONG = "IN (SELECT value FROM json_each(?))"


def many(values: Iterable[str | int]) -> str:
    """The values for `AMONG`."""
    return json.dumps(list(values))


class Connection(sqlite3.Connection):
    """SQL as it is written, and the statements that are made from a row. Names of tables and columns are our own."""

    def value(self, sql: str, *given: Any) -> Any:
        """First column of the first row; None when there is no row."""
        row = self.execute(sql, given).fetchone()
        return None if row is None else row[0]

    def insert(self, table: str, *rows: Mapping[str, Any], replace: bool = False) -> int:
        """Rows of the same columns; `replace`: in the place of those with their keys. The number of the last one."""
        if not rows:
            return 0
        names = list(rows[0])
        columns, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
        sql = f"INSERT {'OR REPLACE ' if replace else ''}INTO {table} ({columns}) VALUES ({places})"
        number = 0
        for row in rows:
            number = self.execute(sql, [row[name] for name in names]).lastrowid or 0
        return number

    def update(self, table: str, values: Mapping[str, Any], where: str, *given: Any) -> int:
        """How many rows have these values now."""
        columns = ", ".join(f'"{name}" = ?' for name in values)
        return self.execute(f"UPDATE {table} SET {columns} WHERE {where}", (*values.values(), *given)).rowcount


class Database:
    """One opened file; share it between the threads of a process, each of which has a connection while it works."""

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        """Raises StateError."""
        self.place = str(path)
        self._path = path
        self._reading = reading
        self._writes = 0
        self._all: list[Connection] = []
        self._idle: list[Connection] = []
        self._turn = threading.Lock()  # of the writing threads; SQLite would let them poll for it
        with durable.translated(path):
            self._handle = None if reading else os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # see `seal.put`

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view. Raises StateError when the database cannot be read."""
        with self._translated(), self._connection() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One atomic step: durable when the block ends, undone when it raises. Raises StateError."""
        with self._turn, self._translated(), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            self._commit(connection)
            self._writes += 1
            due = self._writes >= WRITES
        if due:
            self.settle()

    def _commit(self, connection: Connection) -> None:
        """Every step of the ledger becomes true here and nowhere else; tests of crashes hook in before and after."""
        connection.commit()

    def settle(self) -> None:
        """Copy the journal into the main file and seal it; where somebody is reading just now, another time."""
        with self._turn, contextlib.suppress(StateError, sqlite3.DatabaseError):  # it is in the journal all the same
            self._writes = 0
            seal.lift(self._path)
            with self._connection() as connection:
                connection.execute("PRAGMA busy_timeout=0")
                try:
                    blocked = connection.value("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.execute(f"PRAGMA busy_timeout={_BUSY}")
            if not blocked and self._handle is not None:
                seal.put(self._path, self._handle)

    def close(self) -> None:
        """Give back all connections."""
        if not self._reading:
            self.settle()
        self._idle.clear()
        while self._all:
            self._all.pop().close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """One that nobody else has; what it has not committed at the end of the block is undone.

        They stay open until `close`: the last one that is closed copies the journal, sealed or not.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        finally:
            with contextlib.suppress(sqlite3.Error):  # why the step failed is told, not that undoing it failed as well
                connection.rollback()
            if not connection.in_transaction:
                self._idle.append(connection)

    def _connect(self) -> Connection:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self._path))}?mode={'ro' if self._reading else 'rw'}",
            uri=True,
            timeout=_BUSY / 1000,
            isolation_level=None,  # transactions are opened above, not guessed by the driver
            check_same_thread=False,
            factory=Connection,
        )
        connection.row_factory = sqlite3.Row
        try:
            if not self._reading:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
                    connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        self._all.append(connection)
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            raise refused(str(error), self.place) from error
        except ValueError as error:  # JSON, a state or a time that is none
            raise refused(f"malformed row: {error}", self.place) from error


def refused(reason: str, place: str) -> StateError:
    """What SQLite says, as a sentence with a way out."""
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
