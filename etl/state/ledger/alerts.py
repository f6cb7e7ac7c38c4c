"""The alerts of a ledger, and what the mappings expect of their feeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from etl.state.ledger.database import Database


@dataclass(frozen=True, slots=True)
class Alert:
    """An active condition that needs a person. `name` identifies it: `late:erp-prices:…`, `fetch:acme`."""

    name: str
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Expectation:
    """When a mapping expects files of its feed and changes in them, as text, and since when it says so."""

    feed: str
    arrives: str | None
    changes: str | None
    since: datetime


class AlertStore:
    """Tables `alerts` and `expectations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_alerts(self) -> list[Alert]:
        """Return the active alerts, oldest first."""
        with self._database.read() as db:
            rows = db.execute("SELECT name, message, since FROM alerts ORDER BY since, name").fetchall()
        return [Alert(name, message, datetime.fromisoformat(since)) for name, message, since in rows]

    def raise_alert(self, alert: Alert) -> bool:
        """Raise an alert and return whether it is new; an active one keeps its time and gets the new message."""
        with self._database.write() as db:
            active_since = db.scalar("SELECT since FROM alerts WHERE name = ?", alert.name)
            since = active_since or alert.since.isoformat()
            db.insert("alerts", {"name": alert.name, "message": alert.message, "since": since}, replace=True)
        return active_since is None

    def resolve_alert(self, name: str) -> bool:
        """Resolve an alert and return whether it was active."""
        with self._database.write() as db:
            return db.execute("DELETE FROM alerts WHERE name = ?", (name,)).rowcount > 0

    def list_expectations(self) -> list[Expectation]:
        """Return the expectations, sorted by feed."""
        with self._database.read() as db:
            rows = db.execute("SELECT feed, arrives, changes, since FROM expectations ORDER BY feed").fetchall()
        return [
            Expectation(feed, arrives, changes, datetime.fromisoformat(since)) for feed, arrives, changes, since in rows
        ]

    def save_expectations(self, expectations: Mapping[str, tuple[str | None, str | None]], now: datetime) -> None:
        """Replace the expectations by (arrives, changes) of each feed; an unchanged `arrives` keeps its time."""
        stored = {expectation.feed: expectation for expectation in self.list_expectations()}
        if {feed: (item.arrives, item.changes) for feed, item in stored.items()} == dict(expectations):
            return
        with self._database.write() as db:
            db.execute("DELETE FROM expectations")
            for feed, (arrives, changes) in expectations.items():
                previous = stored.get(feed)
                since = previous.since if previous is not None and previous.arrives == arrives else now
                row = {"feed": feed, "arrives": arrives, "changes": changes, "since": since.isoformat()}
                db.insert("expectations", row)
