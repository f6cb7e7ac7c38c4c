"""Remembers job events, in memory: each causes one poll at once and never replaces the poll.

An event can be false, late, premature (before the job id is stored), for another client's job, or duplicated. It
therefore causes at most one extra poll per job. While events of our own jobs arrive, the regular polls are less
frequent. A lost event delays a poll and loses nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

#: Jobs that are remembered, ours and foreign ones.
MAX_REMEMBERED_JOBS = 10_000

#: Factor by which the pauses between polls are longer while events arrive.
POLL_FACTOR = 10.0


class JobEvents:
    """Job events, shared by the webhook and the sender. Threads may share it."""

    def __init__(self) -> None:
        self._polled_by_job: OrderedDict[int, bool] = OrderedDict()  # by job id: whether the event has caused a poll
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = lambda: None
        self._events_arrive = False

    def set_wake(self, wake: Callable[[], None]) -> None:
        """Set the function that is called for each new event."""
        self._wake = wake

    def add(self, job_id: int) -> bool:
        """Add the event of a job; return False for a duplicate."""
        with self._lock:
            if job_id in self._polled_by_job:
                return False
            self._polled_by_job[job_id] = False
            if len(self._polled_by_job) > MAX_REMEMBERED_JOBS:
                self._polled_by_job.popitem(last=False)
        self._wake()
        return True

    def unpolled_jobs(self, job_ids: Iterable[int | None]) -> frozenset[int]:
        """Return the jobs that have an event and were not polled since."""
        with self._lock:
            return frozenset(job for job in job_ids if job is not None and self._polled_by_job.get(job) is False)

    def mark_polled(self, job_ids: Iterable[int | None]) -> None:
        """Record that these jobs are being polled."""
        with self._lock:
            for job in job_ids:
                if job is not None and job in self._polled_by_job:
                    self._polled_by_job[job] = True

    def observe_finished(self, job_id: int) -> None:
        """Record that a poll found a job of ours ended; events arrive when there was one of this job."""
        with self._lock:
            self._events_arrive = job_id in self._polled_by_job

    @property
    def poll_factor(self) -> float:
        """Factor by which the pauses between polls are longer now."""
        with self._lock:
            return POLL_FACTOR if self._events_arrive else 1.0
