"""Gathers what an ended job says, and decides when it is final and what it means for its chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etl.apply import job_outcome
from etl.apply.import_history import ImportHistory, warning_pattern
from etl.apply.job_log import LogMatches, RecordIdentity, match_log
from etl.apply.job_outcome import Evidence, JobOutcome
from etl.apply.job_readings import Finality, JobReadings, Reading
from etl.contract import spec
from etl.model.runs import Chunk, Job, LogRow

#: Returns the records of a chunk in the order of its payload; called only when a log reports problems.
ReadChunkRecords = Callable[[Chunk], Sequence[RecordIdentity]]

#: What a report says of a job whose log was never final.
LOG_NOT_FINAL = "the log of the job was never complete; its status and its counts decide"


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """The job and its log are not final: read both again after `pause` seconds."""

    pause: float


class JobJudge:
    """Judges the jobs of one process. Threads may share it."""

    def __init__(self, read_chunk_records: ReadChunkRecords, history: ImportHistory, pause_scale: float = 1.0) -> None:
        self._read_chunk_records = read_chunk_records
        self._history = history
        self._pause_scale = pause_scale
        self._readings = JobReadings()

    def judge(self, chunk: Chunk, job: Job, log: tuple[LogRow, ...] | None, now: float) -> JobOutcome | ReadAgain:
        """Return what an ended job means.

        Args:
            log: None when it cannot be read.
            now: epoch seconds.
        """
        finality, pause = self._readings.add(Reading(job, log, now))
        if finality is Finality.READ_AGAIN:
            return ReadAgain(pause * self._pause_scale)
        evidence = self._gather(chunk, job, log or ())
        outcome = job_outcome.decide(chunk, job, evidence, lambda: self.single_record(chunk))
        if finality is Finality.FORCED and isinstance(outcome, job_outcome.Accept):
            return job_outcome.Accept(outcome.record_errors, (*outcome.warnings, LOG_NOT_FINAL))
        return outcome

    def _gather(self, chunk: Chunk, job: Job, log: Sequence[LogRow]) -> Evidence:
        problems = job_outcome.list_problems(chunk, log)
        matches = self._match_log(chunk, problems) if problems else LogMatches()
        operation, difference = chunk.operation, job_outcome.totals_difference(chunk, job)
        is_clean = not problems and not job_outcome.count_failures(chunk, job) and job.status == job_outcome.SUCCEEDED
        self._history.add_job(operation, difference, is_clean=is_clean)
        is_usual = self._history.trusts(operation, difference)
        if is_usual:
            for message in matches.unmatched_warnings:
                self._history.add_warning(chunk, warning_pattern(message))
        warnings = tuple(dict.fromkeys(matches.unmatched_warnings))
        known = [text for text in warnings if self._history.is_job_warning(operation, warning_pattern(text))]
        return Evidence(
            matches=matches,
            problems=problems,
            difference=difference,
            difference_is_usual=is_usual,
            job_warnings=tuple(known),
            open_warnings=tuple(text for text in warnings if text not in known),
        )

    def single_record(self, chunk: Chunk) -> RecordIdentity | None:
        """Return the record of a chunk that has one."""
        return next(iter(self._read_chunk_records(chunk)), None)

    def _match_log(self, chunk: Chunk, rows: Sequence[LogRow]) -> LogMatches:
        operation = spec.load_contract().operations.get(chunk.operation)
        return match_log(self._read_chunk_records(chunk), rows, operation.key.fields if operation else ())
