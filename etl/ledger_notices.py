"""What the ledger keeps for people: what is expected of feeds, and what somebody should know of for as long as it
holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from etl import schema


@dataclass(frozen=True, slots=True)
class Notice:
    """`name` tells what it is about, and stays the same while it holds: `late:erp-prices:…`, `fetch:acme`."""

    name: str
    sentence: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Expected:
    """What a mapping says of its feed, as text, and since when."""

    feed: str
    arrives: str | None
    changes: str | None
    since: datetime


class Board:
    """Where both hang."""

    def __init__(self, database: schema.Database) -> None:
        self._database = database

    def notices(self) -> list[Notice]:
        """All that hold, the oldest first."""
        n = schema.notices.c
        with self._database.read() as db:
            rows = db.execute(select(n.name, n.sentence, n.since).order_by(n.since, n.name)).all()
        return [Notice(row.name, row.sentence, datetime.fromisoformat(row.since)) for row in rows]

    def put(self, notice: Notice) -> bool:
        """Whether it is new; one that hangs already keeps its time, and gets the sentence of today."""
        n = schema.notices.c
        with self._database.write() as db:
            found = db.execute(select(n.since).where(n.name == notice.name)).scalar_one_or_none()
            db.execute(delete(schema.notices).where(n.name == notice.name))
            since = found or notice.since.isoformat()
            db.execute(insert(schema.notices).values(name=notice.name, sentence=notice.sentence, since=since))
        return found is None

    def drop(self, name: str) -> bool:
        """Whether it was there."""
        with self._database.write() as db:
            return db.execute(delete(schema.notices).where(schema.notices.c.name == name)).rowcount > 0

    def expected(self) -> list[Expected]:
        """By feed."""
        e = schema.expectations.c
        with self._database.read() as db:
            rows = db.execute(select(e.feed, e.arrives, e.changes, e.since).order_by(e.feed)).all()
        return [Expected(row.feed, row.arrives, row.changes, datetime.fromisoformat(row.since)) for row in rows]

    def expect(self, wanted: Mapping[str, tuple[str | None, str | None]], now: datetime) -> None:
        """What the mappings say today; what they said before keeps its time."""
        known = {one.feed: one for one in self.expected()}
        if {feed: (one.arrives, one.changes) for feed, one in known.items()} == dict(wanted):
            return
        with self._database.write() as db:
            db.execute(delete(schema.expectations))
            for feed, (arrives, changes) in wanted.items():
                before = known.get(feed)
                same = before is not None and before.arrives == arrives
                since = before.since if same and before is not None else now
                row = {"feed": feed, "arrives": arrives, "changes": changes, "since": since.isoformat()}
                db.execute(insert(schema.expectations).values(**row))
