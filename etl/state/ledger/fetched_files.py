"""The files fetched from suppliers' servers: no file is fetched twice, and none is missed.

A remote file is identified by source, path, size and time. `verified`: its copy is complete under a temporary name and
is about to get its name in the inbox. `delivered`: the copy has had its name in the inbox.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Literal

from etl.state.ledger.database import Database
from etl.state.ledger.meta import get_meta, set_meta

FetchState = Literal["verified", "delivered"]


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """One remote file."""

    path: str
    size: int
    modified: int
    state: FetchState
    digest: str
    verified_at: float  #: epoch seconds at which the copy was complete


_FILE_COLUMNS = ", ".join(item.name for item in fields(FetchedFile))
_SAME_FILE = "source = ? AND path = ? AND size = ? AND modified = ?"


class FetchedFiles:
    """The fetched files of one source."""

    def __init__(self, database: Database, source: str) -> None:
        self._database = database
        self._source = source

    def list_files(self) -> list[FetchedFile]:
        """Return the fetched files, oldest first."""
        sql = f"SELECT {_FILE_COLUMNS} FROM fetched_files WHERE source = ? ORDER BY modified, path"
        with self._database.read() as db:
            return [FetchedFile(*row) for row in db.execute(sql, (self._source,))]

    def save_verified(self, path: str, size: int, modified: int, digest: str) -> FetchedFile:
        """Record a file whose copy is complete and verified, and return it."""
        file = FetchedFile(path, size, modified, "verified", digest, datetime.now(UTC).timestamp())
        with self._database.write() as db:
            db.insert("fetched_files", {"source": self._source, **asdict(file)})
        return file

    def mark_delivered(self, file: FetchedFile) -> None:
        """Record that the copy has its name in the inbox."""
        with self._database.write() as db:
            db.update("fetched_files", {"state": "delivered"}, _SAME_FILE, *self._key(file))

    def delete(self, files: Iterable[FetchedFile]) -> None:
        """Forget files that are gone from the server, so that another one of the same name is new."""
        with self._database.write() as db:
            db.executemany(f"DELETE FROM fetched_files WHERE {_SAME_FILE}", [self._key(file) for file in files])

    def last_poll_time(self) -> datetime | None:
        """Return when the server was polled last, or None."""
        with self._database.read() as db:
            text = get_meta(db, f"last_poll:{self._source}")
        return datetime.fromisoformat(text) if text else None

    def save_poll_time(self, now: datetime) -> None:
        """Record that the server was polled, successfully or not."""
        with self._database.write() as db:
            set_meta(db, f"last_poll:{self._source}", now.isoformat())

    def _key(self, file: FetchedFile) -> tuple[str, str, int, int]:
        return (self._source, file.path, file.size, file.modified)
