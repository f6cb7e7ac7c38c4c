"""The ledger on real SQLite: every step durable, every wrong step refused."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from etl.errors import InternalError, StateError
from etl.model.runs import (
    AcceptedRange,
    Chunk,
    ChunkState,
    Counts,
    Job,
    Overlay,
    RecordError,
    Run,
    RunState,
    Submission,
)
from etl.state.ledger.facade import Ledger


def run(run_id: str, feed: str = "prices", **more: object) -> Run:
    return Run(run_id, feed, "Product/ImportOnhands", "p.csv", "d", RunState.CLAIMED, **more)  # type: ignore[arg-type]


def chunk(state: Path, run_id: str, number: int = 1, records: int = 4) -> Chunk:
    path = state / "plans" / f"{run_id}-{number}.json"
    return Chunk(run_id, number, 1, "Product/ImportOnhands", {"a": [1]}, path, "d", records, 8, origin_chunk=number)


def accepted(ledger: Ledger, run_id: str, *refused: RecordError, records: int = 4) -> None:
    """A run with one chunk that went all the way."""
    ledger.open_run(run(run_id))
    ledger.save_plan(run_id, Counts(rows=records), [chunk(ledger.state_folder, run_id, records=records)])
    sent = ledger.save_submission(ledger.mark_sending(ledger.chunks.list_by_run(run_id)[0]), Submission(77, 1, ("m",)))
    ledger.accept(ledger.save_poll(sent, Job(77, 1, False)), refused, 2)
    ledger.close_run(run_id, RunState.COMPLETED, Counts(rows=records, failed=len(refused)))


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Runs, counts, paths and chunks survive closing and opening; the folder may be moved."""
    state = tmp_path / "var"
    with Ledger.open(state, clock=lambda: 1000.0) as ledger:
        ledger.open_run(run("r1", claimed=state / "claimed" / "r1" / "p.csv"))
        ledger.save_plan("r1", Counts(rows=9, new=4), [chunk(state, "r1")])
        sent = ledger.mark_sending(ledger.chunks.list_by_run("r1")[0])
        assert (sent.attempts, sent.sent_at, sent.state) == (1, 1000.0, ChunkState.SENDING)
        before = ledger.save_submission(sent, Submission(5, 2, ("one", "two")))
    moved = state.rename(tmp_path / "moved")
    with Ledger.open(moved) as ledger:
        (found,) = ledger.runs.list_open()
        assert (found.counts, found.state) == (Counts(rows=9, new=4), RunState.SENDING)
        assert found.claimed == moved / "claimed" / "r1" / "p.csv"
        assert ledger.chunks.list_by_run("r1") == (replace(before, payload=moved / "plans" / "r1-1.json"),)
        assert ledger.jobs.find_own([5, 6]) == {5: 1000.0}


def test_the_folder_is_ours_alone(tmp_path: Path) -> None:
    """Folder 0700, database 0600, also its companions."""
    with Ledger.open(tmp_path / "var") as ledger:
        ledger.open_run(run("r1"))
        assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "var").iterdir()}
        assert modes == {0o600}


def test_accepted_is_derived_from_closed_chunks(tmp_path: Path) -> None:
    """Runs overlay each other in order, without refused keys, until they are merged into a base; what was taken in part
    is named."""
    with Ledger.open(tmp_path) as ledger:
        accepted(ledger, "r1")
        accepted(ledger, "r2", RecordError("K1", 3, "bad", 5), RecordError("K1", 2, "less", 5), records=2)
        ledger.open_run(run("r3"))
        ledger.open_run(run("other", feed="stock"))
        assert ledger.feeds.overlays("prices") == (
            Overlay("r1", (AcceptedRange(1, (0, 1, 2, 3), frozenset()),)),
            Overlay("r2", (AcceptedRange(1, (0, 1), frozenset({"K1"}), frozenset({"K1"})),)),
        )
        assert ledger.record_errors.list_by_run("r2") == (RecordError("K1", 3, "bad", 5),)
        assert ledger.feeds.overlay_of_run("r2") == ledger.feeds.overlays("prices")[1]
        assert ledger.feeds.overlay_of_run("r3") == Overlay("r3", ())
        assert ledger.feeds.generation("prices") is None
        ledger.replace_base("prices", "g1.parquet", ["r1"])
        assert ledger.feeds.generation("prices") == "g1.parquet"
        assert [overlay.run for overlay in ledger.feeds.overlays("prices")] == ["r2"]
        assert ledger.feeds.overlay_of_run("r1").ranges == (AcceptedRange(1, (0, 1, 2, 3), frozenset()),)
        with pytest.raises(InternalError):
            ledger.replace_base("prices", "g2.parquet", ["r2", "r3"])
        assert ledger.feeds.generation("prices") == "g1.parquet"


def test_refusals_name_the_file_that_brought_the_record(tmp_path: Path) -> None:
    """What earlier files brought comes first, then the rows of the run's own file in their order."""
    with Ledger.open(tmp_path) as ledger:
        own = [RecordError("K1", 3, "bad", 9), RecordError("K2", 3, "bad", 5)]
        old = [RecordError("K3", 3, "bad", 7, "b.csv", "r2"), RecordError("K4", 2, "bad", 8, "a.csv", "r1")]
        accepted(ledger, "r3", *own, *old)
        assert ledger.record_errors.list_by_run("r3") == (old[1], old[0], own[1], own[0])


def test_of_two_record_errors_alike_the_first_is_shown(tmp_path: Path) -> None:
    """A later one of a higher severity takes its place, a later one of the same severity does not."""
    with Ledger.open(tmp_path) as ledger:
        said = [(2, "less"), (3, "first"), (3, "second"), (2, "last")]
        accepted(ledger, "r1", *(RecordError("K1", severity, message, 5) for severity, message in said))
        assert ledger.record_errors.list_by_run("r1") == (RecordError("K1", 3, "first", 5),)


def test_split_chunks_keep_their_origin(tmp_path: Path) -> None:
    """Parts get the next numbers and are counted to the chunk they come from."""
    with Ledger.open(tmp_path) as ledger:
        ledger.open_run(run("r1"))
        ledger.save_plan("r1", Counts(), [chunk(tmp_path, "r1", 1), chunk(tmp_path, "r1", 2)])
        first = ledger.chunks.list_by_run("r1")[0]
        sent = ledger.save_submission(ledger.mark_sending(first), Submission(1))
        part = replace(first, records=3, first=0, excluded_indexes=(1,))
        (numbered,) = ledger.split(sent, (part,), [RecordError("B", 3, "bad")], job_status=4)
        assert (numbered.number, numbered.origin_chunk) == (3, 1)
        ledger.accept(ledger.save_submission(ledger.mark_sending(numbered), Submission(2)))
        assert ledger.feeds.overlays("prices") == (Overlay("r1", (AcceptedRange(1, (0, 2, 3), frozenset({"B"})),)),)
        assert [item.number for item in ledger.chunks.list_by_run("r1", unfinished=True)] == [2]


def test_wrong_steps_are_defects(tmp_path: Path) -> None:
    """A chunk is accepted once, from a job; a run is not closed over open chunks, nor planned twice after sending."""
    with Ledger.open(tmp_path) as ledger:
        ledger.open_run(run("r1"))
        ledger.save_plan("r1", Counts(), [chunk(tmp_path, "r1")])
        (planned,) = ledger.chunks.list_by_run("r1")
        with pytest.raises(InternalError):
            ledger.accept(planned)
        with pytest.raises(InternalError):
            ledger.close_run("r1", RunState.COMPLETED)
        sent = ledger.save_submission(ledger.mark_sending(planned), Submission(1))
        with pytest.raises(InternalError):
            ledger.save_plan("r1", Counts(), [])
        ledger.accept(sent)
        with pytest.raises(InternalError):
            ledger.accept(sent, [RecordError("K", 3, "late")])
        assert ledger.record_errors.list_by_run("r1") == ()
        ledger.close_run("r1", RunState.COMPLETED)
        ledger.close_run("r1", RunState.COMPLETED)


def test_held_runs_wait_for_a_yes(tmp_path: Path) -> None:
    """A held run cannot be sent; released it can."""
    with Ledger.open(tmp_path) as ledger:
        ledger.open_run(run("r1"))
        ledger.save_plan("r1", Counts(), [chunk(tmp_path, "r1")], RunState.HELD)
        with pytest.raises(InternalError):
            ledger.mark_sending(ledger.chunks.list_by_run("r1")[0])
        ledger.release_run("r1")
        ledger.mark_sending(ledger.chunks.list_by_run("r1")[0])


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    """By feed and by state, with a limit."""
    with Ledger.open(tmp_path) as ledger:
        accepted(ledger, "r1")
        ledger.open_run(run("r2"))
        ledger.open_run(run("s1", feed="stock"))
        assert [item.id for item in ledger.runs.list_recent()] == ["s1", "r2", "r1"]
        assert [item.id for item in ledger.runs.list_recent(limit=1, feed="prices")] == ["r2"]
        assert [item.id for item in ledger.runs.list_recent(20, None, RunState.COMPLETED)] == ["r1"]
        assert ledger.runs.find("r9") is None


def test_a_folder_belongs_to_one_catalogue(tmp_path: Path) -> None:
    """Another target is refused by name; reading without a target is not."""
    Ledger.open(tmp_path, target="https://a application 1").close()
    Ledger.open(tmp_path, target="https://a application 1").close()
    Ledger.open(tmp_path).close()
    with pytest.raises(StateError, match="belongs to https://a application 1"):
        Ledger.open(tmp_path, target="https://b application 1")


def test_a_damaged_ledger_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """Rubbish in place of the database gives a StateError, not a traceback."""
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateError) as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "state-corrupt"
    assert "etl state verify" in caught.value.hint


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    """A ledger of a later version is left alone."""
    with Ledger.open(tmp_path) as ledger, ledger.database.write() as db:
        db.execute("update meta set value='99' where key='schema'")
    with pytest.raises(StateError, match="layout 99"):
        Ledger.open(tmp_path)


def test_tokens_and_size_limits_are_kept(tmp_path: Path) -> None:
    """The newest token and the smallest refused size count."""
    with Ledger.open(tmp_path) as ledger:
        assert ledger.tokens.find("t") is None
        ledger.tokens.save("t", "one", 1.0, 2.0)
        ledger.tokens.save("t", "two", 3.0, 4.0)
        assert ledger.tokens.find("t") == ("two", 3.0, 4.0)
        assert ledger.meta.size_limit("op") is None
        for size in (1000, 400, 700):
            ledger.meta.learn_size_limit("op", size)
        assert ledger.meta.size_limit("op") == 399
