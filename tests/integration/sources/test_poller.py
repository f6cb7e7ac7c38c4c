"""Visits to servers in the background: what one of them does wrong does not end the others."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from etl.config.fetch_settings import FetchSettings
from etl.config.settings import Settings
from etl.shutdown import ShutdownEvent
from etl.sources import poller
from etl.state.ledger.alerts import AlertStore
from etl.state.ledger.facade import Ledger


def test_a_defect_in_one_visit_costs_only_that_visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported as an event and an alert, and the next server is visited."""
    visited: list[str] = []
    done = threading.Event()

    def visit(_settings: object, name: str, *_: object) -> None:
        visited.append(name)
        if name == "one":
            raise ZeroDivisionError("cell 4711")
        done.set()

    monkeypatch.setattr(poller, "poll_source", visit)
    monkeypatch.setattr(poller, "_is_poll_due", lambda _settings, name, _ledger: name not in visited)
    section = FetchSettings(
        host="127.0.0.1", user="u", folder="/", known_hosts=tmp_path / "known", schedule="* * * * *"
    )
    settings = Settings(fetch={"one": section, "two": section})
    events: list[tuple[str, dict[str, object]]] = []
    with Ledger.open(tmp_path / "state") as ledger:
        emit = lambda event, /, **facts: events.append((event, facts))  # noqa: E731
        with poller.poll_in_background(settings, ledger, ShutdownEvent(), emit):
            assert done.wait(20)
        (alert,) = AlertStore(ledger.database).list_alerts()
    assert visited == ["one", "two"]
    assert alert.name == "fetch:one"
    assert "4711" not in alert.message
    assert [(event, facts["code"]) for event, facts in events] == [("fetch_failed", "defect")]
