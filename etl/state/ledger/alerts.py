"""What the ledger keeps for people: what is expected of feeds, and what somebody should know of for as long as it
holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from etl.state.ledger.database import Database


@dataclass(frozen=True, slots=True)
class Alert:
    """`name` tells what it is about, and stays the same while it holds: `late:erp-prices:…`, `fetch:acme`."""

    name: str
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a mapping says of its feed, as text, and since when."""

    feed: str
    arrives: str | None
    changes: str | None
    since: datetime


class AlertStore:
    """Where both hang."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_alerts(self) -> list[Alert]:
        """All that hold, the oldest first."""
        with self._database.read() as db:
            rows = db.execute("SELECT name, message, since FROM alerts ORDER BY since, name").fetchall()
        return [Alert(name, sentence, datetime.fromisoformat(since)) for name, sentence, since in rows]

    def raise_alert(self, alert: Alert) -> bool:
        """Whether it is new; one that hangs already keeps its time, and gets the sentence of today."""
        with self._database.write() as db:
            found = db.scalar("SELECT since FROM alerts WHERE name = ?", alert.name)
            since = found or alert.since.isoformat()
            db.insert("alerts", {"name": alert.name, "message": alert.message, "since": since}, replace=True)
        return found is None

    def resolve_alert(self, name: str) -> bool:
        """Whether it was there."""
        with self._database.write() as db:
            return db.execute("DELETE FROM alerts WHERE name = ?", (name,)).rowcount > 0

    def list_expectations(self) -> list[Expectation]:
        """By feed."""
        with self._database.read() as db:
            rows = db.execute("SELECT feed, arrives, changes, since FROM expectations ORDER BY feed").fetchall()
        return [
            Expectation(feed, arrives, changes, datetime.fromisoformat(since)) for feed, arrives, changes, since in rows
        ]

    def save_expectations(self, expectations: Mapping[str, tuple[str | None, str | None]], now: datetime) -> None:
        """What the mappings say today; what they said before keeps its time."""
        known = {one.feed: one for one in self.list_expectations()}
        if {feed: (one.arrives, one.changes) for feed, one in known.items()} == dict(expectations):
            return
        with self._database.write() as db:
            db.execute("DELETE FROM expectations")
            for feed, (arrives, changes) in expectations.items():
                before = known.get(feed)
                same = before is not None and before.arrives == arrives
                since = before.since if same and before is not None else now
                row = {"feed": feed, "arrives": arrives, "changes": changes, "since": since.isoformat()}
                db.insert("expectations", row)
