"""How long jobs of an import have taken lately, in memory: when the first question for the next one is worth a request.

A job is seen to have ended when it is asked for, so what is kept is too long by that much. As the first question comes
somewhat before the usual time, the figure comes down to the truth by itself; and where jobs take longer, it grows.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from statistics import median

from etl.model.runs import Chunk, ChunkState

#: So many ended jobs of an import count.
SAMPLE_SIZE = 9


class JobDurations:
    """Seconds from an import to the end of its job, by operation. For one thread."""

    def __init__(self, since: float) -> None:
        """`since`: what was sent earlier says nothing: nobody has asked for it meanwhile (epoch seconds)."""
        self._since = since
        self._recent_durations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SAMPLE_SIZE))
        self._usual_durations: dict[str, float] = {}

    @property
    def usual_durations(self) -> Mapping[str, float]:
        """What is usual. Before the first job of an import has ended: how old the oldest one was when it was seen."""
        return self._usual_durations

    def observe_finished(self, chunk: Chunk, now: float) -> None:
        """The job of this chunk has ended."""
        if chunk.sent_at is not None and chunk.sent_at >= self._since:
            taken = self._recent_durations[chunk.operation]
            taken.append(max(0.0, now - chunk.sent_at))
            self._usual_durations[chunk.operation] = median(taken)

    def observe_running(self, chunk: Chunk) -> None:
        """A chunk as it is now; if its job was looked at, it has not ended."""
        if chunk.state is not ChunkState.SUBMITTED or chunk.polled_at is None or chunk.sent_at is None:
            return
        if chunk.operation not in self._recent_durations and chunk.sent_at >= self._since:
            known = self._usual_durations.get(chunk.operation, 0.0)
            self._usual_durations[chunk.operation] = max(known, chunk.polled_at - chunk.sent_at)
