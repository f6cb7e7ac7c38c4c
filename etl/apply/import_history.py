"""What the jobs of an import have shown before, for jobs that leave something open. No clock, no network."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from etl.apply.job_outcome import TotalsDifference
from etl.model.runs import Chunk

#: When a difference in the totals is believed: `consistent`: when the first jobs of an import show the same.
TrustTotals = Literal["never", "consistent", "always"]

#: Jobs of an import that have to show the same difference, and requests that have to show the same warning.
MIN_WITNESSES = 3

_NUMBERS = re.compile(r"\d+")


def warning_pattern(message: str, values: Iterable[str] = ()) -> str:
    """Return a warning without the numbers and key values in it, by which repetitions are known."""
    for value in sorted(values, key=len, reverse=True):
        message = message.replace(value, "*")
    return " ".join(_NUMBERS.sub("#", message).split()).casefold()


def _contains(whole: Chunk, part: Chunk) -> bool:
    same_plan = (whole.run, whole.origin_chunk) == (part.run, part.origin_chunk)
    return same_plan and set(part.indexes) <= set(whole.indexes)


class ImportHistory:
    """Differences and warnings of the jobs that this process has seen. Threads may share it."""

    def __init__(self, trust_totals: TrustTotals = "consistent") -> None:
        self._trust_totals = trust_totals
        self._first_differences: dict[str, list[TotalsDifference]] = defaultdict(list)
        self._requests_by_warning: dict[tuple[str, str], list[Chunk]] = defaultdict(list)
        self._lock = threading.Lock()

    def add_job(self, operation: str, difference: TotalsDifference, *, is_clean: bool) -> None:
        """Remember a job; one that has failures or warnings proves nothing about the counting."""
        with self._lock:
            differences = self._first_differences[operation]
            if is_clean and len(differences) < MIN_WITNESSES:
                differences.append(difference)

    def trusts(self, operation: str, difference: TotalsDifference) -> bool:
        """Return whether the import is known to count items in this way."""
        if difference == "none" or self._trust_totals == "always":
            return True
        if self._trust_totals == "never":
            return False
        with self._lock:
            return self._first_differences[operation] == [difference] * MIN_WITNESSES

    def add_warning(self, chunk: Chunk, pattern: str) -> None:
        """Remember a warning that names no record, of a job whose counts agree.

        A part of a request replaces the whole: a record that causes the warning is in both, so they are one witness.
        """
        with self._lock:
            requests = self._requests_by_warning[chunk.operation, pattern]
            requests[:] = [*(other for other in requests if not _contains(other, chunk)), chunk]

    def is_job_warning(self, operation: str, pattern: str) -> bool:
        """Return whether a warning concerns jobs of the import as such, and no record."""
        with self._lock:
            return len(self._requests_by_warning[operation, pattern]) >= MIN_WITNESSES
