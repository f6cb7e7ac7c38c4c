"""Rate limiter for every request: never more than the limit in any window, for all processes of a state folder.

The window counts as the *server* counts it. A permit is stamped when it is given, and again when the body of its
request has left; its place is free again when the later stamp is a whole window old, plus a margin for the journey. If
a crash prevented the second stamp, the request counts as if it had left some time after its permit.

Ages are measured on the monotonic clock of one boot, so that steps of the wall clock change nothing. A stamp of
another boot is as old as the wall clock says, but never older than this boot.

The token endpoint has its own lane within the common limit (3 per minute and address,
https://docs.norce.io/api-reference/accessing-apis-with-oauth2-accounts.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from etl.state.ledger.database import IN_JSON, Connection, Database, json_list

Lane = Literal["connect", "token"]

#: Part of the window added to it: the journey to the server, and clocks that run unevenly. 60 s become 60.5 s.
WINDOW_MARGIN = 1 / 120

#: Part of the window by which a request may have left after its permit, when the second stamp is missing.
SEND_UNCERTAINTY = 1 / 2

#: Parts of the window to pause after the first, second, ... successive 429 without a Retry-After.
PAUSE_FRACTIONS = (1 / 6, 1 / 3, 2 / 3, 1.0, 2.0, 5.0)

#: Longest pause that a server may impose, in seconds: a wrong date must not stop the program for days.
MAX_SERVER_PAUSE = 3600.0


#: Boot of a machine without boot ids; there a monotonic clock that went back means another boot.
UNKNOWN_BOOT = "unknown"


class Stopped(Exception):
    """The wait for a permit was ended by a shutdown: nothing was sent."""


class Moment(NamedTuple):
    """A time on both clocks, in seconds; `mono` counts from the start of boot `boot`."""

    boot: str
    mono: float
    wall: float


class PermitStamp(NamedTuple):
    """When a permit was given or, with `is_sent`, the body of its request had left."""

    at: Moment
    is_sent: bool
    lane: str = "connect"


class Clock(Protocol):
    """A source of moments; tests have their own."""

    def now(self) -> Moment: ...


class MachineClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        try:
            self._boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            self._boot = UNKNOWN_BOOT

    def now(self) -> Moment:
        return Moment(self._boot, time.monotonic(), time.time())


def elapsed(then: Moment, now: Moment) -> float:
    """Return the seconds from `then` to `now`; a step of the wall clock within a boot changes nothing."""
    if then.boot == now.boot and (now.mono >= then.mono or now.boot != UNKNOWN_BOOT):
        return max(0.0, now.mono - then.mono)
    return min(max(0.0, now.wall - then.wall), now.mono)


def window_wait(now: float, send_times: Sequence[float], limit: int, window: float) -> float:
    """Return the wait in seconds; 0 when fewer than `limit` of `send_times` lie within `window` before now."""
    recent = sorted(at for at in send_times if now - at < window)
    return 0.0 if len(recent) < limit else recent[len(recent) - limit] + window - now


def permit_wait(stamps: Sequence[PermitStamp], now: Moment, limit: int, per_seconds: float) -> float:
    """Return the wait in seconds for stamps from several boots, including the margin for the journey.

    `per_seconds` is the window of the server.
    """
    window = per_seconds * (1 + WINDOW_MARGIN)
    send_times = []
    for stamp in stamps:
        age = elapsed(stamp.at, now)
        send_times.append(-age if stamp.is_sent else -max(0.0, age - per_seconds * SEND_UNCERTAINTY))
    return window_wait(0.0, send_times, limit, window)


def pause_seconds(strikes: int, per_seconds: float) -> float:
    """Return the seconds to pause after the n-th successive 429 without a Retry-After (n from 1)."""
    return PAUSE_FRACTIONS[min(strikes, len(PAUSE_FRACTIONS)) - 1] * per_seconds


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one request."""

    number: int
    lane: Lane


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How many requests may leave in any window."""

    requests: int = 60
    per_seconds: float = 60.0
    by_lane: Mapping[str, int] = field(default_factory=lambda: {"token": 3})  #: limits of lanes within the common one


class RateLimiter:
    """The permits of a state folder, stored in the ledger with one transaction per request."""

    def __init__(
        self,
        database: Database,
        *,
        limits: RateLimits = RateLimits(),
        clock: Clock | None = None,
        sleep: Callable[[float], object] = time.sleep,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`sleep` may return early when `is_stopped`."""
        self._database = database
        self._limits = limits
        self._clock = clock or MachineClock()
        self._sleep = sleep
        self._is_stopped = is_stopped

    def acquire(self, lane: Lane = "connect") -> Permit:
        """Wait until one more request may leave. Raises Stopped, StateError."""
        while True:
            if self._is_stopped():
                raise Stopped
            permit = self.try_acquire(lane)
            if isinstance(permit, Permit):
                return permit
            self._sleep(min(max(permit, 0.001), self._limits.per_seconds))

    def try_acquire(self, lane: Lane = "connect") -> Permit | float:
        """Return a permit, or the seconds until it is worth asking again."""
        with self._database.write() as db:
            now = self._clock.now()
            stamps = _load_stamps(db)
            wait = max(self._window_wait(stamps, lane, now), self._remaining_pause(db, lane, now))
            if wait > 0:
                return wait
            if len(stamps) > self._limits.requests * 2:
                self._delete_old_stamps(db, now)
            return Permit(db.insert("permits", {"lane": lane, "sent": 0, **now._asdict()}), lane)

    def mark_sent(self, permit: Permit) -> None:
        """Count the request from now: its last byte has left, or its response is here."""
        with self._database.write() as db:
            now = self._clock.now()
            db.update("permits", {"sent": 1, **now._asdict()}, "id = ?", permit.number)

    def clear_strikes(self, permit: Permit) -> None:
        """Forget earlier 429s of the lane: the server accepted a request."""
        with self._database.read() as db:
            strikes = db.scalar("SELECT strikes FROM pauses WHERE lane = ?", permit.lane)
        if strikes:
            with self._database.write() as db:
                db.update("pauses", {"strikes": 0}, "lane = ?", permit.lane)

    def pause_lane(self, permit: Permit, delay: float | None) -> float:
        """Pause the permit's lane after a 429 and return the seconds: `delay`, or longer after each 429 without one."""
        with self._database.write() as db:
            now = self._clock.now()
            strikes = (db.scalar("SELECT strikes FROM pauses WHERE lane = ?", permit.lane) or 0) + 1
            seconds = pause_seconds(strikes, self._limits.per_seconds) if delay is None else delay
            seconds = min(max(0.0, seconds), MAX_SERVER_PAUSE)
            seconds = max(seconds, self._remaining_pause(db, permit.lane, now))
            row = {"lane": permit.lane, "strikes": strikes, "seconds": seconds, **now._asdict()}
            db.insert("pauses", row, replace=True)
        return seconds

    def _window_wait(self, stamps: Sequence[PermitStamp], lane: Lane, now: Moment) -> float:
        """Return the seconds until the common limit and the lane's own allow one more request."""
        per_seconds = self._limits.per_seconds
        wait = permit_wait(stamps, now, self._limits.requests, per_seconds)
        if lane not in self._limits.by_lane:
            return wait
        lane_stamps = [stamp for stamp in stamps if stamp.lane == lane]
        return max(wait, permit_wait(lane_stamps, now, self._limits.by_lane[lane], per_seconds))

    @staticmethod
    def _remaining_pause(db: Connection, lane: str, now: Moment) -> float:
        row = db.execute("SELECT seconds, boot, mono, wall FROM pauses WHERE lane = ?", (lane,)).fetchone()
        if row is None:
            return 0.0
        seconds, boot, mono, wall = row
        return max(0.0, float(seconds) - elapsed(Moment(boot, mono, wall), now))

    def _delete_old_stamps(self, db: Connection, now: Moment) -> None:
        """Delete permits that are several windows old."""
        max_age = self._limits.per_seconds * 4
        old = [
            number
            for number, *then in db.execute("SELECT id, boot, mono, wall FROM permits")
            if elapsed(Moment(*then), now) > max_age
        ]
        db.execute(f"DELETE FROM permits WHERE id {IN_JSON}", (json_list(old),))


def _load_stamps(db: Connection) -> list[PermitStamp]:
    return [
        PermitStamp(Moment(boot, mono, wall), bool(sent), lane)
        for boot, mono, wall, sent, lane in db.execute("SELECT boot, mono, wall, sent, lane FROM permits")
    ]
