"""What Norce has said of jobs that have ended, in memory: a hint to ask at once, never the answer itself.

A word may be false, late, early (before the import's answer with the job's id is stored), about somebody else's job, or
come twice. So it only ever leads to one question more, and each job gets one; and while word of our own jobs
arrives, jobs are asked for by themselves less often. Nothing is lost when a word is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

#: So many jobs are remembered, ours and foreign ones.
MAX_REMEMBERED_JOBS = 10_000

#: By how much the pauses between questions are stretched while word arrives.
POLL_FACTOR = 10.0


class JobEvents:
    """Shared by the endpoint and whoever waits for jobs; safe between threads."""

    def __init__(self) -> None:
        self._polled_by_job: OrderedDict[int, bool] = OrderedDict()  # job to whether it has led to a question
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = lambda: None
        self._events_arrive = False

    def set_wake(self, wake: Callable[[], None]) -> None:
        """Who is to be woken by news."""
        self._wake = wake

    def add(self, job_id: int) -> bool:
        """Word came; False when it has before."""
        with self._lock:
            if job_id in self._polled_by_job:
                return False
            self._polled_by_job[job_id] = False
            if len(self._polled_by_job) > MAX_REMEMBERED_JOBS:
                self._polled_by_job.popitem(last=False)
        self._wake()
        return True

    def unpolled_jobs(self, job_ids: Iterable[int | None]) -> frozenset[int]:
        """Those that are to be asked for at once."""
        with self._lock:
            return frozenset(job for job in job_ids if job is not None and self._polled_by_job.get(job) is False)

    def mark_polled(self, job_ids: Iterable[int | None]) -> None:
        """These are being asked for: what was heard of them has served."""
        with self._lock:
            for job in job_ids:
                if job is not None and job in self._polled_by_job:
                    self._polled_by_job[job] = True

    def observe_finished(self, job_id: int) -> None:
        """A job of ours was found to have ended: with word of it, word arrives; without, it does not."""
        with self._lock:
            self._events_arrive = job_id in self._polled_by_job

    @property
    def poll_factor(self) -> float:
        """By how much pauses between questions are longer just now."""
        with self._lock:
            return POLL_FACTOR if self._events_arrive else 1.0
