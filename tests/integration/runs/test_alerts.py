"""Notices: told once, taken down when they end, seen by whoever looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.errors import InvalidMappingError
from etl.ingest.intake import WaitingFile
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.runs import alerts
from etl.state.ledger.facade import Ledger
from tests.support.shop import STOCK_MAPPING

SIX = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def mapping(folder: Path, expect: str) -> Mapping:
    path = folder / "stock.yaml"
    path.write_text(STOCK_MAPPING + f"expect: {expect}\n")
    return load.load_mapping(path)


def arrival(ledger: Ledger, number: int, when: datetime, digest: str = "a") -> None:
    ledger.open_run(
        Run(f"r{number}", "stock", "Product/ImportOnhands", "s.csv", digest, RunState.CLAIMED, started=when)
    )


def test_a_late_file_is_told_once_and_its_end_too(tmp_path: Path) -> None:
    """However often one looks, over restarts, and by another process; then it comes."""
    stock, told = mapping(tmp_path, '"every day by 06:00 UTC"'), []

    def look(when: datetime) -> None:
        with Ledger.open(tmp_path / "var") as ledger:
            alerts.refresh(ledger, [stock], when, lambda event, /, **facts: told.append((event, facts["alert"])))

    look(SIX - timedelta(hours=12))
    for minute in range(3):
        look(SIX + timedelta(minutes=minute))
    name = "late:stock:2026-03-02T06:00Z"
    assert told == [("alert_raised", name)]
    with Ledger.open_read_only(tmp_path / "var") as ledger:
        (one,) = alerts.find_active(ledger, SIX + timedelta(hours=1))
        assert "stock: the file due 2026-03-02 06:00 UTC has not arrived" in one.message
    with Ledger.open(tmp_path / "var") as ledger:
        arrival(ledger, 1, SIX + timedelta(hours=1))
    look(SIX + timedelta(hours=2))
    assert told == [("alert_raised", name), ("alert_resolved", name)]
    with Ledger.open_read_only(tmp_path / "var") as ledger:
        assert alerts.find_active(ledger, SIX + timedelta(hours=2)) == []
        assert len(alerts.find_active(ledger, SIX + timedelta(hours=24))) == 1


def test_a_file_that_never_changes_is_told(tmp_path: Path) -> None:
    """It comes in time, and it is always the same."""
    stock, told = mapping(tmp_path, '{arrives: "every day by 06:00 UTC", changes: every 2 days}'), []
    with Ledger.open(tmp_path / "var") as ledger:
        for day in range(5):
            arrival(ledger, day, SIX + timedelta(days=day, hours=-1), "same" if day else "other")
            now = SIX + timedelta(days=day)
            alerts.refresh(ledger, [stock], now, lambda event, /, **facts: told.append((event, facts["alert"])))
    assert told == [("alert_raised", "unchanged:stock:2026-03-03T05:00Z")]


def test_a_file_that_waits_too_long_is_told(tmp_path: Path) -> None:
    """After an hour, once; seen by whoever looks; gone when it has been taken."""
    told: list[tuple[str, str]] = []
    lacks = [WaitingFile("acme/a.csv", "its done file a.csv.ok is not there yet", SIX.timestamp())]
    with Ledger.open(tmp_path / "var") as ledger:

        def look(minutes: int, waiting: list[WaitingFile]) -> list[str]:
            now = SIX + timedelta(minutes=minutes)
            tell = lambda event, /, **facts: told.append((event, facts["alert"]))  # noqa: E731
            alerts.refresh(ledger, [], now, tell, waiting)
            return [one.message for one in alerts.find_active(ledger, now)]

        assert look(59, lacks) == []
        assert look(60, lacks) == look(90, lacks)
        assert "a.csv.ok is not there" in look(99, lacks)[0]
        assert look(100, []) == []
    assert told == [("alert_raised", "not_ready:acme/a.csv"), ("alert_resolved", "not_ready:acme/a.csv")]


def test_an_alert_about_a_file_stays_as_long_as_the_file_waits(tmp_path: Path) -> None:
    """Another process has raised it after three attempts; this one has tried once and does not resolve it."""
    told: list[str] = []
    file = WaitingFile("acme/a.csv", "it cannot be taken out of its folder", SIX.timestamp(), needs_alert=True)
    with Ledger.open(tmp_path / "var") as ledger:
        for waiting in ([file], [file._replace(needs_alert=False)], []):
            alerts.refresh(ledger, [], SIX, lambda event, /, **_: told.append(event), waiting)
    assert told == ["alert_raised", "alert_resolved"]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('"every day by 6 UTC"', "1:23"), ("every day by 6 UTC", "1:22"),
        ("{arrives: 'every noon by 6:00 UTC'}", "1:26"),
        ("{changes: every day by 06:00 UTC}", "1:19"), ("{arives: every day}", "1:10"),
    ],
)  # fmt: skip
def test_mistakes_are_pointed_at(tmp_path: Path, line: str, place: str) -> None:
    """Line and column of the word that is not understood."""
    path = tmp_path / "stock.yaml"
    path.write_text(f"expect: {line}\n{STOCK_MAPPING}")
    with pytest.raises(InvalidMappingError) as caught:
        load.load_mapping(path)
    assert f"stock.yaml:{place}" in str(caught.value)
