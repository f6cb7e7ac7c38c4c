"""The small tables of the ledger: alerts, expectations, fetched files, digests, targets, and the seal beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.errors import StateError
from etl.state.ledger import seal
from etl.state.ledger.alerts import Alert, AlertStore, Expectation
from etl.state.ledger.facade import Ledger
from etl.state.ledger.fetched_files import FetchedFiles

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "var") as opened:
        yield opened


@pytest.fixture
def alerts(ledger: Ledger) -> AlertStore:
    return AlertStore(ledger.database)


def test_an_active_alert_keeps_its_time(alerts: AlertStore) -> None:
    """Raised again it is not new and has the new message; resolved, it is gone, once."""
    assert alerts.raise_alert(Alert("late:b", "two", LATER))
    assert alerts.raise_alert(Alert("late:a", "one", NOON))
    assert not alerts.raise_alert(Alert("late:a", "one more", LATER))
    assert alerts.list_alerts() == [Alert("late:a", "one more", NOON), Alert("late:b", "two", LATER)]
    assert alerts.resolve_alert("late:a")
    assert not alerts.resolve_alert("late:a")
    assert [alert.name for alert in alerts.list_alerts()] == ["late:b"]
    assert alerts.raise_alert(Alert("late:a", "again", LATER))
    assert alerts.list_alerts()[0].since == LATER


def test_alerts_of_one_moment_are_listed_by_name(alerts: AlertStore) -> None:
    """The order is the same each time."""
    for name in ("fetch:b", "fetch:a"):
        alerts.raise_alert(Alert(name, "x", NOON))
    assert [alert.name for alert in alerts.list_alerts()] == ["fetch:a", "fetch:b"]


def test_an_expectation_counts_since_its_mapping_says_so(alerts: AlertStore) -> None:
    """An unchanged `arrives` keeps its time, also when `changes` is another; what no mapping says is gone."""
    alerts.save_expectations({"b": ("every day", None), "a": (None, "weekly")}, NOON)
    first = [Expectation("a", None, "weekly", NOON), Expectation("b", "every day", None, NOON)]
    assert alerts.list_expectations() == first
    alerts.save_expectations({"b": ("every day", None), "a": (None, "weekly")}, LATER)
    assert alerts.list_expectations() == first
    alerts.save_expectations({"b": ("every hour", None), "a": (None, "daily"), "c": ("x", "y")}, LATER)
    assert alerts.list_expectations() == [
        Expectation("a", None, "daily", NOON),
        Expectation("b", "every hour", None, LATER),
        Expectation("c", "x", "y", LATER),
    ]
    alerts.save_expectations({}, LATER)
    assert alerts.list_expectations() == []


def test_a_fetched_file_is_known_by_path_size_and_time(ledger: Ledger) -> None:
    """Files of one source, oldest first; a delivered one is marked, a forgotten one is gone, the others stay."""
    acme, other = FetchedFiles(ledger.database, "acme"), FetchedFiles(ledger.database, "other")
    before = datetime.now(UTC).timestamp()
    second = acme.save_verified("out/b.csv", 2, 20, "bb")
    first = acme.save_verified("out/a.csv", 1, 10, "aa")
    grown = acme.save_verified("out/a.csv", 3, 20, "cc")
    theirs = other.save_verified("out/a.csv", 1, 10, "dd")
    assert before <= first.verified_at <= datetime.now(UTC).timestamp()
    assert acme.list_files() == [first, grown, second]
    assert (first.state, first.digest) == ("verified", "aa")
    acme.mark_delivered(first)
    assert acme.list_files() == [replace(first, state="delivered"), grown, second]
    assert other.list_files() == [theirs]
    acme.delete([first, second])
    assert acme.list_files() == [grown]
    assert other.list_files() == [theirs]


def test_the_time_of_a_poll_is_kept_by_source(ledger: Ledger) -> None:
    """None before the first; then the last."""
    acme, other = FetchedFiles(ledger.database, "acme"), FetchedFiles(ledger.database, "other")
    assert acme.last_poll_time() is None
    acme.save_poll_time(NOON)
    acme.save_poll_time(LATER)
    assert acme.last_poll_time() == LATER
    assert other.last_poll_time() is None


def test_digests_of_files_that_nobody_needs_are_deleted(ledger: Ledger) -> None:
    """A file that is there, or is needed, keeps its digest; a later digest takes the place of an earlier one."""
    there, needed, gone = (ledger.state_folder / name for name in ("there", "needed", "gone"))
    there.touch()
    ledger.digests.save({there: "1", needed: "2", gone: "3"})
    ledger.digests.save({there: "4"})
    ledger.digests.save({})
    assert [ledger.digests.find(path) for path in (there, needed, gone)] == ["4", "2", "3"]
    assert ledger.digests.find(ledger.state_folder / "never") is None
    ledger.digests.delete_stale([needed])
    assert [ledger.digests.find(path) for path in (there, needed, gone)] == ["4", "2", None]


def test_the_smallest_refused_size_counts_for_its_operation(ledger: Ledger) -> None:
    """A body one byte smaller is worth trying; other operations learn by themselves."""
    for size in (1000, 1001, 1000):
        ledger.meta.learn_size_limit("one", size)
    assert ledger.meta.size_limit("one") == 999
    ledger.meta.learn_size_limit("one", 999)
    assert ledger.meta.size_limit("one") == 998
    assert ledger.meta.size_limit("two") is None


def test_a_folder_keeps_its_first_target(ledger: Ledger) -> None:
    """Without a target it has none; another one is refused with the folder and what to do."""
    assert ledger.meta.target() is None
    ledger.meta.bind_target("a")
    ledger.meta.bind_target("a")
    with pytest.raises(StateError) as caught:
        ledger.meta.bind_target("b")
    assert caught.value.code == "state-other-target"
    assert str(ledger.state_folder) in str(caught.value)
    assert ledger.meta.target() == "a"


def test_a_seal_holds_size_and_digest(tmp_path: Path) -> None:
    """What differs from either is damage; no seal, or a matching one, is silent."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"content")
    seal.check_seal(path)
    assert not seal.has_seal(path)
    with path.open("rb") as file:
        file.read(3)  # the place in the file makes no difference
        seal.write_seal(path, file.fileno())
    assert seal.has_seal(path)
    assert seal.seal_path(path) == tmp_path / "ledger.seal"
    seal.check_seal(path)
    written = json.loads(seal.seal_path(path).read_text(encoding="utf-8"))
    assert written["bytes"] == 7
    damages: list[object] = [{**written, "bytes": 8}, {**written, "sha256": "0" * 64}, [], None]
    for damage in damages:
        seal.seal_path(path).write_text(json.dumps(damage), encoding="utf-8")
        with pytest.raises(StateError) as caught:
            seal.check_seal(path)
        assert caught.value.code == "state-corrupt"
    seal.seal_path(path).write_bytes(b"{")
    with pytest.raises(StateError, match="not as this program left it"):
        seal.check_seal(path)
    seal.remove_seal(path)
    seal.remove_seal(path)
    assert not seal.has_seal(path)
    seal.check_seal(path)


def test_a_seal_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    """What the disk refuses is told as such: the ledger may be right."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"content")
    seal.seal_path(path).mkdir()
    with pytest.raises(StateError) as caught:
        seal.check_seal(path)
    assert caught.value.code != "state-corrupt"
