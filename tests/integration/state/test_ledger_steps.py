"""What each step of the ledger leaves behind, to the last column, and from which states it may be taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl.errors import InternalError
from etl.model.runs import Chunk, ChunkState, Counts, Job, RecordError, Run, RunState, Submission
from etl.state.ledger.facade import Ledger

NOW = 5000.0
STOCK = "Product/ImportOnhands"


class Clock:
    """Told by the test."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def planned(ledger: Ledger, count: int = 1, run: str = "r1", **more: Any) -> list[Chunk]:
    """A run with planned chunks."""
    ledger.open_run(Run(run, "stock", STOCK, "s.csv", "d", RunState.CLAIMED))
    plan = [
        Chunk(run, n, 1, STOCK, {"a": [1]}, ledger.state_folder / f"{run}-{n}.json", "d", 4, 8, origin_chunk=n, **more)
        for n in range(1, count + 1)
    ]
    ledger.save_plan(run, Counts(rows=4), plan)
    return list(ledger.chunks.list_by_run(run))


def kept(ledger: Ledger, number: int = 1, run: str = "r1") -> Chunk:
    return next(chunk for chunk in ledger.chunks.list_by_run(run) if chunk.number == number)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Any:
    with Ledger.open(tmp_path, clock=clock) as opened:
        yield opened


def test_sending_marks_time_and_attempt_and_forgets_what_was_waited_for(ledger: Ledger) -> None:
    """The run is on its way with its first chunk; a second attempt counts on."""
    (chunk,) = planned(ledger)
    waiting = ledger.postpone(chunk, 6000.0, "busy")
    sent = ledger.mark_sending(waiting)
    assert sent == kept(ledger)
    assert sent == replace(chunk, state=ChunkState.SENDING, attempts=1, sent_at=NOW)
    assert ledger.runs.list_open()[0].state is RunState.SENDING
    assert ledger.mark_sending(sent).attempts == 2


def test_unsent_may_go_again_and_says_why_and_how_it_was_resolved(ledger: Ledger) -> None:
    """Planned again, from a time on; how an unknown outcome was resolved stays known through later steps."""
    (chunk,) = planned(ledger)
    again = ledger.requeue(ledger.mark_sending(chunk), 5100.0, "429", resolution="resubmitted")
    assert again == kept(ledger)
    assert (again.state, again.retry_after, again.error, again.resolution) == (
        ChunkState.READY,
        5100.0,
        "429",
        "resubmitted",
    )
    assert ledger.requeue(again) == kept(ledger)
    assert (kept(ledger).retry_after, kept(ledger).error, kept(ledger).resolution) == (None, None, "resubmitted")
    assert ledger.save_submission(ledger.mark_sending(kept(ledger)), Submission(3)).resolution == "resubmitted"


def test_submitted_keeps_the_answer_and_begins_to_ask_anew(ledger: Ledger) -> None:
    """Job, validation and messages are there; polls start from nought."""
    (chunk,) = planned(ledger, polls=7, polled_at=1.0)
    sent = ledger.mark_sending(chunk)
    taken = ledger.save_submission(sent, Submission(42, 3, ("one", "two")), resolution="adopted")
    assert taken == kept(ledger)
    assert taken == replace(
        sent, state=ChunkState.SUBMITTED, job_id=42, validation_failures=3, messages=("one", "two"), polls=0,
        polled_at=None, resolution="adopted", error=None, retry_after=None,
    )  # fmt: skip


def test_polled_counts_and_notes_the_time(ledger: Ledger, clock: Clock) -> None:
    """Each look counts, with its time and what the job said."""
    (chunk,) = planned(ledger)
    taken = ledger.save_submission(ledger.mark_sending(chunk), Submission(42))
    late = ledger.postpone(taken, 5500.0, "no answer")
    clock.now = 5060.0
    looked = ledger.save_poll(late, Job(42, 6, False, total=3, failed=1))
    assert looked == kept(ledger)
    expected = replace(taken, polls=1, polled_at=5060.0, job_status=6, job_counts="3 1 None None")
    assert looked == replace(expected, retry_after=None, error=None)
    assert ledger.save_poll(looked, Job(42, 1, False)).polls == 2


def test_accept_closes_the_chunk_with_its_refusals(ledger: Ledger) -> None:
    """The status of the job stays, given or known before; what was in the way is forgotten."""
    one, two = planned(ledger, 2)
    first = ledger.postpone(ledger.save_submission(ledger.mark_sending(one), Submission(1)), 9.0, "late")
    done = ledger.accept(first, [RecordError("K1", 3, "no", 7)], 2)
    assert done == kept(ledger)
    assert (done.state, done.job_status, done.error, done.retry_after) == (ChunkState.ACCEPTED, 2, None, None)
    looked = ledger.save_poll(ledger.save_submission(ledger.mark_sending(two), Submission(2)), Job(2, 5, False))
    assert ledger.accept(looked).job_status == 5
    assert ledger.record_errors.list_by_run("r1") == (RecordError("K1", 3, "no", 7),)


def test_fail_closes_the_chunk_and_says_why(ledger: Ledger) -> None:
    """From any state but an ended one; its refusals count, its records do not."""
    one, two = planned(ledger, 2)
    failed = ledger.fail(ledger.postpone(one, 9.0), "HTTP 400", [RecordError("K2", 3, "bad", 4)])
    assert failed == kept(ledger)
    assert (failed.state, failed.error, failed.retry_after) == (ChunkState.FAILED, "HTTP 400", None)
    looked = ledger.save_poll(ledger.save_submission(ledger.mark_sending(two), Submission(2)), Job(2, 3, False))
    assert ledger.fail(looked, "twice").job_status == 3
    assert ledger.feeds.overlays("stock") == ()
    assert [refusal.key for refusal in ledger.record_errors.list_by_run("r1")] == ["K2"]
    with pytest.raises(InternalError, match="chunk 1 of run r1 cannot become failed"):
        ledger.fail(failed, "again")


def test_fail_keeps_the_status_it_is_given(ledger: Ledger) -> None:
    """The newest word about the job counts."""
    (chunk,) = planned(ledger)
    looked = ledger.save_poll(ledger.save_submission(ledger.mark_sending(chunk), Submission(2)), Job(2, 1, False))
    assert ledger.fail(looked, "no", job_status=4).job_status == 4
    assert kept(ledger).job_status == 4


def test_split_closes_the_chunk_and_numbers_its_parts(ledger: Ledger) -> None:
    """Parts follow the highest number of the run; the chunk keeps reason and status."""
    one, two = planned(ledger, 2)
    taken = ledger.postpone(ledger.save_submission(ledger.mark_sending(one), Submission(1)), 9.0)
    parts = ledger.split(taken, (replace(one, records=2), replace(one, records=1)), [RecordError("K", 3, "m")], error="413", job_status=4)  # fmt: skip # noqa: E501
    assert [part.number for part in parts] == [3, 4]
    assert [chunk.number for chunk in ledger.chunks.list_by_run("r1")] == [1, 2, 3, 4]
    closed = kept(ledger)
    assert (closed.state, closed.error, closed.job_status, closed.retry_after) == (ChunkState.SPLIT, "413", 4, None)
    assert [refusal.key for refusal in ledger.record_errors.list_by_run("r1")] == ["K"]
    looked = ledger.save_poll(ledger.save_submission(ledger.mark_sending(two), Submission(2)), Job(2, 5, False))
    assert ledger.split(looked, ()) == ()
    assert kept(ledger, 2).job_status == 5


def test_postpone_changes_nothing_but_time_and_reason(ledger: Ledger) -> None:
    """Not for chunks that have ended."""
    (chunk,) = planned(ledger)
    assert ledger.postpone(chunk, 7000.0, "busy") == replace(chunk, retry_after=7000.0, error="busy") == kept(ledger)
    ended = ledger.fail(kept(ledger), "no")
    with pytest.raises(InternalError):
        ledger.postpone(ended, 1.0)


@pytest.mark.parametrize(
    ("step", "good"),
    [
        (lambda ledger, chunk: ledger.mark_sending(chunk), {"ready", "sending"}),
        (lambda ledger, chunk: ledger.requeue(chunk), {"ready", "sending"}),
        (lambda ledger, chunk: ledger.save_submission(chunk, Submission(1)), {"sending"}),
        (lambda ledger, chunk: ledger.save_poll(chunk, Job(1, 1, False)), {"submitted"}),
        (lambda ledger, chunk: ledger.accept(chunk), {"submitted"}),
        (lambda ledger, chunk: ledger.split(chunk, ()), {"ready", "sending", "submitted"}),
        (lambda ledger, chunk: ledger.fail(chunk, "no"), {"ready", "sending", "submitted"}),
        (lambda ledger, chunk: ledger.postpone(chunk, 1.0), {"ready", "sending", "submitted"}),
    ],
)
@pytest.mark.parametrize("state", ["ready", "sending", "submitted", "accepted", "failed", "split"])
def test_steps_are_taken_from_their_states_only(
    ledger: Ledger, state: str, step: Callable[[Ledger, Chunk], object], good: set[str]
) -> None:
    """A step from anywhere else is a defect, and leaves everything as it was."""
    (chunk,) = planned(ledger)
    if state in ("sending", "submitted", "accepted"):
        chunk = ledger.mark_sending(chunk)
    if state in ("submitted", "accepted"):
        chunk = ledger.save_submission(chunk, Submission(1))
    if state == "accepted":
        chunk = ledger.accept(chunk)
    if state == "failed":
        chunk = ledger.fail(chunk, "no")
    if state == "split":
        ledger.split(chunk, ())
    before = kept(ledger)
    if state in good:
        step(ledger, before)
        return
    with pytest.raises(InternalError):
        step(ledger, before)
    assert kept(ledger) == before


def test_close_writes_what_the_run_came_to(ledger: Ledger, clock: Clock) -> None:
    """State, end, counts, error and archive; a second time is fine, another end is not."""
    (chunk,) = planned(ledger)
    with pytest.raises(InternalError, match="unfinished chunks"):
        ledger.close_run("r1", RunState.COMPLETED)
    ledger.accept(ledger.save_submission(ledger.mark_sending(chunk), Submission(1)))
    clock.now = 7200.0
    folder = ledger.state_folder / "archive" / "r1"
    ledger.close_run("r1", RunState.COMPLETED, Counts(rows=4, new=3), "a sentence", folder)
    found = ledger.runs.find("r1")
    assert found is not None
    assert (found.state, found.counts, found.error, found.archive) == (
        RunState.COMPLETED,
        Counts(rows=4, new=3),
        "a sentence",
        folder,
    )
    assert found.ended == datetime.fromtimestamp(7200.0, UTC)
    assert found.started == datetime.fromtimestamp(NOW, UTC)
    ledger.close_run("r1", RunState.COMPLETED)
    again = ledger.runs.find("r1")
    assert again is not None
    assert again.counts == Counts(rows=4, new=3)
    assert ledger.runs.list_open() == ()
    with pytest.raises(InternalError, match="run r1 cannot become invalid from its current state"):
        ledger.close_run("r1", RunState.INVALID)


def test_a_run_that_is_not_done_closes_over_its_chunks(ledger: Ledger) -> None:
    """Discarded, its planned chunks are of no more concern."""
    (chunk,) = planned(ledger)
    assert ledger.save_plan("r1", Counts(), [chunk], RunState.HELD).state is RunState.HELD
    assert ledger.runs.list_open()[0].state is RunState.HELD
    with pytest.raises(InternalError):
        ledger.mark_sending(kept(ledger))
    ledger.close_run("r1", RunState.DISCARDED)
    assert ledger.runs.list_recent(20, None, RunState.DISCARDED)[0].id == "r1"


def test_only_what_is_not_sent_is_held_and_only_what_is_held_is_released(ledger: Ledger) -> None:
    """A run that sends cannot be planned anew as held; a run that is not held is not released."""
    (chunk,) = planned(ledger)
    with pytest.raises(InternalError):
        ledger.release_run("r1")
    ledger.save_plan("r1", Counts(), [chunk], RunState.HELD)
    ledger.save_plan("r1", Counts(), [chunk], RunState.HELD)
    assert ledger.release_run("r1").state is RunState.PLANNED
    ledger.mark_sending(chunk)
    with pytest.raises(InternalError):
        ledger.save_plan("r1", Counts(), [chunk], RunState.HELD)


def test_a_plan_that_was_not_sent_is_replaced(ledger: Ledger) -> None:
    """Planned again, the old chunks are gone."""
    planned(ledger, 3)
    (first, *_) = ledger.chunks.list_by_run("r1")
    ledger.save_plan("r1", Counts(rows=9), [first], RunState.HELD)
    assert [chunk.number for chunk in ledger.chunks.list_by_run("r1")] == [1]
    assert (ledger.runs.list_open()[0].counts.rows, ledger.runs.list_open()[0].state) == (9, RunState.HELD)
    ledger.save_plan("r1", Counts(rows=8), [])
    assert ledger.chunks.list_by_run("r1") == ()


def test_refusals_come_by_row_and_the_worst_of_a_key_counts(ledger: Ledger) -> None:
    """In the order of the file; of several about one record the one with the highest severity."""
    (chunk,) = planned(ledger)
    said = [
        RecordError("B", 2, "warning", 9), RecordError("B", 3, "error", 9), RecordError("B", 2, "another", 9),
        RecordError("C", 3, "no row"), RecordError("A", 3, "first", 2), RecordError("D", 3, "same row", 2),
    ]  # fmt: skip
    ledger.accept(ledger.save_submission(ledger.mark_sending(chunk), Submission(1)), said)
    assert [(one.key, one.message) for one in ledger.record_errors.list_by_run("r1")] == [
        ("C", "no row"),
        ("A", "first"),
        ("D", "same row"),
        ("B", "error"),
    ]
    assert ledger.record_errors.list_by_run("r2") == ()


def test_rivals_are_requests_of_the_same_size_whose_answers_are_out(ledger: Ledger, clock: Clock) -> None:
    """Another chunk of the same size, sent within the hour, whether its outcome is unknown or resolved."""
    one, two = planned(ledger, 2)
    doubt = ledger.mark_sending(one)
    assert not ledger.chunks.has_ambiguous_sibling(doubt)
    rival = ledger.mark_sending(two)
    assert ledger.chunks.has_ambiguous_sibling(doubt)
    assert not ledger.chunks.has_ambiguous_sibling(replace(doubt, records=5))
    known = ledger.save_submission(rival, Submission(9))
    assert not ledger.chunks.has_ambiguous_sibling(doubt)
    (other,) = planned(ledger, run="r2")
    ledger.save_submission(ledger.mark_sending(other), Submission(10), resolution="adopted")
    assert ledger.chunks.has_ambiguous_sibling(doubt)
    assert known.resolution is None


def test_rivals_of_more_than_an_hour_ago_do_not_matter(ledger: Ledger, clock: Clock) -> None:
    """What was lost an hour before cannot be the job that is looked for; a second less can."""
    one, two = planned(ledger, 2)
    ledger.mark_sending(two)
    clock.now = NOW + 3600.0
    doubt = ledger.mark_sending(one)
    assert ledger.chunks.has_ambiguous_sibling(doubt)
    assert not ledger.chunks.has_ambiguous_sibling(replace(doubt, sent_at=NOW + 3601.0))


def test_jobs_known_are_ours_with_the_time_they_were_sent(ledger: Ledger, clock: Clock) -> None:
    """Of those asked for, the ones that a chunk has."""
    one, two = planned(ledger, 2)
    ledger.save_submission(ledger.mark_sending(one), Submission(11))
    clock.now = NOW + 5
    ledger.save_submission(ledger.mark_sending(two), Submission(12))
    assert ledger.jobs.find_own([11, 12, 13]) == {11: NOW, 12: NOW + 5}
    assert ledger.jobs.find_own([13]) == {}


def test_compacted_runs_are_part_of_the_base_of_their_feed(ledger: Ledger) -> None:
    """Only runs of that feed, only once they have ended; a later base takes the place of the first."""
    for run in ("r1", "r2"):
        (chunk,) = planned(ledger, run=run)
        ledger.accept(ledger.save_submission(ledger.mark_sending(chunk), Submission(1)))
        ledger.close_run(run, RunState.COMPLETED)
    ledger.replace_base("prices", "other.parquet", ["r1"])
    assert [overlay.run for overlay in ledger.feeds.overlays("stock")] == ["r1", "r2"]
    assert ledger.runs.list_uncompacted("stock") == (("r1", RunState.COMPLETED), ("r2", RunState.COMPLETED))
    ledger.replace_base("stock", "one.parquet", ["r1"])
    assert (ledger.feeds.generation("stock"), ledger.feeds.generation("prices")) == ("one.parquet", "other.parquet")
    assert ledger.runs.list_uncompacted("stock") == (("r2", RunState.COMPLETED),)
    ledger.replace_base("stock", "two.parquet", ["r2"])
    assert (ledger.feeds.generation("stock"), ledger.feeds.overlays("stock")) == ("two.parquet", ())
    planned(ledger, run="r3")
    with pytest.raises(InternalError, match="run r3 was to be merged before it ended"):
        ledger.replace_base("stock", "three.parquet", ["r3"])
    assert ledger.feeds.generation("stock") == "two.parquet"
    ledger.replace_base("stock", None, ["r1", "r2"])
    assert ledger.feeds.generation("stock") is None


def test_runs_are_found_one_by_one_and_the_newest_first(ledger: Ledger) -> None:
    """By id, by feed and state, at most so many."""
    for number in range(25):
        planned(ledger, run=f"r{number:02}")
    assert [run.id for run in ledger.runs.list_recent()] == [f"r{number:02}" for number in range(24, 4, -1)]
    assert [run.id for run in ledger.runs.list_open()][:2] == ["r00", "r01"]
    found = ledger.runs.find("r07")
    assert found is not None
    assert (found.id, found.claimed, found.archive) == ("r07", None, None)
    assert ledger.runs.find("r7") is None
    assert ledger.chunks.list_by_run("r99") == ()
