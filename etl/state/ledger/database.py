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

from etl import filesystem
from etl.errors import StateError
from etl.state.ledger import seal

#: A row, by position and by column name.
Row = sqlite3.Row

#: Milliseconds that a write waits for another process.
_BUSY_TIMEOUT_MS = 30_000

#: So many writes are kept in the journal before it is copied into the main file.
WRITES_PER_CHECKPOINT = 2000

#: In a condition: one of any number of values, which are given as one, by `many`.
IN_JSON = "IN (SELECT value FROM json_each(?))"


def json_list(values: Iterable[str | int]) -> str:
    """The values for `AMONG`."""
    return json.dumps(list(values))


class Connection(sqlite3.Connection):
    """SQL as it is written, and the statements that are made from a row. Names of tables and columns are our own."""

    def scalar(self, sql: str, *parameters: Any) -> Any:
        """First column of the first row; None when there is no row."""
        row = self.execute(sql, parameters).fetchone()
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

    def update(self, table: str, values: Mapping[str, Any], where: str, *parameters: Any) -> int:
        """How many rows have these values now."""
        columns = ", ".join(f'"{name}" = ?' for name in values)
        return self.execute(f"UPDATE {table} SET {columns} WHERE {where}", (*values.values(), *parameters)).rowcount


class Database:
    """One opened file; share it between the threads of a process, each of which has a connection while it works."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises StateError."""
        self.location = str(path)
        self._path = path
        self._read_only = read_only
        self._writes_since_checkpoint = 0
        self._connections: list[Connection] = []
        self._idle_connections: list[Connection] = []
        self._write_lock = threading.Lock()  # of the writing threads; SQLite would let them poll for it
        with filesystem.translate_os_errors(path):
            self._seal_handle = None if read_only else os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # see `seal.put`

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view. Raises StateError when the database cannot be read."""
        with self._translate_errors(), self._borrow_connection() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One atomic step: durable when the block ends, undone when it raises. Raises StateError."""
        with self._write_lock, self._translate_errors(), self._borrow_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            self._commit(connection)
            self._writes_since_checkpoint += 1
            due = self._writes_since_checkpoint >= WRITES_PER_CHECKPOINT
        if due:
            self.checkpoint()

    def _commit(self, connection: Connection) -> None:
        """Every step of the ledger becomes true here and nowhere else; tests of crashes hook in before and after."""
        connection.commit()

    def checkpoint(self) -> None:
        """Copy the journal into the main file and seal it; where somebody is reading just now, another time."""
        with (
            self._write_lock,
            contextlib.suppress(StateError, sqlite3.DatabaseError),
        ):  # it is in the journal all the same
            self._writes_since_checkpoint = 0
            seal.remove_seal(self._path)
            with self._borrow_connection() as connection:
                connection.execute("PRAGMA busy_timeout=0")
                try:
                    blocked = connection.scalar("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
            if not blocked and self._seal_handle is not None:
                seal.write_seal(self._path, self._seal_handle)

    def close(self) -> None:
        """Give back all connections."""
        if not self._read_only:
            self.checkpoint()
        self._idle_connections.clear()
        while self._connections:
            self._connections.pop().close()
        if self._seal_handle is not None:
            os.close(self._seal_handle)
            self._seal_handle = None

    @contextmanager
    def _borrow_connection(self) -> Iterator[Connection]:
        """One that nobody else has; what it has not committed at the end of the block is undone.

        They stay open until `close`: the last one that is closed copies the journal, sealed or not.
        """
        try:
            connection = self._idle_connections.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        finally:
            with contextlib.suppress(sqlite3.Error):  # why the step failed is told, not that undoing it failed as well
                connection.rollback()
            if not connection.in_transaction:
                self._idle_connections.append(connection)

    def _connect(self) -> Connection:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self._path))}?mode={'ro' if self._read_only else 'rw'}",
            uri=True,
            timeout=_BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,  # transactions are opened above, not guessed by the driver
            check_same_thread=False,
            factory=Connection,
        )
        connection.row_factory = sqlite3.Row
        try:
            if not self._read_only:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
                    connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        self._connections.append(connection)
        return connection

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            raise ledger_error(str(error), self.location) from error
        except ValueError as error:  # JSON, a state or a time that is none
            raise ledger_error(f"malformed row: {error}", self.location) from error


def ledger_error(reason: str, location: str) -> StateError:
    """What SQLite says, as a sentence with a way out."""
    if "locked" in reason or "busy" in reason:
        return StateError(
            "state-busy",
            "the ledger is locked by another process",
            where=location,
            hint="wait for it, or stop the process that uses it",
        )
    if "malformed" in reason or "not a database" in reason:
        return StateError(
            "state-corrupt",
            f"the ledger is damaged: {reason}",
            where=location,
            hint="`etl state verify` shows the problem and its repair command",
        )
    return StateError(
        "state-unusable",
        f"the ledger cannot be used: {reason}",
        where=location,
        hint="check permissions and free space of the folder named by paths.state",
    )
