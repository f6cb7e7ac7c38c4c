"""Restarting a job of Norce: when it is refused, and what happens while it runs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.connect.rate_limiter import Permit
from etl.errors import ConnectHttpError, EtlError, OutcomeUnknownError
from etl.model.runs import Chunk, Counts, Job, JobList, LogRow, Run, RunState, Submission
from etl.runs import job_restart
from etl.state.ledger.facade import Ledger
from etl.state.ledger.jobs import JobRestart

STOCK, PRICES = "Product/ImportOnhands", "Product/ImportSkuPriceLists"
QUIET = lambda *_args, **_facts: None  # noqa: E731


class Norce:
    """Jobs as they are told to be."""

    def __init__(self, *jobs: Job) -> None:
        self.known = {job.id: job for job in jobs}
        self.restarted: list[int] = []
        self.lost = False
        self.says: EtlError | None = None

    def prepare(self, chunk: Chunk | None = None) -> None:
        """A restart needs nothing beforehand."""

    def submit(self, chunk: Chunk, permit: Permit | None = None) -> Submission:
        raise AssertionError("a restart sends no import")

    def abort(self) -> None:
        raise AssertionError("nothing is under way")

    def get_job_log(self, job_id: int, permit: Permit | None = None) -> tuple[LogRow, ...]:
        raise AssertionError("a restart reads no log")

    def get_job(self, job_id: int, permit: Permit | None = None) -> Job:
        return self.known[job_id]

    def list_jobs(self, permit: Permit | None = None) -> JobList:
        return JobList(tuple(self.known.values()))

    def restart_job(self, job_id: int) -> int:
        if self.says is not None:
            raise self.says
        self.restarted.append(job_id)
        again = max(self.known) + 1
        self.known[again] = Job(again, 1, finished=False, total=2, failed=0, started="2001-09-09T01:46:41")
        if self.lost:
            raise OutcomeUnknownError("connect-outcome-unknown", "the connection broke", hint="wait")
        return again

    def end(self, job_id: int) -> None:
        self.known[job_id] = dataclasses.replace(self.known[job_id], finished=True, status=2)


def ended(job_id: int, status: int = 3) -> Job:
    return Job(job_id, status, finished=True, total=2, failed=2, started="2001-09-09T01:40:00")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Told that it is always 1,000,000,000 seconds past the epoch."""
    with Ledger.open(tmp_path, clock=lambda: 1e9) as opened:
        yield opened


def sent(ledger: Ledger, run: str, job: int, *, operation: str = STOCK, more: int = 0) -> None:
    """A run whose first request has a job; `more` requests are not sent yet."""
    ledger.open_run(Run(run, operation, operation, "f.csv", "0" * 64, RunState.CLAIMED))
    chunk = Chunk(run, 1, 1, operation, {}, ledger.state_folder / "p.json", "d", 2, 2, origin_chunk=1)
    others = [dataclasses.replace(chunk, number=number, origin_chunk=number) for number in range(2, 2 + more)]
    ledger.save_plan(run, Counts(), [chunk, *others])
    ledger.save_submission(ledger.mark_sending(chunk), Submission(job))


def test_a_job_runs_again_and_is_followed(ledger: Ledger) -> None:
    """The ledger knows the new job before and after, so nobody takes it for the job of a lost request."""
    sent(ledger, "a", 5, more=1)
    norce = Norce(ended(5))
    made = job_restart.begin_restart(ledger, norce, 5, 1e9)
    assert (made.new_job, norce.restarted) == (6, [5])
    assert ledger.jobs.list_restarts() == [made]
    assert ledger.jobs.find_own([5, 6, 7]) == {5: 1e9, 6: 1e9}
    stop = threading.Event()
    stop.set()
    assert job_restart.wait_for_job(ledger, norce, made, stop) is None
    norce.end(6)
    job = job_restart.wait_for_job(ledger, norce, made, threading.Event(), 1)
    assert job is not None
    assert job.status == 2
    assert [known.ended for known in ledger.jobs.list_restarts()] == [True]


@pytest.mark.parametrize(
    ("operation", "refused"),
    [(STOCK, True), (PRICES, False)],
)
def test_an_older_job_does_not_overwrite_a_newer_one(ledger: Ledger, operation: str, refused: bool) -> None:
    """Refused when anything of the same import was sent since; another import does not matter."""
    sent(ledger, "a", 5)
    sent(ledger, "b", 6, operation=operation)
    norce = Norce(ended(5), ended(6))
    if refused:
        with pytest.raises(EtlError, match="run b has sent") as caught:
            job_restart.begin_restart(ledger, norce, 5, 1e9)
        assert caught.value.code == "job-outdated"
    else:
        job_restart.begin_restart(ledger, norce, 5, 1e9)
    assert norce.restarted == ([] if refused else [5])


def test_a_part_that_went_again_counts_as_newer(ledger: Ledger) -> None:
    """The first job of records that were sent twice is not restarted, the second is."""
    sent(ledger, "a", 5)
    chunk = ledger.chunks.list_by_run("a")[0]
    (again,) = ledger.split(chunk, [dataclasses.replace(chunk, state=type(chunk.state).READY, job_id=None)])
    ledger.save_submission(ledger.mark_sending(again), Submission(6))
    norce = Norce(ended(5), ended(6))
    with pytest.raises(EtlError, match="since"):
        job_restart.begin_restart(ledger, norce, 5, 1e9)
    assert job_restart.begin_restart(ledger, norce, 6, 1e9).new_job == 7


@pytest.mark.parametrize("job", [ended(5, status=4), Job(5, 1, finished=False)])
def test_only_what_connect_restarts_is_asked_for(ledger: Ledger, job: Job) -> None:
    """A job that has not ended, or was not valid, is refused before anything is sent."""
    sent(ledger, "a", 5)
    norce = Norce(job)
    with pytest.raises(EtlError) as caught:
        job_restart.begin_restart(ledger, norce, 5, 1e9)
    assert caught.value.code == "job-not-restartable"
    with pytest.raises(EtlError) as caught:
        job_restart.begin_restart(ledger, norce, 99, 1e9)
    assert caught.value.code == "job-unknown"
    assert norce.restarted == []
    assert ledger.jobs.list_restarts() == []


def test_nothing_of_its_import_goes_while_it_runs(ledger: Ledger) -> None:
    """A start finds what was restarted before a crash, and bars its import until the job has ended."""
    sent(ledger, "a", 5)
    norce = Norce(ended(5))
    made = job_restart.begin_restart(ledger, norce, 5, 1e9)
    stop = threading.Event()
    stop.set()
    assert job_restart.find_busy_key_spaces(ledger, norce, stop, QUIET) == {STOCK}
    norce.end(made.new_job or 0)
    assert job_restart.find_busy_key_spaces(ledger, norce, stop, QUIET) == frozenset()


def test_a_restart_without_an_answer_is_waited_for_all_the_same(ledger: Ledger) -> None:
    """The new id was lost: a job of that size that nobody knows may be it, and is waited for."""
    sent(ledger, "a", 5)
    norce = Norce(ended(5))
    norce.lost = True
    with pytest.raises(OutcomeUnknownError):
        job_restart.begin_restart(ledger, norce, 5, 1e9)
    stop = threading.Event()
    stop.set()
    assert job_restart.find_busy_key_spaces(ledger, norce, stop, QUIET) == {STOCK}
    norce.end(6)
    assert job_restart.find_busy_key_spaces(ledger, norce, stop, QUIET) == frozenset()


def test_a_refused_restart_leaves_nothing_to_wait_for(ledger: Ledger) -> None:
    """When Connect says no, nothing runs."""
    sent(ledger, "a", 5)
    norce = Norce(ended(5))
    norce.says = ConnectHttpError("connect-refused", "the payload is gone", hint="rerun")
    with pytest.raises(ConnectHttpError):
        job_restart.begin_restart(ledger, norce, 5, 1e9)
    assert job_restart.find_busy_key_spaces(ledger, norce, threading.Event(), QUIET) == frozenset()
    assert ledger.jobs.list_restarts() == [JobRestart(5, STOCK, 2, 1e9, None, True)]
