"""`etl restart`: restarts an ended job in Norce."""

from __future__ import annotations

import time

import click

from etl.apply import job_outcome
from etl.cli import tables, worker
from etl.config.settings import Settings
from etl.errors import ExitStatus
from etl.runs import job_restart


def restart_job(settings: Settings, job_id: int, *, verbose: bool) -> ExitStatus:
    """Restart an ended job with its old payload, and wait for its end."""
    with worker.worker_session(settings, verbose=verbose) as session:
        restart = job_restart.begin_restart(session.ledger, session.client, job_id, time.time())
        click.echo(f"job {job_id} runs again" + (f" as job {restart.new_job}" if restart.new_job != job_id else ""))
        job = job_restart.wait_for_job(session.ledger, session.client, restart, session.shutdown)
    if job is None:
        return ExitStatus.INTERRUPTED
    failures = f", {job.failed} of {job.total} records failed" if job.failed else ""
    click.echo(f"it has ended: {tables.JOB_STATUS_NAMES.get(job.status or 0, 'unknown')}{failures}")
    return ExitStatus.OK if job.status == job_outcome.SUCCEEDED and not job.failed else ExitStatus.CONNECT_ERROR
