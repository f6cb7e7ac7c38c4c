"""Lets an ended job run again with the payload that Norce has kept, where that cannot undo anything newer.

A restarted job is unfinished like any other, so nothing that may hold its keys is sent until it has ended. It belongs
to no run: the ledger notes it before it is asked for, and every start looks at what is noted. What it brings does not
move *accepted*; what was not accepted before is sent by the next run as if nothing had happened.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace

from etl.apply import job_matching, job_outcome, scheduler
from etl.apply.import_client import ImportClient
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, StateError, UsageError
from etl.events import EventSink
from etl.model.runs import Chunk, Job
from etl.runs import admission
from etl.state.ledger.facade import Ledger
from etl.state.ledger.jobs import JobRestart

#: A restarted job that Connect does not know so many seconds later has ended long ago.
JOB_EXPIRY_SECONDS = 86_400.0

#: Seconds until Connect lists a restarted job whose response was lost, at the latest.
LOST_ANSWER_SECONDS = 300.0


def begin_restart(ledger: Ledger, client: ImportClient, job_id: int, now: float) -> JobRestart:
    """Restart a job. Raises UsageError, StateError, ConnectError; after OutcomeUnknown it may be running."""
    chunk = ledger.chunks.find_by_job(job_id)
    if chunk is None:
        raise UsageError("job-unknown", f"no run has a job {job_id}", hint="`etl show RUN --json` lists a run's jobs")
    _check_job_is_current(ledger, chunk)
    job = client.get_job(job_id)
    if not job.finished or job.status not in (job_outcome.SUCCEEDED, job_outcome.FAILED):
        raise UsageError(
            "job-not-restartable",
            f"job {job_id} has not ended" if not job.finished else f"job {job_id} ended with status {job.status}",
            where=chunk.run,
            hint=f"Connect restarts jobs that succeeded or failed; `etl rerun {chunk.run}` sends the missing records",
        )
    made = JobRestart(job_id, chunk.operation, chunk.records, now)
    ledger.jobs.save_restart(made)
    try:
        made = replace(made, new_job=client.restart_job(job_id))
    except (ConnectHttpError, ConnectUnreachableError):  # not OutcomeUnknown: it may be running
        ledger.jobs.save_restart(replace(made, ended=True))
        raise
    ledger.jobs.save_restart(made)
    return made


def wait_for_job(
    ledger: Ledger, client: ImportClient, restart: JobRestart, shutdown: threading.Event, max_polls: int | None = None
) -> Job | None:
    """The job when it has ended; None when stopped, or after so many questions. Raises ConnectError."""
    for asked in itertools.count() if max_polls is None else range(max_polls):
        job = _find_ended_job(ledger, client, restart)
        if job is not None:
            ledger.jobs.save_restart(replace(restart, ended=True))
            return job
        if shutdown.wait(scheduler.poll_delay(asked)):
            break
    return None


def find_busy_key_spaces(
    ledger: Ledger, client: ImportClient, shutdown: threading.Event, emit: EventSink
) -> frozenset[str]:
    """The key spaces of restarted jobs that have not ended; each is waited for until it counts as slow."""
    found = set()
    for made in ledger.jobs.list_restarts():
        if not made.ended:
            emit("restart_awaited", job=made.new_job or made.job)
            try:
                job = wait_for_job(ledger, client, made, shutdown, scheduler.SLOW_POLLS)
            except ConnectError:
                job = None
            if job is None:
                found.add(admission.key_space(made.operation))
    return frozenset(found)


def _check_job_is_current(ledger: Ledger, chunk: Chunk) -> None:
    """A payload of yesterday over values of today would be a step back."""
    newer = ledger.chunks.find_newer(chunk, admission.operations_sharing_keys(chunk.operation))
    if newer is not None:
        raise StateError(
            "job-outdated",
            f"run {newer.run} has sent records of the same import since, or is about to",
            where=chunk.run,
            hint="drop the newest file again, or `etl rerun` its run: only records not accepted yet are sent",
        )


def _find_ended_job(ledger: Ledger, client: ImportClient, restart: JobRestart) -> Job | None:
    """The job, once nothing of it can be running any more."""
    if restart.new_job is not None:
        try:
            job = client.get_job(restart.new_job)
        except ConnectHttpError as error:
            if error.code != "connect-job-unknown" or time.time() - restart.since < JOB_EXPIRY_SECONDS:
                raise
            job = Job(restart.new_job, job_outcome.FAILED, finished=True)
        return job if job.finished else None
    listed = client.list_jobs()
    like = Chunk("", 0, 1, restart.operation, {}, ledger.state_folder, "", restart.records, 0, sent_at=restart.since)
    own_jobs = ledger.jobs.find_own([job.id for job in listed.jobs])
    old = client.get_job(restart.job)
    is_young = time.time() - restart.since < LOST_ANSWER_SECONDS
    if is_young or not old.finished or job_matching.may_be_running(like, listed, own_jobs):
        return None
    return old
