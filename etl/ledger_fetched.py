"""What has been fetched from suppliers' servers: nothing is fetched twice, and nothing is missed.

A file is known by source, path, size and time. `whole`: it is here under a temporary name and verified, and is about to
get its name in the inbox. `arrived`: it has had it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import ColumnElement, delete, insert, select, update

from etl import schema

Coming = Literal["whole", "arrived"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file of a server."""

    path: str
    size: int
    modified: int
    state: Coming
    digest: str
    since: float  #: when it was whole, epoch seconds


class Memory:
    """Of one source."""

    def __init__(self, database: schema.Database, source: str) -> None:
        self._database = database
        self._source = source

    def all(self) -> list[Fetched]:
        """The oldest first."""
        f = schema.fetched.c
        query = select(f.path, f.size, f.modified, f.state, f.digest, f.since).where(f.source == self._source)
        with self._database.read() as db:
            return [Fetched(*row) for row in db.execute(query.order_by(f.modified, f.path))]

    def whole(self, path: str, size: int, modified: int, digest: str) -> Fetched:
        """It is here and verified."""
        made = Fetched(path, size, modified, "whole", digest, datetime.now(UTC).timestamp())
        with self._database.write() as db:
            db.execute(insert(schema.fetched).values(source=self._source, **asdict(made)))
        return made

    def arrived(self, file: Fetched) -> None:
        """It has its name in the inbox."""
        with self._database.write() as db:
            db.execute(update(schema.fetched).where(self._is(file)).values(state="arrived"))

    def forget(self, files: Iterable[Fetched]) -> None:
        """They are gone from the server: whatever comes there under the same name is new."""
        with self._database.write() as db:
            for file in files:
                db.execute(delete(schema.fetched).where(self._is(file)))

    def last_round(self) -> datetime | None:
        """When the server was asked last."""
        query = select(schema.meta.c.value).where(schema.meta.c.key == self._key)
        with self._database.read() as db:
            found = db.execute(query).scalar_one_or_none()
        return datetime.fromisoformat(found) if found else None

    def asked(self, now: datetime) -> None:
        """The server was asked, with whatever success."""
        with self._database.write() as db:
            db.execute(delete(schema.meta).where(schema.meta.c.key == self._key))
            db.execute(insert(schema.meta).values(key=self._key, value=now.isoformat()))

    @property
    def _key(self) -> str:
        return f"fetch:{self._source}"

    def _is(self, file: Fetched) -> ColumnElement[bool]:
        f = schema.fetched.c
        return (
            (f.source == self._source) & (f.path == file.path) & (f.size == file.size) & (f.modified == file.modified)
        )
