"""What an ended job means for its chunk. Pure.

The rule behind the table: only what Connect is known to have taken counts as accepted. When it says that more
went wrong than it names, the chunk is halved until the bad record stands alone; sending good records twice is
harmless, losing one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etl.apply.job_log import ERROR, Traced, TracedRecord, complaints
from etl.model.runs import Chunk, Job, LogRow, Refusal

#: StatusId, https://docs.norce.io/api-reference/schemas/connectjob
SUCCEEDED, FAILED, VALIDATION_FAILED = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Accept:
    """Norce has all records but the refused ones."""

    refusals: tuple[Refusal, ...] = ()
    untraced: int = 0  #: complaints that name no record of ours, to be reported


@dataclass(frozen=True, slots=True)
class Halve:
    """Something is wrong with records that nobody names."""

    reason: str


@dataclass(frozen=True, slots=True)
class SendRest:
    """Nothing was imported; the records at these positions are refused, the rest goes again."""

    positions: frozenset[int]
    refusals: tuple[Refusal, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """It failed without a reason: once more as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing of it is accepted."""

    reason: str
    refusals: tuple[Refusal, ...] = ()


Verdict = Accept | Halve | SendRest | Repeat | Fail


def reach(
    chunk: Chunk,
    job: Job,
    log: Sequence[LogRow],
    find: Callable[[Sequence[LogRow]], Traced],
    alone: Callable[[], TracedRecord | None],
) -> Verdict:
    """The verdict. `find` traces complaints, `alone` gives the record of a chunk that has one: both are only
    called when there is something to complain about."""
    rows = (*log, *(LogRow(ERROR, message) for message in chunk.messages))
    bad = complaints(rows)
    traced = find(bad) if bad else Traced()
    failed = max(job.failed or 0, chunk.validation_failures)
    if job.status == SUCCEEDED:
        return _after_success(chunk, job, bad, traced, failed, alone)
    reason = f"job {job.id} ended with status {job.status}"
    if traced.positions:
        return SendRest(traced.positions, traced.refusals, reason)
    hint = failed > 0 or traced.untraced_errors > 0 or job.status == VALIDATION_FAILED
    everything = failed >= chunk.records and job.status == FAILED
    if everything and chunk.repeats == 0:
        return Repeat(reason)
    if 1 < chunk.records <= chunk.validation_failures:
        return Fail(f"{reason}: all {chunk.records} records failed validation")
    if chunk.records == 1 and hint:
        return Fail(reason, _refuse_alone(alone, bad, reason))
    if hint and not everything:
        return Halve(reason)
    return Repeat(reason) if chunk.repeats == 0 else Fail(f"{reason}, twice, without a reason")


def _after_success(
    chunk: Chunk,
    job: Job,
    bad: Sequence[LogRow],
    traced: Traced,
    failed: int,
    alone: Callable[[], TracedRecord | None],
) -> Verdict:
    missed = failed > traced.errors or (failed > traced.sure and traced.untraced_errors > 0)
    unnamed = missed or (traced.untraced_errors > 0 and failed == 0 and traced.errors == 0)
    if not unnamed:
        return Accept(traced.refusals, traced.untraced_errors + traced.untraced_warnings)
    reason = f"job {job.id} dropped records that its log does not name"
    if chunk.records == 1:
        return Accept(_refuse_alone(alone, bad, reason))
    if failed >= chunk.records and not traced.positions:
        return Fail(f"job {job.id} took none of its {chunk.records} records")
    return Halve(reason)


def _refuse_alone(alone: Callable[[], TracedRecord | None], bad: Sequence[LogRow], reason: str) -> tuple[Refusal, ...]:
    record = alone()
    if record is None:
        return ()
    worst = max(bad, key=lambda row: row.severity, default=LogRow(ERROR, reason))
    return (record.refusal(ERROR, worst.message or reason),)
