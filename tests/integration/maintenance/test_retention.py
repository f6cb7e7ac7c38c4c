"""What is let go of, and what is kept whatever its age, on a real ledger and a real archive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from etl.config.settings import RetentionSettings
from etl.maintenance.retention import Retention, find_needed_runs
from etl.model.runs import Counts, Run, RunState
from etl.state import startup_check
from etl.state.files import archive
from etl.state.ledger.facade import Ledger

START = datetime(2026, 1, 1, tzinfo=UTC)

#: A feed whose runs show only that time passes.
MONTHLY = "monthly"


class House:
    """A ledger with a told clock and an archive."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.now = START
        self.ledger = Ledger.open(state, clock=lambda: self.now.timestamp())
        self.events: list[dict[str, Any]] = []
        self.number = 0

    def ended(
        self,
        feed: str = "stock",
        state: RunState = RunState.COMPLETED,
        kind: Literal["file", "full", "rerun", "undo"] = "file",
        *,
        merged: bool = True,
        file: bool = True,
    ) -> str:
        """A run that has just ended, with its folder."""
        self.number += 1
        run = f"r{self.number:04}-{feed}"
        folder = archive.archive_folder(self.state, run, self.now.date())
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
        if file:
            source = archive.source_path(folder, "s.csv")
            source.parent.mkdir()
            source.write_text("x")
        self.ledger.open_run(
            Run(run, feed, "Product/ImportOnhands", "s.csv", "d", RunState.CLAIMED, kind=kind, started=self.now)
        )
        self.ledger.close_run(run, state, Counts(rows=1), archive=folder)
        if merged:
            self.ledger.replace_base(feed, None, [run])
        return run

    def wait(self, days: int) -> None:
        """Days pass in which another feed has a run a month, without a folder."""
        end = self.now + timedelta(days=days)
        while self.now < end:
            self.now = min(end, self.now + timedelta(days=30))
            self.number += 1
            run = f"r{self.number:04}-{MONTHLY}"
            self.ledger.open_run(Run(run, MONTHLY, "x", "m.csv", "d", RunState.CLAIMED, started=self.now))
            self.ledger.close_run(run, RunState.INVALID)

    def retaining(self, archive_days: int = 90, ledger_days: int = 400) -> Retention:
        def tell(event: str, /, **facts: Any) -> None:
            self.events.append({"event": event, **facts})

        return Retention(self.ledger, self.state, RetentionSettings(archive_days, ledger_days), tell)

    def look(self, **days: int) -> None:
        self.retaining(**days).apply(self.now)

    def folders(self) -> set[str]:
        return {path.name for path in self.state.glob("archive/*/*")}

    def rows(self) -> set[str]:
        return {run.id for run in self.ledger.runs.list_recent(10_000) if run.feed != MONTHLY}


def test_folders_go_first_and_rows_later(tmp_path: Path) -> None:
    """After archive_days the folder, after ledger_days the row; the newest run of the feed stays with its file."""
    house = House(tmp_path)
    old, newest = house.ended(), house.ended()
    house.wait(89)
    house.look()
    assert house.folders() == {old, newest}
    house.wait(2)
    house.look()
    assert house.folders() == {newest}
    assert house.rows() == {old, newest}
    assert house.events == [{"event": "retention_applied", "folders": 1, "runs": 0}]
    house.wait(400)
    house.look()
    assert house.rows() == house.folders() == {newest}
    assert startup_check.find_unknown_runs(house.ledger, tmp_path) == []
    assert len(list((tmp_path / "archive").iterdir())) == 1


def test_a_clock_that_is_set_wrong_makes_nothing_old(tmp_path: Path) -> None:
    """A year ahead, also with runs in that year; set right again, the folder goes when its time has come."""
    house = House(tmp_path)
    kept = {house.ended(), house.ended()}
    house.wait(60)
    house.now += timedelta(days=400)
    house.look()
    assert house.folders() == kept
    wrong = house.ended()
    house.look()
    assert house.folders() == {*kept, wrong}
    house.now -= timedelta(days=400)
    house.ended()
    house.look()
    assert kept <= house.folders()
    house.wait(31)
    house.look()
    assert not kept & house.folders()


def test_nothing_goes_when_nothing_may(tmp_path: Path) -> None:
    """0 days keep everything for ever."""
    house = House(tmp_path)
    kept = {house.ended(), house.ended()}
    house.wait(5000)
    house.look(archive_days=0, ledger_days=0)
    assert house.folders() == house.rows() == kept


def test_what_open_runs_need_stays(tmp_path: Path) -> None:
    """While a rerun, full feed or undo of a feed is open or held, nothing of that feed goes; other feeds' goes."""
    house = House(tmp_path)
    first, second = house.ended(), house.ended()
    other = house.ended("prices")
    last = house.ended("prices")
    house.ledger.open_run(
        Run("undo-stock", "stock", "Product/ImportOnhands", "s.csv", "d", RunState.CLAIMED, kind="undo")
    )
    house.ledger.save_plan("undo-stock", Counts(), (), RunState.HELD)
    house.wait(1000)
    house.look()
    assert house.folders() == {first, second, last}
    assert other not in house.rows()


def test_what_is_not_part_of_a_base_stays(tmp_path: Path) -> None:
    """A run that ended well and was not merged yet tells what Norce has, whatever its age."""
    house = House(tmp_path)
    unmerged = house.ended(merged=False)
    refused = house.ended(state=RunState.INVALID, merged=False)
    newest = house.ended()
    house.wait(1000)
    house.look()
    assert house.rows() == {unmerged, newest}
    assert refused not in house.folders()


def test_a_look_an_hour(tmp_path: Path) -> None:
    """More often nobody looks."""
    house = House(tmp_path)
    house.ended(), house.ended()
    retaining = house.retaining()
    house.wait(100)
    retaining.apply(house.now)
    older = house.ended()
    house.ended()
    house.now += timedelta(minutes=59)
    retaining.apply(house.now + timedelta(days=0))
    assert older in house.folders()
    assert len(house.events) == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stock", "prices"]),
            st.sampled_from([RunState.COMPLETED, RunState.COMPLETED, RunState.INVALID, RunState.DISCARDED]),
            st.sampled_from(["file", "file", "full", "rerun", "undo"]),
            st.booleans(),
            st.integers(0, 60),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 100),
)
def test_full_rerun_and_comparison_always_find_their_file(
    tmp_path_factory: Any, runs: list[tuple[str, RunState, Any, bool, int]], days: int
) -> None:
    """After any history and any time the newest runs that the commands look for are there, with rows and folders."""
    house = House(tmp_path_factory.mktemp("state"))
    for feed, state, kind, file, pause in runs:
        house.ended(feed, state, kind, file=file)
        house.now += timedelta(days=pause)
    before = find_needed_runs(house.ledger, {"stock", "prices"})
    for _ in range(3):
        house.look(archive_days=days, ledger_days=days)
        house.wait(30)
    assert find_needed_runs(house.ledger, {"stock", "prices"}) == before
    assert before <= house.rows()
    assert before <= house.folders()
    assert house.folders() <= house.rows()
