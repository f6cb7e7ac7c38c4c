"""A clock that `etl` is told: hours of a stuck job, or a month of files, pass in no time.

Installed before anything of `etl` is imported (see `tests/conftest.py`), it stands between the package and Python's
own time. It answers callers in `etl`, only while it is in force; everybody else, and `etl` at any other time, gets
the machine's. Time passes when all threads that work for `etl` sleep, and then to the first moment at which one of
them wakes: so what is done takes no time, and what is waited for takes as long as it says.
"""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import thread as pools
from typing import Any
from unittest import mock

_REAL: dict[str, Callable[..., Any]] = {name: getattr(time, name) for name in ("time", "monotonic", "sleep")}
_REAL_WAIT, _REAL_SET, _REAL_START = threading.Event.wait, threading.Event.set, threading.Thread.start
_REAL_PLAIN = _thread.start_new_thread
_REAL_JOIN, _REAL_SHUTDOWN = threading.Thread.join, pools.ThreadPoolExecutor.shutdown
_REAL_ITEM = pools._WorkItem.__init__

#: What passes between two looks at the clock, in seconds: nobody waits for a moment that never comes.
TICK = 0.0002

#: Real seconds after which a sleeper goes on although not everybody sleeps, and after which it does when this process
#: has hardly had anything to do: somebody may wait in a way not known here, for a lock that a sleeper holds.
PATIENCE, QUIET = 20.0, 1.0

#: Real seconds that the end of a thread may take before time passes for those that sleep meanwhile: it takes no time,
#: and they would sleep again and again.
ENDING = 0.005


class Clock:
    """Time as it is told."""

    def __init__(self) -> None:
        self.passed = 1_000.0  #: true seconds, which only grow
        self.offset = 1_800_000_000.0  #: of the wall clock; stepping it is a clock jump
        self.working = 1  #: threads, and what is handed to threads of pools
        self.ending = 0  #: threads that wait for the end of others
        self.idle: Callable[[], bool] = lambda: False  #: whether time may skip to what is due next
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._asleep: dict[int, tuple[float, threading.Event | None]] = {}
        self._lock = threading.Condition(threading.RLock())

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

    def works(self, more: int) -> None:
        """So many more threads have something to do."""
        with self._lock:
            self.working += more
            self._lock.notify_all()

    def ends(self, more: int) -> None:
        """So many more threads wait for the end of others, and have nothing to do meanwhile."""
        with self._lock:
            self.ending += more
            self.works(-more)

    def sleep(self, seconds: float, event: threading.Event | None = None) -> None:
        """Until so much time has passed, or the event is set."""
        me, began = threading.get_ident(), _moment()
        with self._lock:
            end = self.passed + max(seconds, 0.0)
            self._asleep[me] = end, event
            looked = False
            while self.passed < end and not (event is not None and event.is_set()):
                self._asleep.setdefault(me, (end, event))
                asleep = len(self._asleep) >= self.working
                if asleep and self.ending and not looked:
                    self._lock.wait(ENDING)
                    looked = True
                elif asleep or _nothing_moves(began):
                    self._pass()
                    began, looked = _moment(), False
                else:
                    self._lock.wait(0.5)
            self._asleep.pop(me, None)

    def _pass(self) -> None:
        """To the moment at which somebody wakes, or to what is due next while there is nothing to do."""
        first = min(end for end, _ in self._asleep.values())
        if self._due and self.idle():
            first = max(first, min(moment for moment, _ in self._due))
        self.advance(first - self.passed)
        for sleeper in [one for one, (end, _) in self._asleep.items() if end <= self.passed]:
            del self._asleep[sleeper]
        self._lock.notify_all()

    def woken(self, event: threading.Event) -> None:
        """Who waits for the event is awake."""
        with self._lock:
            for sleeper in [one for one, (_, what) in self._asleep.items() if what is event]:
                del self._asleep[sleeper]
            self._lock.notify_all()

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due on the way happens at its moment."""
        with self._lock:
            end = self.passed + max(seconds, 0.0)
            while self._due and (now := min(self._due, key=lambda one: one[0]))[0] <= end:
                self._due.remove(now)
                self.passed = max(self.passed, now[0])
                now[1]()
            self.passed = max(self.passed, end)

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen when so many seconds have passed."""
        self._due.append((self.passed + seconds, act))

    def forget(self) -> None:
        """What has not happened by now never does."""
        self._due.clear()


def _moment() -> tuple[float, float]:
    return _REAL["monotonic"](), time.process_time()


def _nothing_moves(began: tuple[float, float]) -> bool:
    passed, worked = (now - then for now, then in zip(_moment(), began, strict=True))
    return passed > PATIENCE or (passed > QUIET and worked < passed / 500)


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
    if told is None or timeout is None:
        return _REAL_WAIT(self, timeout)
    told.sleep(timeout, self)
    return self.is_set()


def _set(self: threading.Event) -> None:
    _REAL_SET(self)
    if _told is not None:
        _told.woken(self)


def _start(self: threading.Thread) -> None:
    told = _clock()
    if told is not None:
        plain = self.run

        def run() -> None:
            try:
                plain()
            finally:
                told.works(-1)

        self.run = run  # type: ignore[method-assign]
        self.told = told  # type: ignore[attr-defined]
        told.works(1)
    _REAL_START(self)


def _plain(act: Callable[..., object], args: tuple[Any, ...]) -> int:
    told = _clock()
    if told is None:
        return _REAL_PLAIN(act, args)

    def run() -> None:
        try:
            act(*args)
        finally:
            told.works(-1)

    told.works(1)
    return _REAL_PLAIN(run, ())


def _join(self: threading.Thread, timeout: float | None = None) -> None:
    with _idle(_clock() if hasattr(self, "told") else None):  # others have their own way with time
        _REAL_JOIN(self, timeout)


def _shutdown(self: Any, wait: bool = True, *, cancel_futures: bool = False) -> None:
    with _idle(_clock()):
        _REAL_SHUTDOWN(self, wait, cancel_futures=cancel_futures)


@contextlib.contextmanager
def _idle(told: Clock | None) -> Iterator[None]:
    """Who waits for the end of others has nothing to do."""
    if told is not None:
        told.ends(1)
    try:
        yield
    finally:
        if told is not None:
            told.ends(-1)


def _item(self: Any, future: Any, *args: Any, **words: Any) -> None:
    _REAL_ITEM(self, future, *args, **words)
    told = _told
    if told is not None:
        told.works(1)
        future.add_done_callback(lambda _: told.works(-1))  # what is cancelled never runs


def install() -> None:
    """Put the told clock between `etl` and the machine's, for good; without one in force it changes nothing."""
    if time.time is _time:
        return
    assert not any(name == "etl" or name.startswith("etl.") for name in sys.modules), "etl has the clocks already"
    time.time, time.monotonic, time.sleep = _time, _monotonic, _sleep  # type: ignore[assignment]
    threading.Event.wait, threading.Event.set = _wait, _set  # type: ignore[method-assign]
    threading.Thread.start = _start  # type: ignore[method-assign]
    _thread.start_new_thread = _plain  # type: ignore[assignment]
    threading.Thread.join, pools.ThreadPoolExecutor.shutdown = _join, _shutdown  # type: ignore[method-assign]
    pools._WorkItem.__init__ = _item  # type: ignore[method-assign]


@contextlib.contextmanager
def telling(clock: Clock) -> Iterator[Clock]:
    """`etl` lives by this clock."""
    assert _told is None, "one clock at a time"
    clock.working, clock.ending = 1, 0
    with mock.patch(f"{__name__}._told", clock):
        yield clock
