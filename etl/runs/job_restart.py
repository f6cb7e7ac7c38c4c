"""Restarts of ended jobs with the payload that Norce stores, where a restart cannot overwrite newer values.

A restarted job is unfinished like any other, so no request that may share keys with it is sent until it has ended. It
belongs to no run: the ledger records the restart before the request leaves, and every start reads these rows. A restart
does not change the accepted records: the next run sends again what was not accepted before.
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

#: Seconds after which a restarted job that Connect does not know counts as ended.
JOB_EXPIRY_SECONDS = 86_400.0

#: Seconds until Connect lists a restarted job whose response was lost, at the latest.
LOST_ANSWER_SECONDS = 300.0


def begin_restart(ledger: Ledger, client: ImportClient, job_id: int, now: float) -> JobRestart:
    """Restart a job. Raises UsageError, StateError, ConnectError; after OutcomeUnknownError the job may be running."""
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
    restart = JobRestart(job_id, chunk.operation, chunk.records, now)
    ledger.jobs.save_restart(restart)
    try:
        restart = replace(restart, new_job=client.restart_job(job_id))
    except (ConnectHttpError, ConnectUnreachableError):  # not OutcomeUnknown: it may be running
        ledger.jobs.save_restart(replace(restart, ended=True))
        raise
    ledger.jobs.save_restart(restart)
    return restart


def wait_for_job(
    ledger: Ledger, client: ImportClient, restart: JobRestart, shutdown: threading.Event, max_polls: int | None = None
) -> Job | None:
    """Return the job when it has ended; None after a shutdown or `max_polls` polls. Raises ConnectError."""
    for poll in itertools.count() if max_polls is None else range(max_polls):
        job = _find_ended_job(ledger, client, restart)
        if job is not None:
            ledger.jobs.save_restart(replace(restart, ended=True))
            return job
        if shutdown.wait(scheduler.poll_delay(poll)):
            break
    return None


def find_busy_key_spaces(
    ledger: Ledger, client: ImportClient, shutdown: threading.Event, emit: EventSink
) -> frozenset[str]:
    """Return the key spaces of restarted jobs that have not ended; wait for each job until it counts as slow."""
    key_spaces = set()
    for restart in ledger.jobs.list_restarts():
        if not restart.ended:
            emit("restart_awaited", job=restart.new_job or restart.job)
            try:
                job = wait_for_job(ledger, client, restart, shutdown, scheduler.SLOW_POLLS)
            except ConnectError:
                job = None
            if job is None:
                key_spaces.add(admission.key_space(restart.operation))
    return frozenset(key_spaces)


def _check_job_is_current(ledger: Ledger, chunk: Chunk) -> None:
    """Raise StateError when a newer chunk may share keys with the job: its old payload would overwrite newer values."""
    newer = ledger.chunks.find_newer(chunk, admission.operations_sharing_keys(chunk.operation))
    if newer is not None:
        raise StateError(
            "job-outdated",
            f"run {newer.run} has sent records of the same import since, or is about to",
            where=chunk.run,
            hint="drop the newest file again, or `etl rerun` its run: only records not accepted yet are sent",
        )


def _find_ended_job(ledger: Ledger, client: ImportClient, restart: JobRestart) -> Job | None:
    """Return the job; None while it, or a restart of it whose response was lost, may be running."""
    if restart.new_job is not None:
        try:
            job = client.get_job(restart.new_job)
        except ConnectHttpError as error:
            if error.code != "connect-job-unknown" or time.time() - restart.since < JOB_EXPIRY_SECONDS:
                raise
            job = Job(restart.new_job, job_outcome.FAILED, finished=True)
        return job if job.finished else None
    listed = client.list_jobs()
    unknown = Chunk("", 0, 1, restart.operation, {}, ledger.state_folder, "", restart.records, 0, sent_at=restart.since)
    own_jobs = ledger.jobs.find_own([job.id for job in listed.jobs])
    old = client.get_job(restart.job)
    is_young = time.time() - restart.since < LOST_ANSWER_SECONDS
    if is_young or not old.finished or job_matching.may_be_running(unknown, listed, own_jobs):
        return None
    return old
