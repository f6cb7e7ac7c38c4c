"""What an ended job means for its chunk. Pure.

The rule behind the table: only what Connect is known to have taken counts as accepted. When it says that more
went wrong than it names, the chunk is halved until the bad record stands alone; sending good records twice is
harmless, losing one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etl.apply.job_log import ERROR, LogMatches, RecordIdentity, select_problems
from etl.model.runs import Chunk, Job, LogRow, RecordError

#: StatusId, https://docs.norce.io/api-reference/schemas/connectjob
SUCCEEDED, FAILED, VALIDATION_FAILED = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Accept:
    """Norce has all records but the refused ones."""

    record_errors: tuple[RecordError, ...] = ()
    unmatched: int = 0  #: complaints that name no record of ours, to be reported


@dataclass(frozen=True, slots=True)
class Halve:
    """Something is wrong with records that nobody names."""

    reason: str


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


def decide(
    chunk: Chunk,
    job: Job,
    log: Sequence[LogRow],
    match_problems: Callable[[Sequence[LogRow]], LogMatches],
    single_record: Callable[[], RecordIdentity | None],
) -> JobOutcome:
    """The verdict. `find` traces complaints, `alone` gives the record of a chunk that has one: both are only
    called when there is something to complain about."""
    rows = (*log, *(LogRow(ERROR, message) for message in chunk.messages))
    bad = select_problems(rows)
    traced = match_problems(bad) if bad else LogMatches()
    failed = max(job.failed or 0, chunk.validation_failures)
    if job.status == SUCCEEDED:
        return _decide_success(chunk, job, bad, traced, failed, single_record)
    reason = f"job {job.id} ended with status {job.status}"
    if traced.positions:
        return SendRemainder(traced.positions, traced.record_errors, reason)
    hint = failed > 0 or traced.unmatched_errors > 0 or job.status == VALIDATION_FAILED
    everything = failed >= chunk.records and job.status == FAILED
    if everything and chunk.repeats == 0:
        return Repeat(reason)
    if 1 < chunk.records <= chunk.validation_failures:
        return Fail(f"{reason}: all {chunk.records} records failed validation")
    if chunk.records == 1 and hint:
        return Fail(reason, _single_record_errors(single_record, bad, reason))
    if hint and not everything:
        return Halve(reason)
    return Repeat(reason) if chunk.repeats == 0 else Fail(f"{reason}, twice, without a reason")


def _decide_success(
    chunk: Chunk,
    job: Job,
    problems: Sequence[LogRow],
    matches: LogMatches,
    failed: int,
    single_record: Callable[[], RecordIdentity | None],
) -> JobOutcome:
    missed = failed > matches.error_count or (failed > matches.certain and matches.unmatched_errors > 0)
    unnamed = missed or (matches.unmatched_errors > 0 and failed == 0 and matches.error_count == 0)
    if not unnamed:
        return Accept(matches.record_errors, matches.unmatched_errors + matches.unmatched_warnings)
    reason = f"job {job.id} dropped records that its log does not name"
    if chunk.records == 1:
        return Accept(_single_record_errors(single_record, problems, reason))
    if failed >= chunk.records and not matches.positions:
        return Fail(f"job {job.id} took none of its {chunk.records} records")
    return Halve(reason)


def _single_record_errors(
    single_record: Callable[[], RecordIdentity | None], problems: Sequence[LogRow], reason: str
) -> tuple[RecordError, ...]:
    record = single_record()
    if record is None:
        return ()
    worst = max(problems, key=lambda row: row.severity, default=LogRow(ERROR, reason))
    return (record.make_error(ERROR, worst.message or reason),)
