"""Import jobs: their states by the clock, what Job/Get and Job/GetLog say of them, the order they are applied in.

Facts: https://docs.norce.io/api-reference/schemas/connectjob and …/functional-change-job-logs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from etl.sandbox.catalogue import ERROR, INFORMATION, ImportOutcome, LogLine
from etl.sandbox.faults import Fault
from etl.sandbox.header import RequestHeader
from etl.sandbox.settings import SandboxSettings

INITIALIZED, SUCCEEDED, FAILED, VALIDATION_FAILED, VALIDATING, QUEUED = 1, 2, 3, 4, 5, 6
#: .NET's zero date: not yet.
ZERO_DATE = "0001-01-01T00:00:00"
_IMPORTED_ROW_CHARACTERS = 60
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(slots=True)
class ImportJob:
    """One accepted import."""

    id: int
    operation_id: str
    header: RequestHeader
    items: list[Any]
    failures: dict[int, list[str]]
    submitted_at: float
    validating_at: float  #: when it leaves the queue
    running_at: float
    finish_at: float
    faults: list[Fault] = field(default_factory=list)
    final_status: int | None = None  #: final status once it was applied
    outcome: ImportOutcome = field(default_factory=ImportOutcome)

    def has_fault(self, kind: str) -> bool:
        return any(fault.kind == kind for fault in self.faults)

    def is_unknown(self, now: float) -> bool:
        """Whether the Job service says that there is no such job."""
        return any(
            fault.kind == "job_unknown" and (not fault.delay or now < self.submitted_at + fault.delay)
            for fault in self.faults
        )

    def status(self, now: float) -> int:
        if self.final_status is not None:
            return self.final_status
        if now < self.validating_at:
            return QUEUED
        return VALIDATING if now < self.running_at else INITIALIZED


def job_times(settings: SandboxSettings, rng: random.Random | None, now: float) -> tuple[float, float, float]:
    """Return when a job submitted now is validated, runs and ends. With a seed, durations differ and jobs overtake."""
    factor = rng.uniform(0.2, 3.0) if rng else 1.0
    validating = now + settings.queued_seconds * factor
    running = validating + settings.validating_seconds * factor
    return validating, running, running + settings.running_seconds * factor


def due_jobs(jobs: list[ImportJob], rng: random.Random | None, now: float | None) -> list[ImportJob]:
    """Return the jobs to apply, in their order; None stands for the end of time."""
    ready = [
        job
        for job in jobs
        if job.final_status is None and not job.has_fault("job_stuck") and (now is None or job.finish_at <= now)
    ]
    ready.sort(key=lambda job: (job.finish_at, job.id))
    if rng and now is None:
        rng.shuffle(ready)
    return ready


def validation_summary(job: ImportJob) -> dict[str, Any]:
    """Return the ValidationSummary of the response to an import."""
    return {
        "NrOfItemsInTotal": len(job.items),
        "NrOfValidationFailures": len(job.failures),
        "Messages": [f"Item {index}: {message}" for index, found in job.failures.items() for message in found],
    }


def job_dto(job: ImportJob, now: float) -> dict[str, Any]:
    """Return the JobDto."""
    status = job.status(now)
    finished = job.final_status is not None
    until = job.finish_at if finished else now
    return {
        "JobId": job.id,
        "StatusId": status,
        "IsFinished": finished,
        "StorageName": None,
        "Totals": len(job.items),
        "Insert": job.outcome.insert,
        "Updates": job.outcome.updates,
        "Fail": job.outcome.fail,
        "Start": job_timestamp(job.submitted_at) if status != QUEUED else ZERO_DATE,
        "Stop": job_timestamp(job.finish_at) if finished else None,
        "LastUpdated": job_timestamp(until),
        "RunTime": _run_time(max(until - job.submitted_at, 0.0)),
    }


def job_log(job: ImportJob, settings: SandboxSettings, now: float) -> list[dict[str, Any]]:
    """Return the JobLogDto rows: a start, what happened, an end."""
    if job.has_fault("empty_log"):
        return []
    rows = []
    if job.final_status is not None or now >= job.running_at:
        rows.append(_log_row(LogLine(INFORMATION, f"Import {job.operation_id} started"), job.running_at, settings))
    if job.final_status is not None:
        rows += [_log_row(line, job.finish_at, settings) for line in job.outcome.lines]
        end = LogLine(
            INFORMATION if job.final_status == SUCCEEDED else ERROR,
            f"Import finished: {len(job.items)} in total, {job.outcome.fail} failed",
        )
        if not job.has_fault("no_finish"):
            rows.append(_log_row(end, job.finish_at, settings))
    if job.has_fault("shuffled_log"):
        random.Random(job.id).shuffle(rows)
    return rows


def _log_row(line: LogLine, when: float, settings: SandboxSettings) -> dict[str, Any]:
    text = None
    if line.item is not None and settings.imported_row != "null":
        text = _encode(line.item).decode()
        if settings.imported_row == "cut":
            text = text[:_IMPORTED_ROW_CHARACTERS]
    return {"SeverityId": line.severity, "Message": line.message, "TimeStamp": job_timestamp(when), "ImportedRow": text}


def job_timestamp(when: float) -> str:
    """Return a moment as the Job service writes it: without a zone."""
    return datetime.fromtimestamp(when, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _run_time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:010.7f}"
