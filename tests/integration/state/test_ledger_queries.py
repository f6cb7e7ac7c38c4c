"""What the stores of a ledger find, to the last column and on both sides of every limit."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.errors import InternalError, StateError
from etl.model.runs import Chunk, ChunkState, Counts, RecordError, Run, RunState, Submission
from etl.state.ledger import repair_steps
from etl.state.ledger.facade import ImportedFeed, Ledger
from tests.integration.state.test_ledger_steps import NOW, STOCK, Clock, planned

PRICES = "Product/ImportSkuPriceLists"
DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Any:
    with Ledger.open(tmp_path, clock=clock) as opened:
        yield opened


def opened(ledger: Ledger, name: str, **values: Any) -> Run:
    """A claimed run with these values."""
    given = {"feed": "stock", "operation": STOCK, "file": "s.csv", "digest": "d", "state": RunState.CLAIMED} | values
    ledger.open_run(Run(name, **given))
    run = ledger.runs.find(name)
    assert run is not None
    return run


def test_a_run_comes_back_as_it_was_stored(ledger: Ledger) -> None:
    """Every column of an open run, and then of an ended one; paths are those of today's folder."""
    state = ledger.state_folder
    counts = Counts(*range(1, 13))
    run = Run(
        "r1-stock", "stock", STOCK, "erp/s.csv", "abc", RunState.CLAIMED, counts=counts, kind="rerun",
        content="changes", started=DAY, claimed=state / "claimed" / "r1" / "s.csv",
    )  # fmt: skip
    ledger.open_run(run)
    assert ledger.runs.find("r1-stock") == run
    ledger.save_plan(run.id, counts, ())
    ended = ledger.close_run(run.id, RunState.DISCARDED, error="no", archive=state / "archive" / "r1")
    expected = replace(
        run, state=RunState.DISCARDED, error="no", archive=state / "archive" / "r1",
        ended=datetime.fromtimestamp(NOW, UTC),
    )  # fmt: skip
    assert ended == expected
    assert ledger.runs.find("r1-stock") == expected
    assert ledger.runs.find("r2-stock") is None


def test_a_run_without_a_time_gets_that_of_its_opening(ledger: Ledger) -> None:
    """A file outside of the state folder keeps its whole path."""
    run = opened(ledger, "r1", claimed=Path("/elsewhere/s.csv"))
    assert run.started == datetime.fromtimestamp(NOW, UTC)
    assert run.claimed == Path("/elsewhere/s.csv")


def test_a_chunk_comes_back_as_it_was_stored(ledger: Ledger) -> None:
    """Its header, positions and texts; without a planned chunk of its own number it is its own origin."""
    opened(ledger, "r1")
    chunk = Chunk(
        "r1", 3, 2, STOCK, {"a": [1], "FullFile": False}, ledger.state_folder / "p.json", "digest", 5, 9,
        excluded_indexes=(1, 4), messages=("m",), warnings=("w",),
    )  # fmt: skip
    ledger.save_plan("r1", Counts(), [chunk])
    assert ledger.chunks.list_by_run("r1") == (replace(chunk, origin_chunk=3),)


def test_runs_are_found_by_their_ids(ledger: Ledger) -> None:
    """Of ids that are asked for, those of the ledger."""
    opened(ledger, "r1")
    opened(ledger, "r2")
    assert ledger.runs.find_existing(["r1", "r3"]) == {"r1"}
    assert ledger.runs.find_existing([]) == set()


def test_a_file_has_a_run_since_a_moment(ledger: Ledger) -> None:
    """Runs of the file or of its members count, from the moment on; other files and earlier runs do not."""
    opened(ledger, "r1", file="erp/day.zip/a.csv", started=DAY)
    opened(ledger, "r2", file="erp/day.zipped", started=DAY)
    moment = DAY.timestamp()
    found = {
        (name, late): ledger.runs.has_run_since(name, moment + late)
        for name in ("erp/day.zip", "erp/day.zip/a.csv", "erp/day", "day.zip")
        for late in (-1, 0, 1)
    }
    assert {key for key, is_there in found.items() if is_there} == {
        ("erp/day.zip", -1), ("erp/day.zip", 0), ("erp/day.zip/a.csv", -1), ("erp/day.zip/a.csv", 0),
    }  # fmt: skip


def test_a_file_is_shared_while_another_run_needs_it(ledger: Ledger) -> None:
    """Another open run of the same claimed file; not the run itself, an ended run, or a run of another file."""
    path = ledger.state_folder / "claimed" / "r" / "day.zip"
    one = opened(ledger, "r1", claimed=path)
    opened(ledger, "r2", claimed=path.with_name("other.zip"))
    assert not ledger.runs.shares_file(one)
    two = opened(ledger, "r3", claimed=path)
    assert ledger.runs.shares_file(one)
    assert ledger.runs.shares_file(two)
    ledger.close_run(two.id, RunState.INVALID)
    assert not ledger.runs.shares_file(one)


def ended(ledger: Ledger, name: str, start: datetime, **values: Any) -> None:
    opened(ledger, name, started=start, **values)
    ledger.close_run(name, RunState.INVALID)


def test_deletable_runs_are_old_by_the_runs_after_them(ledger: Ledger, clock: Clock) -> None:
    """The age of a run is the time between the runs after it; a gap of more than 31 days is none, 31 days are."""
    for name, day in (("r1", 0), ("r2", 31), ("r3", 62.5), ("r4", 63)):
        clock.now = (DAY + timedelta(days=day)).timestamp()
        ended(ledger, name, DAY + timedelta(days=day))
    now = DAY + timedelta(days=80)

    def old(days: int, limit: int = 10) -> list[str]:
        return [run.id for run in ledger.runs.list_deletable(now, days, limit)]

    assert old(48) == ["r1"]  # 31 days, no 31.5, half a day and 17 days: 48.5
    assert old(49) == []
    assert old(17) == ["r1", "r2", "r3"]
    assert old(16) == ["r1", "r2", "r3", "r4"]
    assert old(16, limit=2) == ["r1", "r2"]
    ledger.open_run(Run("r5", "stock", STOCK, "s.csv", "d", RunState.CLAIMED, started=DAY))  # a clock that went back
    assert old(16) == ["r1"]  # neither the step back nor the 80 days after it count


def test_processed_runs_are_deletable_once_compacted(ledger: Ledger, clock: Clock) -> None:
    """A run that tells what Norce has stays, however old; so does a merged run whose records wait."""
    clock.now = DAY.timestamp()
    for name in ("done", "merged", "later"):
        opened(ledger, name, started=DAY)
        ledger.close_run(name, RunState.MERGED if name == "merged" else RunState.COMPLETED)
    now = DAY + timedelta(days=30)
    assert ledger.runs.list_deletable(now, 1, 10) == []
    ledger.replace_base("stock", None, ["done"])
    assert [run.id for run in ledger.runs.list_deletable(now, 1, 10)] == ["done"]


def test_a_newer_request_is_found(ledger: Ledger, clock: Clock) -> None:
    """Of other runs: sent since, being sent, or still to be sent; of the own run: a later wave or a later piece."""
    one = ledger.mark_sending(planned(ledger)[0])
    assert ledger.chunks.find_newer(one, [STOCK]) is None
    other = planned(ledger, run="r2")[0]
    assert ledger.chunks.find_newer(one, [STOCK]) == other
    assert ledger.chunks.find_newer(one, [PRICES]) is None
    clock.now = NOW - 1
    sent = ledger.save_submission(ledger.mark_sending(other), Submission(7, 0, ()))
    assert ledger.chunks.find_newer(one, [STOCK]) is None
    clock.now = NOW
    again = ledger.save_submission(ledger.mark_sending(planned(ledger, run="r3")[0]), Submission(8, 0, ()))
    assert ledger.chunks.find_newer(one, [PRICES, STOCK]) == again
    assert ledger.chunks.find_by_job(7) == sent
    assert ledger.chunks.find_by_job(9) is None


def test_a_newer_request_of_the_own_run_is_of_a_later_wave(ledger: Ledger) -> None:
    """Pieces of one planned request follow each other by number; others of the wave have other keys."""
    opened(ledger, "r1")
    folder = ledger.state_folder
    chunks = [
        Chunk("r1", number, wave, STOCK, {}, folder / f"{number}.json", "d", 1, 1, origin_chunk=origin)
        for number, wave, origin in ((1, 1, 1), (2, 1, 2), (3, 1, 1))
    ]
    ledger.save_plan("r1", Counts(), chunks)
    first, second, piece = ledger.chunks.list_by_run("r1")
    assert ledger.chunks.find_newer(first, [STOCK]) == piece
    assert ledger.chunks.find_newer(second, [STOCK]) is None
    ledger.save_plan("r1", Counts(), [*chunks, replace(chunks[0], number=4, wave=2, origin_chunk=4)])
    assert ledger.chunks.find_newer(second, [STOCK]) == ledger.chunks.list_by_run("r1")[3]


def test_a_run_has_sent_requests_once_one_may_have_left(ledger: Ledger) -> None:
    """Planned requests have not; one that is being sent, or was and is ready again, has."""
    (chunk,) = planned(ledger)
    planned(ledger, run="r2")
    assert not ledger.chunks.has_sent_requests("r1")
    ledger.mark_sending(chunk)
    assert ledger.chunks.has_sent_requests("r1")
    assert not ledger.chunks.has_sent_requests("r2")
    ledger.hold_unknown("r1", "nobody knows")
    ledger.release_unknown("r1")
    assert ledger.chunks.list_by_run("r1")[0].state is ChunkState.READY
    assert ledger.chunks.has_sent_requests("r1")


def test_a_person_lets_a_request_without_an_outcome_be_sent_again(ledger: Ledger) -> None:
    """The run is held with the reason; released, its unknown request is ready and the others are as they were."""
    one, two, _ = planned(ledger, 3)
    waiting = ledger.note_absence(ledger.mark_sending(one), 4000.0, 6000.0)
    assert (waiting.absent_since, waiting.retry_after, waiting.state) == (4000.0, 6000.0, ChunkState.SENDING)
    submitted = ledger.save_submission(ledger.mark_sending(two), Submission(7, 0, ()))
    with pytest.raises(InternalError):
        ledger.release_unknown("r1")
    held = ledger.hold_unknown("r1", "what became of request 1 is unknown")
    assert (held.state, held.error, held.has_unknown_outcome) == (
        RunState.HELD, "what became of request 1 is unknown", True,
    )  # fmt: skip
    released = ledger.release_unknown("r1")
    assert (released.state, released.error) == (RunState.SENDING, None)
    ready, same, third = ledger.chunks.list_by_run("r1")
    assert (ready.state, ready.retry_after, ready.error) == (ChunkState.READY, None, None)
    assert same == submitted
    assert third.state is ChunkState.READY
    with pytest.raises(InternalError):
        ledger.note_absence(ready, 1.0, 2.0)


def test_the_revision_counts_changes_of_the_accepted_records(ledger: Ledger) -> None:
    """It begins at 0, grows by 1, and is that of one feed."""
    planned(ledger)
    with ledger.database.write() as db:
        ledger.feeds.bump_revision(db, "r1")
        ledger.feeds.bump_revision(db, "r1")
    assert (ledger.feeds.revision("stock"), ledger.feeds.revision("prices")) == (2, 0)


def test_repair_fails_requests(ledger: Ledger) -> None:
    """Those that are named, or all but split ones; each with the reason."""
    one, two, three = planned(ledger, 3)
    ledger.postpone(two, 9000.0, "busy")
    repair_steps.fail_chunks(ledger.database, "r1", [two.number], "damaged")
    states = [(chunk.state, chunk.error, chunk.retry_after) for chunk in ledger.chunks.list_by_run("r1")]
    assert states == [
        (ChunkState.READY, None, None),
        (ChunkState.FAILED, "damaged", None),
        (ChunkState.READY, None, None),
    ]
    repair_steps.fail_chunks(ledger.database, "r1", None, "lost")
    assert {chunk.error for chunk in ledger.chunks.list_by_run("r1")} == {"lost"}
    assert {one.state, three.state} == {ChunkState.READY}


def test_repair_forgets_the_accepted_records_of_one_feed(ledger: Ledger) -> None:
    """Its base and its ended runs count no more, plans are outdated; open runs and other feeds stay."""
    for feed in ("stock", "prices"):
        opened(ledger, f"done-{feed}", feed=feed)
        ledger.close_run(f"done-{feed}", RunState.COMPLETED)
        ledger.replace_base(feed, f"{feed}.parquet", [])
    opened(ledger, "open")
    repair_steps.drop_accepted(ledger.database, "stock")
    assert (ledger.feeds.generation("stock"), ledger.feeds.generation("prices")) == (None, "prices.parquet")
    assert (ledger.feeds.revision("stock"), ledger.feeds.revision("prices")) == (1, 0)
    assert [run for run, _ in ledger.runs.list_uncompacted("stock")] == ["open"]
    assert [run for run, _ in ledger.runs.list_uncompacted("prices")] == ["done-prices"]


def test_deleted_runs_leave_nothing(ledger: Ledger) -> None:
    """Their rows, requests and record errors go, in steps of a hundred; those of other runs stay."""
    names = [f"r{number}" for number in range(201)]
    for name in names:
        planned(ledger, run=name)
    ledger.accept(
        ledger.save_submission(ledger.mark_sending(ledger.chunks.list_by_run("r7")[0]), Submission(7, 0, ())),
        [RecordError("A1", 3, "no")],
    )
    repair_steps.delete_runs(ledger.database, names[:-1])
    assert [run.id for run in ledger.runs.list_recent(1000)] == ["r200"]
    assert len(ledger.chunks.list_by_run("r200")) == 1
    assert ledger.chunks.list_by_run("r7") == ()
    assert ledger.record_errors.list_by_run("r7") == ()
    assert repair_steps.count_orphan_rows(ledger.database) == {}


def test_the_smallest_size_that_was_too_large_counts(ledger: Ledger) -> None:
    """A limit is one byte less than that, by operation; a larger size that fails later says nothing new."""
    assert ledger.meta.size_limit(STOCK) is None
    for size, limit in ((1000, 999), (1000, 999), (1001, 999), (999, 998), (5000, 998)):
        ledger.meta.learn_size_limit(STOCK, size)
        assert ledger.meta.size_limit(STOCK) == limit
    assert ledger.meta.size_limit(PRICES) is None


def test_a_folder_belongs_to_the_catalogue_it_was_bound_to_first(ledger: Ledger) -> None:
    """Another process may have been faster: its catalogue counts."""
    assert ledger.meta.target() is None
    ledger.meta.bind_target("one")
    ledger.meta.bind_target("one")
    assert ledger.meta._set_target("two") == "one"
    with pytest.raises(StateError, match="belongs to one, the settings name two"):
        ledger.meta.bind_target("two")
    assert ledger.meta.target() == "one"


def test_feeds_of_another_folder_are_taken_in_together(ledger: Ledger) -> None:
    """Each gets its base and its newest run, completed and part of the base; the folder its catalogue."""
    run = Run("old", "stock", STOCK, "s.csv", "d", RunState.CLAIMED, counts=Counts(rows=5, new=4), started=DAY)
    ledger.import_feeds("shop", [ImportedFeed("stock", "a.parquet", run), ImportedFeed("prices", "b.parquet", None)])
    assert ledger.meta.target() == "shop"
    assert (ledger.feeds.generation("stock"), ledger.feeds.generation("prices")) == ("a.parquet", "b.parquet")
    assert ledger.feeds.list_names() == ["prices", "stock"]
    imported = ledger.runs.find("old")
    assert imported == replace(run, state=RunState.COMPLETED, ended=datetime.fromtimestamp(NOW, UTC))
    assert ledger.runs.list_uncompacted("stock") == ()
    ledger.import_feeds(None, [])
    ledger.import_feeds("other", [])
    assert ledger.meta.target() == "shop"


def test_without_a_catalogue_an_import_binds_nothing(ledger: Ledger) -> None:
    """An export of the sandbox."""
    ledger.import_feeds(None, [ImportedFeed("stock", "a.parquet", None)])
    assert ledger.meta.target() is None


def test_feeds_are_taken_in_all_or_none(ledger: Ledger) -> None:
    """The second run is there already: the first feed does not count either."""
    run = opened(ledger, "old")
    with pytest.raises(sqlite3.IntegrityError):
        ledger.import_feeds("shop", [ImportedFeed("a", "a.parquet", None), ImportedFeed("stock", "b.parquet", run)])
    assert (ledger.meta.target(), ledger.feeds.generation("a")) == (None, None)


def test_a_claimed_run_can_be_of_another_import(ledger: Ledger) -> None:
    """Until it is planned; nothing else of it changes."""
    run = opened(ledger, "r1")
    assert ledger.change_operation("r1", PRICES) == replace(run, operation=PRICES)
    assert ledger.runs.find("r1") == replace(run, operation=PRICES)
    ledger.save_plan("r1", Counts(), ())
    with pytest.raises(InternalError):
        ledger.change_operation("r1", STOCK)
