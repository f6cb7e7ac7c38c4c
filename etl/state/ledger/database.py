"""Opens one SQLite file for the threads of a process; runs atomic, durable transactions; translates SQLite's errors.

WAL mode with synchronous=FULL: a committed transaction survives a power cut. Every write takes the write lock at its
start (BEGIN IMMEDIATE), so that read-then-write steps are atomic across processes. Only `Database.checkpoint` copies
the journal into the main file, because the main file is sealed (`etl.state.ledger.seal`).
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

#: Writes after which the journal is copied into the main file.
WRITES_PER_CHECKPOINT = 2000

#: SQL condition "is one of these values"; its single parameter is a `json_list`.
IN_JSON = "IN (SELECT value FROM json_each(?))"


def json_list(values: Iterable[str | int]) -> str:
    """Return values as the parameter of `IN_JSON`."""
    return json.dumps(list(values))


class Connection(sqlite3.Connection):
    """A connection with statements built from rows. Names of tables and columns must come from our own code."""

    def scalar(self, sql: str, *parameters: Any) -> Any:
        """Return the first column of the first row; None when there is no row."""
        row = self.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def insert(self, table: str, *rows: Mapping[str, Any], replace: bool = False) -> int:
        """Insert rows of the same columns, with `replace` over those with their keys; return the last row id."""
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
        """Set columns of the rows that match, and return their number."""
        columns = ", ".join(f'"{name}" = ?' for name in values)
        return self.execute(f"UPDATE {table} SET {columns} WHERE {where}", (*values.values(), *parameters)).rowcount


class Database:
    """One opened file, shared by the threads of a process; a thread has a connection of its own for each block."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open a file descriptor for the seal; connections are opened when they are needed. Raises StateError."""
        self.location = str(path)
        self._path = path
        self._read_only = read_only
        self._writes_since_checkpoint = 0
        self._connections: list[Connection] = []
        self._idle_connections: list[Connection] = []
        self._write_lock = threading.Lock()  # of the writing threads, because SQLite would let them poll
        with filesystem.translate_os_errors(path):
            self._seal_handle = (
                None if read_only else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            )  # see `seal.write_seal`

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a consistent view of the database. Raises StateError when it cannot be read."""
        with self._translate_errors(), self._borrow_connection() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction: durable when the block ends, rolled back when it raises. Raises StateError."""
        with self._write_lock, self._translate_errors(), self._borrow_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            self._commit(connection)
            self._writes_since_checkpoint += 1
            due = self._writes_since_checkpoint >= WRITES_PER_CHECKPOINT
        if due:
            self.checkpoint()

    def _commit(self, connection: Connection) -> None:
        """Commit. Every step of the ledger passes here; crash tests replace this method."""
        connection.commit()

    def checkpoint(self) -> None:
        """Copy the journal into the main file and seal it. Does nothing while another connection reads."""
        # A failed checkpoint loses nothing: the data stays in the journal.
        with self._write_lock, contextlib.suppress(StateError, sqlite3.DatabaseError):
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
        """Close all connections."""
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
        """Lend a connection to one thread; what is not committed at the end of the block is rolled back.

        Connections stay open until `close`, because closing the last one copies the journal without a seal.
        """
        try:
            connection = self._idle_connections.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        finally:
            with contextlib.suppress(sqlite3.Error):  # the error of the block matters, not that of the rollback
                connection.rollback()
            if not connection.in_transaction:
                self._idle_connections.append(connection)

    def _connect(self) -> Connection:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self._path))}?mode={'ro' if self._read_only else 'rw'}",
            uri=True,
            timeout=_BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,  # `read` and `write` open transactions, not the driver
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
        except ValueError as error:  # malformed JSON, unknown state, or malformed time in a row
            raise ledger_error(f"malformed row: {error}", self.location) from error


def ledger_error(reason: str, location: str) -> StateError:
    """Return a StateError for SQLite's reason, with a hint what to do."""
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
