"""One gate for every request: never more than the limit in any window, shared by all processes of a state folder.

What counts is what the *server* sees. A request is stamped when it is let in and again when its body has left; the
next request of that slot waits for the later stamp to be a whole window (and a margin for the journey) old. A
request whose second stamp was lost in a crash is taken to have left somewhat later than it was let in.

Ages are measured on the monotonic clock of one boot, so that steps of the wall clock change nothing. A stamp of
another boot is as old as the wall clock says, but never older than this boot.

The token endpoint has a lane of its own within the same gate (3 per minute and address,
https://docs.norce.io/api-reference/accessing-apis-with-oauth2-accounts.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from etl.state.ledger.database import IN_JSON, Connection, Database, json_list

Lane = Literal["connect", "token"]

#: Part of the window added to it: the journey to the server, and clocks that run unevenly. 60 s become 60.5 s.
WINDOW_MARGIN = 1 / 120

#: Part of the window by which a request may have left after it was let in, when its second stamp is missing.
SEND_UNCERTAINTY = 1 / 2

#: Parts of the window to pause after the first, second, ... 429 that names no time.
PAUSE_FRACTIONS = (1 / 6, 1 / 3, 2 / 3, 1.0, 2.0, 5.0)

#: Longest pause a server may impose, in seconds: a wrong date must not stop us for days.
MAX_SERVER_PAUSE = 3600.0


#: Boot of a machine that does not tell: then a monotonic clock that went back means another boot.
UNKNOWN_BOOT = "unknown"


class Stopped(Exception):
    """The gate was asked to stop waiting: nothing was sent."""


class Moment(NamedTuple):
    """A time on both clocks, in seconds; `mono` counts from the start of boot `boot`."""

    boot: str
    mono: float
    wall: float


class PermitStamp(NamedTuple):
    """A request that had leave at that moment, or whose body was sent by then (`is_sent`)."""

    at: Moment
    is_sent: bool
    lane: str = "connect"


class Clock(Protocol):
    """Tells the time. Tests bring their own."""

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
    """Seconds from `then` to `now`, never more than truly passed when the wall clock was stepped within a boot."""
    if then.boot == now.boot and (now.mono >= then.mono or now.boot != UNKNOWN_BOOT):
        return max(0.0, now.mono - then.mono)
    return min(max(0.0, now.wall - then.wall), now.mono)


def window_wait(now: float, send_times: Sequence[float], limit: int, window: float) -> float:
    """Seconds to wait before one more may go: 0 when fewer than `limit` of `sent` lie within `window` before now."""
    recent = sorted(at for at in send_times if now - at < window)
    return 0.0 if len(recent) < limit else recent[len(recent) - limit] + window - now


def permit_wait(stamps: Sequence[PermitStamp], now: Moment, limit: int, per_seconds: float) -> float:
    """The same for stamps on machine clocks, margins included; `per_seconds` is what the server counts over."""
    window = per_seconds * (1 + WINDOW_MARGIN)
    sent = []
    for stamp in stamps:
        passed = elapsed(stamp.at, now)
        sent.append(-passed if stamp.is_sent else -max(0.0, passed - per_seconds * SEND_UNCERTAINTY))
    return window_wait(0.0, sent, limit, window)


def pause_seconds(strikes: int, per_seconds: float) -> float:
    """Seconds to pause after the n-th 429 in a row without a named time (n from 1)."""
    return PAUSE_FRACTIONS[min(strikes, len(PAUSE_FRACTIONS)) - 1] * per_seconds


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to send one request."""

    number: int
    lane: Lane


class RateLimiter:
    """The durable shell around `wait_for`: the sliding log lives in the ledger, one transaction per request."""

    def __init__(
        self,
        database: Database,
        *,
        limit: int = 60,
        per_seconds: float = 60.0,
        lane_limits: Mapping[str, int] | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], object] = time.sleep,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`lanes` are limits of single lanes within the common one; `sleep` may return early when `stopped`."""
        self._database = database
        self._limit = limit
        self._per_seconds = per_seconds
        self._lane_limits = {"token": 3} if lane_limits is None else dict(lane_limits)
        self._clock = clock or MachineClock()
        self._sleep = sleep
        self._is_stopped = is_stopped

    def acquire(self, lane: Lane = "connect") -> Permit:
        """Wait until one more request may go. Raises Stopped, StateError."""
        while True:
            if self._is_stopped():
                raise Stopped
            found = self.try_acquire(lane)
            if isinstance(found, Permit):
                return found
            self._sleep(min(max(found, 0.001), self._per_seconds))

    def try_acquire(self, lane: Lane = "connect") -> Permit | float:
        """A ticket, or the seconds to wait before asking again."""
        with self._database.write() as db:
            now = self._clock.now()
            stamps = [
                PermitStamp(Moment(boot, mono, wall), bool(sent), kept)
                for boot, mono, wall, sent, kept in db.execute("SELECT boot, mono, wall, sent, lane FROM permits")
            ]
            wait = max(
                permit_wait(stamps, now, self._limit, self._per_seconds),
                self._remaining_pause(db, lane, now),
            )
            if lane in self._lane_limits:
                own = [stamp for stamp in stamps if stamp.lane == lane]
                wait = max(wait, permit_wait(own, now, self._lane_limits[lane], self._per_seconds))
            if wait > 0:
                return wait
            if len(stamps) > self._limit * 2:
                self._delete_old_stamps(db, now)
            return Permit(db.insert("permits", {"lane": lane, "sent": 0, **now._asdict()}), lane)

    def mark_sent(self, permit: Permit) -> None:
        """The request's last byte has left (or its answer is here): it counts from now."""
        with self._database.write() as db:
            now = self._clock.now()
            db.update("permits", {"sent": 1, **now._asdict()}, "id = ?", permit.number)

    def clear_strikes(self, permit: Permit) -> None:
        """The server took the request: earlier 429s are forgotten."""
        with self._database.read() as db:
            known = db.scalar("SELECT strikes FROM pauses WHERE lane = ?", permit.lane)
        if known:
            with self._database.write() as db:
                db.update("pauses", {"strikes": 0}, "lane = ?", permit.lane)

    def pause_lane(self, permit: Permit, delay: float | None) -> float:
        """A 429: nobody sends on this lane for the time returned, in seconds."""
        with self._database.write() as db:
            now = self._clock.now()
            strikes = (db.scalar("SELECT strikes FROM pauses WHERE lane = ?", permit.lane) or 0) + 1
            seconds = pause_seconds(strikes, self._per_seconds) if delay is None else delay
            seconds = min(max(0.0, seconds), MAX_SERVER_PAUSE)
            seconds = max(seconds, self._remaining_pause(db, permit.lane, now))
            row = {"lane": permit.lane, "strikes": strikes, "seconds": seconds, **now._asdict()}
            db.insert("pauses", row, replace=True)
        return seconds

    @staticmethod
    def _remaining_pause(db: Connection, lane: str, now: Moment) -> float:
        row = db.execute("SELECT seconds, boot, mono, wall FROM pauses WHERE lane = ?", (lane,)).fetchone()
        if row is None:
            return 0.0
        seconds, boot, mono, wall = row
        return max(0.0, float(seconds) - elapsed(Moment(boot, mono, wall), now))

    def _delete_old_stamps(self, db: Connection, now: Moment) -> None:
        """Rows that can no longer matter, judged with room to spare."""
        old = self._per_seconds * 4
        gone = [
            number
            for number, *then in db.execute("SELECT id, boot, mono, wall FROM permits")
            if elapsed(Moment(*then), now) > old
        ]
        db.execute(f"DELETE FROM permits WHERE id {IN_JSON}", (json_list(gone),))
