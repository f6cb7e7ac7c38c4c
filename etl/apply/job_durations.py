"""Estimates how long jobs of an import take, so that no poll is spent before that time.

The end of a job is noticed by a poll, so a measured duration is too long by the time since the end. The first poll
comes somewhat before the usual duration; so the estimate shrinks to the true value, and grows where jobs take longer.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from statistics import median

from etl.model.runs import Chunk, ChunkState

#: Ended jobs of an import that the estimate uses.
SAMPLE_SIZE = 9


class JobDurations:
    """Seconds from an import to the end of its job, by operation. For one thread."""

    def __init__(self, since: float) -> None:
        """Ignore jobs sent before `since` (epoch seconds): no poll has measured them."""
        self._since = since
        self._recent_durations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SAMPLE_SIZE))
        self._usual_durations: dict[str, float] = {}

    @property
    def usual_durations(self) -> Mapping[str, float]:
        """Median seconds by operation; until a job of it has ended, the age of its oldest job at the last poll."""
        return self._usual_durations

    def observe_finished(self, chunk: Chunk, now: float) -> None:
        """Record that the job of this chunk has ended."""
        if chunk.sent_at is not None and chunk.sent_at >= self._since:
            durations = self._recent_durations[chunk.operation]
            durations.append(max(0.0, now - chunk.sent_at))
            self._usual_durations[chunk.operation] = median(durations)

    def observe_running(self, chunk: Chunk) -> None:
        """Record that the job of a submitted chunk had not ended at its last poll."""
        if chunk.state is not ChunkState.SUBMITTED or chunk.polled_at is None or chunk.sent_at is None:
            return
        if chunk.operation not in self._recent_durations and chunk.sent_at >= self._since:
            longest = self._usual_durations.get(chunk.operation, 0.0)
            self._usual_durations[chunk.operation] = max(longest, chunk.polled_at - chunk.sent_at)
