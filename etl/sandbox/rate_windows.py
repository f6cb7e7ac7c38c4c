"""The two request limits: a rolling window for Connect, a refilling bucket for tokens."""

from __future__ import annotations

from collections import deque


class RollingLimit:
    """At most `limit` requests in any `seconds`; a refused request does not count."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._request_times: dict[str, deque[float]] = {}

    def acquire(self, client: str, now: float) -> float:
        """Return 0 when the request may pass, else the seconds until the next one may."""
        times = self._request_times.setdefault(client, deque())
        while times and times[0] <= now - self._seconds:
            times.popleft()
        if len(times) < self._limit:
            times.append(now)
            return 0.0
        return max(times[0] + self._seconds - now, 0.001) if times else self._seconds


class RefillingLimit:
    """`burst` at once, refilled with `rate` per second."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._levels: dict[str, tuple[float, float]] = {}

    def acquire(self, client: str, now: float) -> float:
        """Return 0 when the request may pass, else the seconds until the next one may."""
        level, since = self._levels.get(client, (float(self._burst), now))
        level = min(float(self._burst), level + max(now - since, 0.0) * self._rate)
        if level >= 1:
            self._levels[client] = (level - 1, now)
            return 0.0
        self._levels[client] = (level, now)
        return (1 - level) / self._rate


def max_in_window(times: list[float], seconds: float) -> int:
    """Return the largest number of these moments within any window of that length."""
    ordered, most, first = sorted(times), 0, 0
    for last, moment in enumerate(ordered):
        while ordered[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
