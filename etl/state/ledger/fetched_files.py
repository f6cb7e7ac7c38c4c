"""What has been fetched from suppliers' servers: nothing is fetched twice, and nothing is missed.

A file is known by source, path, size and time. `whole`: it is here under a temporary name and verified, and is about to
get its name in the inbox. `delivered`: it has had it.
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
    """One file of a server."""

    path: str
    size: int
    modified: int
    state: FetchState
    digest: str
    verified_at: float  #: when it was whole, epoch seconds


_FILE_COLUMNS = ", ".join(item.name for item in fields(FetchedFile))
_SAME_FILE = "source = ? AND path = ? AND size = ? AND modified = ?"


class FetchedFiles:
    """Of one source."""

    def __init__(self, database: Database, source: str) -> None:
        self._database = database
        self._source = source

    def list_files(self) -> list[FetchedFile]:
        """The oldest first."""
        sql = f"SELECT {_FILE_COLUMNS} FROM fetched_files WHERE source = ? ORDER BY modified, path"
        with self._database.read() as db:
            return [FetchedFile(*row) for row in db.execute(sql, (self._source,))]

    def save_verified(self, path: str, size: int, modified: int, digest: str) -> FetchedFile:
        """It is here and verified."""
        made = FetchedFile(path, size, modified, "verified", digest, datetime.now(UTC).timestamp())
        with self._database.write() as db:
            db.insert("fetched_files", {"source": self._source, **asdict(made)})
        return made

    def mark_delivered(self, file: FetchedFile) -> None:
        """It has its name in the inbox."""
        with self._database.write() as db:
            db.update("fetched_files", {"state": "delivered"}, _SAME_FILE, *self._key(file))

    def delete(self, files: Iterable[FetchedFile]) -> None:
        """They are gone from the server: whatever comes there under the same name is new."""
        with self._database.write() as db:
            db.executemany(f"DELETE FROM fetched_files WHERE {_SAME_FILE}", [self._key(file) for file in files])

    def last_poll_time(self) -> datetime | None:
        """When the server was asked last."""
        with self._database.read() as db:
            found = get_meta(db, f"last_poll:{self._source}")
        return datetime.fromisoformat(found) if found else None

    def save_poll_time(self, now: datetime) -> None:
        """The server was asked, with whatever success."""
        with self._database.write() as db:
            set_meta(db, f"last_poll:{self._source}", now.isoformat())

    def _key(self, file: FetchedFile) -> tuple[str, str, int, int]:
        return (self._source, file.path, file.size, file.modified)
