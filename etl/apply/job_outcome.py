"""Decides what an ended job means for its chunk. Pure.

The rule behind the table: only what Connect is known to have taken counts as accepted. Every number of the job has to
agree with what was sent. When more went wrong than is named, or something is said of no record, the chunk is halved
until the bad record stands alone; sending good records twice is harmless, losing one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from etl.apply.job_log import ERROR, LogMatches, RecordIdentity, select_problems
from etl.model.runs import Chunk, Job, LogRow, RecordError

#: StatusId, https://docs.norce.io/api-reference/schemas/connectjob
SUCCEEDED, FAILED, VALIDATION_FAILED = 2, 3, 4


#: How the number of items that a job counts differs from the number that was sent.
TotalsDifference = Literal["none", "missing", "zero", "fewer", "more"]


@dataclass(frozen=True, slots=True)
class Accept:
    """Norce has all records but the refused ones."""

    record_errors: tuple[RecordError, ...] = ()
    warnings: tuple[str, ...] = ()  #: of the job as such: they name no record


@dataclass(frozen=True, slots=True)
class Halve:
    """Something is wrong with records that nobody names, or may be (`is_certain` is false then)."""

    reason: str
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class SendRemainder:
    """Nothing was imported; the records at these positions are refused, the rest goes again."""

    positions: frozenset[int]
    record_errors: tuple[RecordError, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """It failed without a reason: once more as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing of it is accepted."""

    reason: str
    record_errors: tuple[RecordError, ...] = ()


JobOutcome = Accept | Halve | SendRemainder | Repeat | Fail


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a job says, set against the records of its request and what jobs of the import have said before."""

    matches: LogMatches
    problems: tuple[LogRow, ...] = ()  #: warnings and errors of the log and of the answer to the import
    difference: TotalsDifference = "none"
    difference_is_usual: bool = False  #: the import counts items in this way
    job_warnings: tuple[str, ...] = ()  #: unmatched warnings that concern the import as such
    open_warnings: tuple[str, ...] = ()  #: unmatched warnings that may concern a record


def totals_difference(chunk: Chunk, job: Job) -> TotalsDifference:
    """Return how a job's count of items differs from what was sent; items that failed validation may be left out."""
    if job.total is None:
        return "missing"
    if job.total in (chunk.records, chunk.records - chunk.validation_failures):
        return "none"
    if job.total == 0:
        return "zero"
    return "fewer" if job.total < chunk.records else "more"


def list_problems(chunk: Chunk, log: Sequence[LogRow]) -> tuple[LogRow, ...]:
    """Return the warnings and errors of a log, and the validation failures of the answer to the import."""
    return select_problems((*log, *(LogRow(ERROR, message) for message in chunk.messages)))


def count_failures(chunk: Chunk, job: Job) -> int:
    """Return how many items failed: validation comes before the job, so its failures are not among the job's."""
    return (job.failed or 0) + chunk.validation_failures


def decide(
    chunk: Chunk, job: Job, evidence: Evidence, single_record: Callable[[], RecordIdentity | None]
) -> JobOutcome:
    """Return the outcome. `single_record` reads the record of a chunk that has one; it is called only when needed."""
    if job.status == SUCCEEDED:
        return _decide_success(chunk, job, evidence, single_record)
    failed, matches = count_failures(chunk, job), evidence.matches
    reason = f"job {job.id} ended with status {job.status}"
    if matches.positions:
        return SendRemainder(matches.positions, matches.record_errors, reason)
    hint = failed > 0 or matches.unmatched_errors > 0 or job.status == VALIDATION_FAILED
    everything = failed >= chunk.records and job.status == FAILED
    if everything and chunk.repeats == 0:
        return Repeat(reason)
    if 1 < chunk.records <= chunk.validation_failures:
        return Fail(f"{reason}: all {chunk.records} records failed validation")
    if chunk.records == 1 and hint:
        return Fail(reason, _single_record_errors(single_record, evidence.problems, reason))
    if hint and not everything:
        return Halve(reason)
    return Repeat(reason) if chunk.repeats == 0 else Fail(f"{reason}, twice, without a reason")


def _decide_success(
    chunk: Chunk, job: Job, evidence: Evidence, single_record: Callable[[], RecordIdentity | None]
) -> JobOutcome:
    failed, matches = count_failures(chunk, job), evidence.matches
    missed = failed > matches.error_count or (failed > matches.certain and matches.unmatched_errors > 0)
    if missed or (matches.unmatched_errors > 0 and matches.error_count == 0):
        reason = f"job {job.id} dropped records that its log does not name"
        if chunk.records == 1:
            return Accept(_single_record_errors(single_record, evidence.problems, reason))
        # The two numbers may count the same record: only one of them alone says that nothing was taken.
        if max(chunk.validation_failures, job.failed or 0) >= chunk.records and not matches.positions:
            return Fail(f"job {job.id} took none of its {chunk.records} records")
        return Halve(reason)
    if not evidence.difference_is_usual and evidence.difference != "none":
        reason = f"job {job.id} counts {_count(job.total)} of {chunk.records} records"
        return Fail(reason) if chunk.records == 1 else Halve(reason, is_certain=False)
    if evidence.open_warnings:
        reason = f"job {job.id} warns of something without a record"
        if chunk.records == 1:
            return Accept(matches.record_errors or _single_record_errors(single_record, evidence.problems, reason))
        return Halve(reason, is_certain=False)
    return Accept(matches.record_errors, evidence.job_warnings)


def _count(total: int | None) -> str:
    return "an unknown number" if total is None else str(total)


def _single_record_errors(
    single_record: Callable[[], RecordIdentity | None], problems: Sequence[LogRow], reason: str
) -> tuple[RecordError, ...]:
    record = single_record()
    if record is None:
        return ()
    worst = max(problems, key=lambda row: row.severity, default=LogRow(ERROR, reason))
    return (record.make_error(worst.severity, worst.message or reason),)
