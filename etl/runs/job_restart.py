"""Lets an ended job run again with the payload that Norce has kept, where that cannot undo anything newer.

A restarted job is unfinished like any other, so nothing that may hold its keys is sent until it has ended. It belongs
to no run: the ledger notes it before it is asked for, and every start looks at what is noted. What it brings does not
move *accepted*; what was not accepted before is sent by the next run as if nothing had happened.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from etl.apply import job_matching as settle
from etl.apply import job_outcome as verdict
from etl.apply import scheduler as schedule
from etl.errors import ConnectError, ConnectRefused, ConnectUnreachable, StateError, UsageError
from etl.model.runs import Chunk, Job
from etl.runs import admission as lanes
from etl.state.ledger.facade import Ledger
from etl.state.ledger.jobs import Restart

#: A restarted job that Connect does not know so many seconds later has ended long ago.
FORGOTTEN = 86_400.0


class Service(Protocol):
    """What is needed of `connect.Connect`."""

    def job(self, job_id: int) -> Job: ...

    def jobs(self) -> tuple[Job, ...]: ...

    def restart(self, job_id: int) -> int: ...


def begin(ledger: Ledger, connect: Service, job_id: int, now: float) -> Restart:
    """Restart a job. Raises UsageError, StateError, ConnectError; after OutcomeUnknown it may be running."""
    chunk = ledger.chunk_of(job_id)
    if chunk is None:
        raise UsageError("job-unknown", f"no run has a job {job_id}", hint="`etl show RUN --json` lists a run's jobs")
    _refuse_outdated(ledger, chunk)
    job = connect.job(job_id)
    if not job.finished or job.status not in (verdict.SUCCEEDED, verdict.FAILED):
        raise UsageError(
            "job-not-restartable",
            f"job {job_id} has not ended" if not job.finished else f"job {job_id} ended with status {job.status}",
            where=chunk.run,
            hint=f"Connect restarts jobs that have succeeded or failed; `etl rerun {chunk.run}` sends what is missing",
        )
    made = Restart(job_id, chunk.operation, chunk.records, now)
    ledger.restarted(made)
    try:
        made = replace(made, again=connect.restart(job_id))
    except (ConnectRefused, ConnectUnreachable):  # not OutcomeUnknown: it may be running
        ledger.restarted(replace(made, over=True))
        raise
    ledger.restarted(made)
    return made


def follow(
    ledger: Ledger, connect: Service, made: Restart, stop: threading.Event, polls: int | None = None
) -> Job | None:
    """The job when it has ended; None when stopped, or after so many questions. Raises ConnectError."""
    for asked in itertools.count() if polls is None else range(polls):
        job = _ended(ledger, connect, made)
        if job is not None:
            ledger.restarted(replace(made, over=True))
            return job
        if stop.wait(schedule.poll_pause(asked)):
            break
    return None


def unfinished(ledger: Ledger, connect: Service, stop: threading.Event, tell: Callable[..., None]) -> frozenset[str]:
    """The key spaces of restarted jobs that have not ended; each is waited for until it counts as slow."""
    found = set()
    for made in ledger.restarts():
        if not made.over:
            tell("restart_awaited", job=made.again or made.job)
            try:
                job = follow(ledger, connect, made, stop, schedule.SLOW)
            except ConnectError:
                job = None
            if job is None:
                found.add(lanes.space(made.operation))
    return frozenset(found)


def _refuse_outdated(ledger: Ledger, chunk: Chunk) -> None:
    """A payload of yesterday over values of today would be a step back."""
    newer = ledger.newer_than(chunk, lanes.operations(chunk.operation))
    if newer is not None:
        raise StateError(
            "job-outdated",
            f"run {newer.run} has sent records of the same import since, or is about to",
            where=chunk.run,
            hint="drop the newest file again, or `etl rerun` its run: only what Norce has not taken is sent",
        )


def _ended(ledger: Ledger, connect: Service, made: Restart) -> Job | None:
    """The job, once nothing of it can be running any more."""
    if made.again is not None:
        try:
            job = connect.job(made.again)
        except ConnectRefused as error:
            if error.code != "connect-job-unknown" or time.time() - made.since < FORGOTTEN:
                raise
            job = Job(made.again, None, finished=True)
        return job if job.finished else None
    jobs = connect.jobs()
    like = Chunk("", 0, 1, made.operation, {}, ledger.state, "", made.records, 0, sent_at=made.since)
    perhaps = settle.fitting(like, jobs, ledger.jobs_known([job.id for job in jobs]))
    old = connect.job(made.job)
    return old if all(job.finished for job in (old, *perhaps)) else None
