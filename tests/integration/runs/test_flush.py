"""When a change file is merged into a newer one, and when a flush run sends what was merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.plan.model import Plan
from etl.runs import flush
from etl.state.ledger.facade import Ledger
from tests.support.builders import PRICES, mapping, nothing, plan_file, table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEED = mapping(PRICES.replace("content: full", "content: changes"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, clock=NOW.timestamp) as ledger:
        yield ledger


def opened(ledger: Ledger, name: str, kind: str = "file", ended: RunState | None = None) -> Run:
    run = Run(name, "prices", FEED.operation.id, f"{name}.csv", "", RunState.CLAIMED, kind=kind)  # type: ignore[arg-type]
    ledger.open_run(run)
    if ended is not None:
        ledger.close_run(name, ended)
    return run


def made(rows: str = "A,1,\n", feed: Mapping = FEED) -> Plan:
    return plan_file(table(f"part,price,cost\n{rows}"), feed, nothing())


def test_a_file_of_changes_is_left_to_a_newer_one(ledger: Ledger) -> None:
    """One with something to send, which nobody has to look at."""
    run = opened(ledger, "r1")
    assert flush.may_merge(ledger, run, made(), NOW)
    assert not flush.may_merge(ledger, run, made(""), NOW)
    assert not flush.may_merge(ledger, run, made(feed=mapping(PRICES)), NOW)
    assert not flush.may_merge(ledger, replace(run, kind="rerun"), made(), NOW)
    assert not flush.may_merge(ledger, run, replace(made(), undoes="r0"), NOW)


def test_records_that_several_identifiers_may_name_are_not_merged(ledger: Ledger) -> None:
    """A newer file may name the same customer by another one."""
    feed = mapping(
        """
        feed: customers
        operation: Customer/ImportCompanies
        source: {files: "*.csv", content: changes}
        record: {Code: part, Name: cost, ApplicationKey: {value: 5f0c41d6-8d3c-4a51-9a55-0c2f6de01a77}}
        """
    )
    assert not flush.may_merge(ledger, opened(ledger, "r1"), made("A,,x\n", feed), NOW)


def test_the_files_that_are_merged_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """By files, by time since the first one, also when the clock was set back, and by records."""
    opened(ledger, "r0", ended=RunState.MERGED)
    run = opened(ledger, "r1")
    for seconds, may in ((flush.MAX_MERGE_SECONDS - 1, True), (flush.MAX_MERGE_SECONDS, False), (-1, False)):
        assert flush.may_merge(ledger, run, made(), NOW + timedelta(seconds=seconds)) is may
    monkeypatch.setattr(flush, "MAX_MERGED_RECORDS", 1)
    assert not flush.may_merge(ledger, run, made("A,1,\nB,1,\n"), NOW)
    assert flush.may_merge(ledger, run, made(), NOW)
    monkeypatch.setattr(flush, "MAX_MERGED_FILES", 1)
    assert not flush.may_merge(ledger, run, made(), NOW)
    opened(ledger, "r2", ended=RunState.COMPLETED)
    assert flush.may_merge(ledger, run, made(), NOW)


def test_what_was_merged_goes_by_itself_when_no_file_takes_it_along(ledger: Ledger) -> None:
    """Not while a run under way does; not of a feed whose files hold everything now."""
    assert not flush.needs_flush(ledger, FEED)
    opened(ledger, "r1", ended=RunState.MERGED)
    assert flush.needs_flush(ledger, FEED)
    assert not flush.needs_flush(ledger, mapping(PRICES))
    assert flush.needs_flush(ledger, FEED, only_if_idle=True)
    newer = opened(ledger, "r2")
    assert flush.needs_flush(ledger, FEED)
    assert not flush.needs_flush(ledger, FEED, only_if_idle=True)
    ledger.save_plan(newer.id, newer.counts, ())
    assert not flush.needs_flush(ledger, FEED)
    ledger.close_run(newer.id, RunState.DISCARDED)
    own = flush.open_flush_run(ledger, FEED)
    assert (own.kind, own.file, own.claimed) == ("flush", "r1.csv", None)
    assert not flush.needs_flush(ledger, FEED)
    ledger.close_run(own.id, RunState.COMPLETED)
    assert not flush.needs_flush(ledger, FEED)
    assert [run.id for run in ledger.runs.list_merged_into(own.id)] == ["r1"]


@pytest.mark.parametrize("ended", [RunState.INVALID, RunState.DISCARDED])
def test_its_own_run_is_not_tried_again_and_again(ledger: Ledger, ended: RunState) -> None:
    """Until another file has been merged as well."""
    opened(ledger, "r1", ended=RunState.MERGED)
    ledger.close_run(flush.open_flush_run(ledger, FEED).id, ended)
    opened(ledger, "r2", ended=RunState.INVALID)
    assert not flush.needs_flush(ledger, FEED)
    opened(ledger, "r3", ended=RunState.MERGED)
    assert flush.needs_flush(ledger, FEED)
    assert [run.id for run in ledger.runs.list_awaiting_merge("prices")] == ["r1", "r3"]
