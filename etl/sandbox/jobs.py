"""Import jobs: their states by the clock, what Job/Get and Job/GetLog say of them, the order they are applied in.

Facts: https://docs.norce.io/api-reference/schemas/connectjob and …/functional-change-job-logs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from etl.sandbox.catalogue import ERROR, INFORMATION, Line, Outcome
from etl.sandbox.faults import Fault
from etl.sandbox.header import Header
from etl.sandbox.settings import Settings

INITIALIZED, SUCCEEDED, FAILED, VALIDATION_FAILED, VALIDATING, QUEUED = 1, 2, 3, 4, 5, 6
_CUT = 60
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(slots=True)
class Job:
    """One accepted import."""

    id: int
    operation: str
    header: Header
    items: list[Any]
    failures: dict[int, list[str]]
    submitted: float
    validating: float  #: when it leaves the queue
    running: float
    finish: float
    effects: list[Fault] = field(default_factory=list)
    ended: int | None = None  #: final status once it was applied
    outcome: Outcome = field(default_factory=Outcome)

    def has(self, kind: str) -> bool:
        return any(fault.kind == kind for fault in self.effects)

    def status(self, now: float) -> int:
        if self.ended is not None:
            return self.ended
        if now < self.validating:
            return QUEUED
        return VALIDATING if now < self.running else INITIALIZED


def schedule(settings: Settings, chance: random.Random | None, now: float) -> tuple[float, float, float]:
    """When a job submitted now is validated, runs and ends. With a seed, durations differ and jobs overtake."""
    factor = chance.uniform(0.2, 3.0) if chance else 1.0
    validating = now + settings.queued_seconds * factor
    running = validating + settings.validating_seconds * factor
    return validating, running, running + settings.running_seconds * factor


def due(jobs: list[Job], chance: random.Random | None, now: float | None) -> list[Job]:
    """Jobs to apply, in the order to apply them; None stands for the end of time."""
    ready = [
        job for job in jobs if job.ended is None and not job.has("job_stuck") and (now is None or job.finish <= now)
    ]
    ready.sort(key=lambda job: (job.finish, job.id))
    if chance and now is None:
        chance.shuffle(ready)
    return ready


def summary(job: Job) -> dict[str, Any]:
    """The ValidationSummary of the answer to an import."""
    return {
        "NrOfItemsInTotal": len(job.items),
        "NrOfValidationFailures": len(job.failures),
        "Messages": [f"Item {index}: {message}" for index, found in job.failures.items() for message in found],
    }


def shown(job: Job, now: float) -> dict[str, Any]:
    """The JobDto."""
    status = job.status(now)
    finished = job.ended is not None
    until = job.finish if finished else now
    return {
        "JobId": job.id,
        "StatusId": status,
        "IsFinished": finished,
        "StorageName": None,
        "Totals": len(job.items),
        "Insert": job.outcome.insert,
        "Updates": job.outcome.updates,
        "Fail": job.outcome.fail,
        "Start": stamp(job.submitted),
        "Stop": stamp(job.finish) if finished else None,
        "LastUpdated": stamp(until),
        "RunTime": _span(max(until - job.submitted, 0.0)),
    }


def log(job: Job, settings: Settings, now: float) -> list[dict[str, Any]]:
    """The JobLogDto rows: a start, what happened, an end."""
    if job.has("empty_log"):
        return []
    rows = []
    if job.ended is not None or now >= job.running:
        rows.append(_row(Line(INFORMATION, f"Import {job.operation} started"), job.running, settings))
    if job.ended is not None:
        rows += [_row(line, job.finish, settings) for line in job.outcome.lines]
        end = Line(
            INFORMATION if job.ended == SUCCEEDED else ERROR,
            f"Import finished: {len(job.items)} in total, {job.outcome.fail} failed",
        )
        rows.append(_row(end, job.finish, settings))
    if job.has("shuffled_log"):
        random.Random(job.id).shuffle(rows)
    return rows


def _row(line: Line, when: float, settings: Settings) -> dict[str, Any]:
    text = None
    if line.item is not None and settings.imported_row != "null":
        text = _encode(line.item).decode()
        if settings.imported_row == "cut":
            text = text[:_CUT]
    return {"SeverityId": line.severity, "Message": line.message, "TimeStamp": stamp(when), "ImportedRow": text}


def stamp(when: float) -> str:
    """A moment as the Job service writes it: no zone."""
    return datetime.fromtimestamp(when, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _span(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:010.7f}"
