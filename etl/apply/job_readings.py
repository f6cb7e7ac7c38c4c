"""Whether what an ended job says is final. No clock, no network.

`IsFinished` may be true before the last row of the log is written, and before the counts are (a log has at least a
start and a finish row, https://docs.norce.io/solution-portal/functional-change-job-logs, but their texts are not
documented). So job and log are read again until they can be trusted.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from etl.apply.job_log import WARNING
from etl.apply.job_outcome import SUCCEEDED
from etl.model.runs import Job, LogRow

#: Seconds from one reading of a job and its log to the next; after the last one counts and status have to do.
READING_PAUSES = (5.0, 10.0, 20.0, 30.0, 45.0)

_FINISH_WORDS = re.compile(r"\b(?:finish|finished|complete|completed|done|ended|end)\b", re.IGNORECASE)


class Finality(Enum):
    """What a reading is worth."""

    FINAL = "final"
    READ_AGAIN = "read again"
    FORCED = "forced"  #: never final, although it was read again as often as is sensible


@dataclass(frozen=True, slots=True)
class Reading:
    """What a job and its log have said at one time."""

    job: Job
    log: tuple[LogRow, ...] | None  #: None: the log cannot be read
    at: float  #: epoch seconds

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing that the outcome is decided by."""
        return self.log is not None and self.job.total is not None and self.job.failed is not None


def assess(previous: Sequence[Reading], reading: Reading) -> Finality:
    """Return what a reading is worth after those before it, the oldest first."""
    if reading.is_complete:
        if has_finish_row(reading.log or (), succeeded=reading.job.status == SUCCEEDED):
            return Finality.FINAL
        if any((old.job, old.log) == (reading.job, reading.log) for old in previous):
            return Finality.FINAL
    return Finality.READ_AGAIN if len(previous) < len(READING_PAUSES) else Finality.FORCED


def has_finish_row(log: Sequence[LogRow], *, succeeded: bool) -> bool:
    """Return whether a log has a row that tells of the end, besides the one that tells of the start.

    Both are information; the job that failed may tell of its end as an error.
    """
    rows = [row for row in log if row.severity < WARNING or not succeeded]
    return len(rows) > 1 and any(_FINISH_WORDS.search(row.message) for row in rows)


class JobReadings:
    """The readings of ended jobs that are not final yet. Threads may share it."""

    def __init__(self) -> None:
        self._readings: dict[int, list[Reading]] = {}
        self._lock = threading.Lock()

    def add(self, reading: Reading) -> tuple[Finality, float]:
        """Return what a reading is worth, and the seconds until the next one."""
        with self._lock:
            previous = self._readings.setdefault(reading.job.id, [])
            finality = assess(previous, reading)
            if finality is not Finality.READ_AGAIN:
                del self._readings[reading.job.id]
                return finality, 0.0
            pause = READING_PAUSES[len(previous)]
            previous.append(reading)
            return finality, pause
