"""A run against a real sandbox over real HTTP: the good days and the bad ones."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from etl.apply import actions
from etl.errors import ConnectHttpError, ConnectUnreachableError
from etl.model.runs import ChunkState, RunState
from etl.sandbox import Fault, SandboxSettings
from tests.support.stage import STOCK, parts, stage


def test_all_chunks_are_sent_and_accepted(tmp_path: Path) -> None:
    """Every chunk of a run leaves once, and what the sandbox has is what the ledger counts as accepted."""
    with stage(tmp_path) as on:
        on.plan(parts(1, 10), parts(11, 10), parts(21, 5))
        assert on.go()
        assert on.states() == ["accepted"] * 3
        assert on.stored() == on.accepted() == set(parts(1, 25))
        assert on.posts() == 3
        on.ledger.close_run("r1", RunState.COMPLETED)
        assert on.ledger.runs.list_open() == ()


def test_rows_refused_by_name_stay_unaccepted(tmp_path: Path) -> None:
    """Rows that a log names are refused with source row and message; the others of the chunk are accepted."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="refuse", path=STOCK, keys=("P-0003", "P-0008"), message="unknown unit"))
        on.plan(parts(1, 10))
        assert on.go()
        refused = on.ledger.record_errors.list_by_run("r1")
        assert [(item.key, item.severity, item.source_row) for item in refused] == [("P-0003", 3, 4), ("P-0008", 3, 9)]
        assert "unknown unit" in refused[0].message
        assert on.accepted() == on.stored() == set(parts(1, 10)) - {"P-0003", "P-0008"}
        assert on.posts() == 1


def test_unnamed_bad_row_is_found_by_halving(tmp_path: Path) -> None:
    """When the log does not say which row, halves are sent until the bad one stands alone."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="refuse", path=STOCK, keys=("P-0006",), name_row=False, times=0))
        on.plan(parts(1, 8))
        assert on.go()
        assert [item.key for item in on.ledger.record_errors.list_by_run("r1")] == ["P-0006"]
        assert on.accepted() == set(parts(1, 8)) - {"P-0006"} == on.stored()


def test_the_search_for_unnamed_rows_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the set number of halvings the rest fails, unaccepted, instead of eating the budget."""
    monkeypatch.setattr(actions, "MAX_HALVINGS", 1)
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="refuse", path=STOCK, keys=("P-0006",), name_row=False, times=0))
        on.plan(parts(1, 8))
        assert on.go()
        assert on.states() == ["split", "accepted", "failed"]
        assert on.accepted() == set(parts(1, 4))


def test_validation_failure_sends_the_rest_again(tmp_path: Path) -> None:
    """After status 4 nothing was imported: the named row is left out and the others go again."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="invalid", path=STOCK, keys=("P-0002",), times=0))
        on.plan(parts(1, 6))
        assert on.go()
        assert [item.key for item in on.ledger.record_errors.list_by_run("r1")] == ["P-0002"]
        assert on.accepted() == on.stored() == set(parts(1, 6)) - {"P-0002"}
        assert on.states() == ["split", "accepted"]


def test_failed_job_goes_once_more(tmp_path: Path) -> None:
    """A job that fails as a whole is repeated once."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_failed", path=STOCK))
        on.plan(parts(1, 6))
        assert on.go()
        assert on.states() == ["split", "accepted"]
        assert on.accepted() == set(parts(1, 6))


def test_job_failing_twice_fails_the_chunk(tmp_path: Path) -> None:
    """After the second failure the chunk is failed, nothing of it accepted, and the run still ends."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_failed", path=STOCK, times=0))
        on.plan(parts(1, 6), parts(7, 2))
        assert on.go()
        assert on.accepted() == set()
        assert set(on.states()) == {"split", "failed"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="rate_limit", path=STOCK),
        Fault(kind="rate_limit", path=STOCK, retry_after=0.2),
        Fault(kind="rate_limit", path=STOCK, retry_after=1, retry_after_date=True),
        Fault(kind="rate_limit", path="Job/Get", retry_after=0.1),
        Fault(kind="rate_limit", path="connect/token", retry_after=0.1),
        Fault(kind="unauthorized", path=STOCK),
        Fault(kind="unauthorized", path="Job/Get"),
        Fault(kind="status", status=500, path=STOCK),
        Fault(kind="status", status=502, path=STOCK, times=2),
        Fault(kind="status", status=503, path=STOCK),
        Fault(kind="status", status=503, path="Job/", times=2),
        Fault(kind="status", status=408, path=STOCK),
        Fault(kind="status", status=500, path="connect/token"),
        Fault(kind="reset_before", path=STOCK),
        Fault(kind="reset_after", path=STOCK),
        Fault(kind="reset_before", path="Job/Get"),
        Fault(kind="reset_before", path="Job/GetLog"),
        Fault(kind="hang", path=STOCK),
        Fault(kind="hang", path=STOCK, accept=True),
        Fault(kind="hang", path="Job/Get"),
        Fault(kind="slow", path=STOCK, delay=0.05),
        Fault(kind="html", path=STOCK),
        Fault(kind="html", path="Job/Get"),
        Fault(kind="html", path="Job/GetLog"),
        Fault(kind="truncated", path=STOCK),
        Fault(kind="truncated", path="Job/Get"),
        Fault(kind="truncated", path="Job/GetLog"),
        Fault(kind="job_unknown", path=STOCK),
        Fault(kind="job_slow", path=STOCK, delay=0.3),
        Fault(kind="empty_log", path=STOCK),
        Fault(kind="shuffled_log", path=STOCK),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status if fault.kind == 'status' else ''}-{fault.path.split('/')[-1]}",
)
@pytest.mark.slow
def test_a_bad_day_changes_nothing_in_the_end(tmp_path: Path, fault: Fault) -> None:
    """Whatever goes wrong in between, all records end as accepted and stored."""
    with stage(tmp_path, per_seconds=0.6) as on:
        on.sandbox.inject(dataclasses.replace(fault))
        on.plan(parts(1, 6), parts(7, 6))
        assert on.go(patience=30)
        assert on.accepted() == on.stored() == set(parts(1, 12))


def test_a_lost_response_is_resolved_by_the_job_list(tmp_path: Path) -> None:
    """A job whose answer was lost is found in the list and adopted: nothing is sent twice."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="reset_after", path=STOCK))
        on.plan(parts(1, 6))
        assert on.go()
        assert on.posts() == 1
        assert on.ledger.chunks.list_by_run("r1")[0].resolution == "adopted"


def test_another_chunks_job_is_never_adopted(tmp_path: Path) -> None:
    """While two requests of one size have an unknown outcome, a job counts only for the records that it holds."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="reset_after", path=STOCK))
        on.sandbox.inject(Fault(kind="reset_before", path=STOCK))
        on.plan(parts(1, 6), parts(7, 6))
        assert on.go()
        holds = {seen.job: seen.digest for seen in on.sandbox.requests() if seen.job is not None}
        settled = on.ledger.chunks.list_by_run("r1")
        assert all(chunk.resolution in ("adopted", "resubmitted") for chunk in settled)
        assert all(chunk.job_id is not None and holds[chunk.job_id] == chunk.digest for chunk in settled)
        assert on.accepted() == on.stored() == set(parts(1, 12))


def test_request_that_never_arrived_is_sent_again(tmp_path: Path) -> None:
    """Without a fitting job the same payload goes again, and that is recorded."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="reset_before", path=STOCK))
        on.plan(parts(1, 6))
        assert on.go()
        chunk = on.ledger.chunks.list_by_run("r1")[0]
        assert (chunk.resolution, chunk.attempts, chunk.state) == ("resubmitted", 2, ChunkState.ACCEPTED)


def test_too_large_is_cut_and_remembered(tmp_path: Path) -> None:
    """413 halves the chunk and teaches the size limit of the operation."""
    with stage(tmp_path, SandboxSettings(requests=1000, max_items=3)) as on:
        on.plan(parts(1, 10))
        assert on.go()
        assert on.accepted() == on.stored() == set(parts(1, 10))
        limit = on.ledger.meta.size_limit(STOCK)
        assert limit is not None
        assert limit < 1000


def test_wrong_secret_stops_before_anything_is_sent(tmp_path: Path) -> None:
    """A refused client is the operator's matter: the run stays open as planned, and goes on with the right secret."""
    with stage(tmp_path, secret="wrong") as on:
        on.plan(parts(1, 4))
        with pytest.raises(ConnectHttpError, match="token endpoint denied"):
            on.go()
        assert on.posts() == 0
        assert on.states() == ["ready"]
        assert [run.id for run in on.ledger.runs.list_open()] == ["r1"]


def test_forbidden_leaves_the_rest_unsent(tmp_path: Path) -> None:
    """403 concerns every request: the run stops, open, and can be continued."""
    with stage(tmp_path, unfinished=1) as on:
        on.sandbox.inject(Fault(kind="status", status=403, path=STOCK))
        on.plan(parts(1, 4), parts(5, 4))
        with pytest.raises(ConnectHttpError, match="403"):
            on.go()
        assert on.posts() == 1
        assert on.go()
        assert on.accepted() == set(parts(1, 8))


def test_a_record_that_makes_a_request_bad_is_found_by_halving(tmp_path: Path) -> None:
    """400 names no record: the request is cut until the bad one stands alone, and the others are accepted."""
    with stage(tmp_path, unfinished=1) as on:
        bad = parts(1, 8)[5]
        on.sandbox.inject(Fault(kind="status", status=400, path=STOCK, keys=(bad,), times=0))
        on.plan(parts(1, 8), parts(9, 4))
        assert on.go()
        assert on.accepted() == on.stored() == {*parts(1, 8), *parts(9, 4)} - {bad}
        assert [refusal.key.split("\x1f")[0] for refusal in on.ledger.record_errors.list_by_run("r1")] == [bad]
        assert on.posts() == 2 + 2 * 3


def test_a_header_that_is_refused_does_not_use_up_the_budget(tmp_path: Path) -> None:
    """When every request of a header is refused, halving ends after a few."""
    with stage(tmp_path, unfinished=1) as on:
        on.sandbox.inject(Fault(kind="status", status=400, path=STOCK, times=0))
        on.plan(parts(1, 200), parts(201, 200))
        assert on.go()
        assert on.accepted() == on.stored() == set()
        assert on.posts() <= 2 + 2 * actions.MAX_HALVINGS_WITHOUT_SUCCESS


def test_patience_ends_and_the_run_is_continued_later(tmp_path: Path) -> None:
    """An unreachable server ends `once` after its patience; a later start brings the run to its end."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="status", status=503, times=0))
        on.plan(parts(1, 4))
        with pytest.raises(ConnectUnreachableError) as caught:
            on.go(patience=0.2)
        assert "stays claimed" in caught.value.hint
        on.sandbox.faults.clear()
        assert on.go()
        assert on.accepted() == on.stored() == set(parts(1, 4))


def test_a_chunk_marked_sending_by_a_killed_process_is_resolved_first(tmp_path: Path) -> None:
    """After a crash between mark and response the chunk with an unknown outcome comes before the planned ones."""
    with stage(tmp_path, unfinished=1) as on:
        on.plan(parts(1, 4), parts(5, 4))
        on.ledger.mark_sending(on.ledger.chunks.list_by_run("r1")[1])
        assert on.go()
        assert on.accepted() == set(parts(1, 8))
        first = next(seen for seen in on.sandbox.requests() if "token" not in seen.path)
        assert first.path.endswith("Job/List")


def test_stop_leaves_the_run_to_be_continued(tmp_path: Path) -> None:
    """A stop while a job is stuck returns False soon; nothing is lost."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_stuck", path=STOCK))
        on.plan(parts(1, 4))

        def stop() -> None:
            while on.states() != ["submitted"]:
                time.sleep(0.01)
            on.stop.set()

        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        assert not on.go()
        thread.join()
        assert on.states() == ["submitted"]


def test_waves_are_barriers(tmp_path: Path) -> None:
    """A chunk of the second wave leaves only after the job of the first has ended."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_slow", path=STOCK, delay=0.2))
        on.plan(parts(1, 2), parts(1, 2))
        chunks = on.ledger.chunks.list_by_run("r1")
        on.ledger.save_plan(
            "r1", on.ledger.runs.list_open()[0].counts, [chunks[0], dataclasses.replace(chunks[1], wave=2)]
        )
        assert on.go()
        names = [(name, facts["chunk"]) for name, facts in on.events if name in ("chunk_submitted", "job_finished")]
        assert names == [("chunk_submitted", 1), ("job_finished", 1), ("chunk_submitted", 2), ("job_finished", 2)]


def test_limit_of_the_server_is_never_met(tmp_path: Path) -> None:
    """The rate limiter keeps below the limit of the server, which counts arrivals: not one 429 is seen.

    Half of the window is for what the machine delays on the way; to the second this holds in the simulation.
    """
    with stage(tmp_path, SandboxSettings(requests=10, per_seconds=0.25), requests=10, per_seconds=0.5) as on:
        on.plan(*(parts(1 + 2 * n, 2) for n in range(10)))
        assert on.go()
        assert on.accepted() == set(parts(1, 20))
        assert all(seen.status != 429 for seen in on.sandbox.requests())
