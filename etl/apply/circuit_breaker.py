"""Stops asking a Connect that does not answer: one pause for everything, growing while nothing comes back.

Requests of all runs meet the same server, so the first answer of any kind lets all of them go on.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from etl.errors import ConnectError, ConnectUnreachable

#: Seconds of the first pause after a failed exchange, and of the longest; doubled in between, with jitter.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Breaker:
    """Counts exchanges without an answer. Safe to share between threads."""

    def __init__(
        self, tell: Callable[..., None], patience: float | None, rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`patience`: seconds without any answer after which `failed` raises (None: never)."""
        self._clock = clock
        self._tell = tell
        self._patience = patience
        self._rng = rng
        self._lock = threading.Lock()
        self._failures = 0
        self._silent_since: float | None = None
        self._quiet_until = 0.0

    def quiet_for(self) -> float:
        """Seconds for which nothing is tried."""
        with self._lock:
            return max(0.0, self._quiet_until - self._clock())

    def answered(self) -> None:
        """Somebody is there."""
        with self._lock:
            if self._failures:
                self._tell("connect_resumed", failures=self._failures)
            self._failures, self._silent_since, self._quiet_until = 0, None, 0.0

    def failed(self, error: ConnectError) -> float:
        """Nothing came back; for how many seconds nothing is tried. Raises ConnectUnreachable at patience's end."""
        with self._lock:
            now = self._clock()
            self._failures += 1
            self._silent_since = now if self._silent_since is None else self._silent_since
            seconds: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
            seconds *= 0.5 + self._rng.random() / 2
            if self._patience is not None:
                if now - self._silent_since >= self._patience:
                    raise _given_up(error)
                seconds = min(seconds, max(0.05, self._silent_since + self._patience - now))
            self._quiet_until = now + seconds
            self._tell("connect_paused", seconds=round(seconds, 1), reason=error.message)
            return seconds


def _given_up(error: ConnectError) -> ConnectUnreachable:
    return ConnectUnreachable(
        "connect-unreachable",
        error.message,
        where=error.where,
        hint="the file stays claimed; the next `etl once` or `etl run` goes on where this one stopped",
    )
