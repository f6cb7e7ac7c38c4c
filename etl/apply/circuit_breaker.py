"""Circuit breaker: a pause for all requests while Connect does not answer, longer after each failure.

Requests of all runs go to the same server, so the first response of any kind ends the pause for all of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from etl.errors import ConnectError, ConnectUnreachableError
from etl.events import EventSink

#: Seconds of the first pause after a failed exchange, and of the longest; doubled in between, with jitter.
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0


class CircuitBreaker:
    """Counts successive requests without a response. Threads may share it."""

    def __init__(
        self,
        *,
        emit: EventSink,
        timeout: float | None,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds without any response after which `record_failure` raises (None: never)."""
        self._clock = clock
        self._emit = emit
        self._timeout = timeout
        self._rng = rng
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since: float | None = None
        self._paused_until = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the last requests had no response; `record_failure` ends the wait then."""
        with self._lock:
            return self._failures > 0

    def remaining_pause(self) -> float:
        """Return the seconds for which no request may be sent."""
        with self._lock:
            return max(0.0, self._paused_until - self._clock())

    def record_success(self) -> None:
        """Record a response of any kind; it ends the pause."""
        with self._lock:
            if self._failures:
                self._emit("connect_resumed", failures=self._failures)
            self._failures, self._failing_since, self._paused_until = 0, None, 0.0

    def record_failure(self, error: ConnectError) -> float:
        """Record a request without a response; return the seconds of the pause.

        Raises ConnectUnreachableError once `timeout` has passed without any response.
        """
        with self._lock:
            now = self._clock()
            self._failures += 1
            self._failing_since = now if self._failing_since is None else self._failing_since
            seconds: float = min(MAX_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
            seconds *= 0.5 + self._rng.random() / 2
            if self._timeout is not None:
                if now - self._failing_since >= self._timeout:
                    raise _unreachable_error(error)
                seconds = min(seconds, max(0.05, self._failing_since + self._timeout - now))
            self._paused_until = now + seconds
            self._emit("connect_paused", seconds=round(seconds, 1), reason=error.message)
            return seconds


def _unreachable_error(error: ConnectError) -> ConnectUnreachableError:
    return ConnectUnreachableError(
        "connect-unreachable",
        error.message,
        where=error.where,
        hint="the file stays claimed; the next `etl once` or `etl run` goes on where this one stopped",
    )
