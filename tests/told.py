"""A clock that `etl` is told, and a wire without sockets.

Imported before anything of `etl` (see `tests/conftest.py`). Python's own time is then answered by the told clock,
for callers in the package `etl` and only while a world is in force; everybody else, and `etl` at any other time,
gets the machine's. So hours of a stuck job pass in no time, through the product's real defaults.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

_REAL: dict[str, Callable[..., Any]] = {name: getattr(time, name) for name in ("time", "monotonic", "sleep")}
_REAL_WAIT = threading.Event.wait

#: What passes between two looks at the clock, in seconds: nobody waits for a moment that never comes.
TICK = 0.0002


class Clock:
    """Time as it is told. Sleeping is instant; what is due on the way happens at its moment."""

    def __init__(self) -> None:
        self.passed = 1_000.0  #: true seconds, which only grow
        self.offset = 1_800_000_000.0  #: of the wall clock; stepping it is a clock jump
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._lock = threading.RLock()

    def mono(self) -> float:
        with self._lock:
            self.passed += TICK
            return self.passed

    def wall(self) -> float:
        return self.mono() + self.offset

    def server(self) -> float:
        """The clock of the other side, which nobody steps."""
        with self._lock:
            return self.passed + 1_800_000_000.0

    def sleep(self, seconds: float) -> None:
        with self._lock:
            end = self.passed + max(seconds, 0.0)
            while self._due and min(self._due, key=lambda one: one[0])[0] <= end:
                now = min(self._due, key=lambda one: one[0])
                self._due.remove(now)
                self.passed = max(self.passed, now[0])
                now[1]()
            self.passed = max(self.passed, end)

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen when so many seconds have passed."""
        self._due.append((self.passed + seconds, act))

    def forget(self) -> None:
        """What has not happened by now never does."""
        with self._lock:
            self._due.clear()


_told: Clock | None = None


def _clock() -> Clock | None:
    """The told clock, when the caller's caller belongs to `etl`."""
    name = sys._getframe(2).f_globals.get("__name__", "") if _told is not None else ""
    return _told if name.startswith("etl.") else None


def _time() -> float:
    told = _clock()
    return told.wall() if told else float(_REAL["time"]())


def _monotonic() -> float:
    told = _clock()
    return told.mono() if told else float(_REAL["monotonic"]())


def _sleep(seconds: float) -> None:
    told = _clock()
    if told:
        told.sleep(seconds)
    else:
        _REAL["sleep"](seconds)


def _wait(self: threading.Event, timeout: float | None = None) -> bool:
    told = _clock()
    if told is None or timeout is None or self.is_set():
        return _REAL_WAIT(self, timeout)
    told.sleep(timeout)
    return self.is_set()


def install() -> None:
    """Put the told clock between `etl` and the machine's, for good; without a world in force it changes nothing."""
    assert not any(name == "etl" or name.startswith("etl.") for name in sys.modules), "etl has the clocks already"
    time.time, time.monotonic, time.sleep = _time, _monotonic, _sleep
    threading.Event.wait = _wait  # type: ignore[method-assign]


@contextlib.contextmanager
def telling(clock: Clock) -> Iterator[Clock]:
    """`etl` lives by this clock."""
    global _told
    assert _told is None, "one clock at a time"
    with mock.patch(f"{__name__}._told", clock):
        yield clock
