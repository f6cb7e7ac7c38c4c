"""The rate limiter: never above the limit in any window as the server counts it, and nearly all of it used."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.connect.rate_limiter import (
    UNKNOWN_BOOT,
    MachineClock,
    Moment,
    Permit,
    PermitStamp,
    RateLimiter,
    RateLimits,
    Stopped,
    elapsed,
    pause_seconds,
    permit_wait,
    window_wait,
)
from etl.state.ledger import schema
from tests.support.campaign import few_or_all

DAY = 86_400.0


def most_in_window(times: list[float], window: float) -> int:
    """The largest number of times in any half-open window of this length."""
    ordered = sorted(times)
    return max((bisect_right(ordered, at + window - 1e-9) - n for n, at in enumerate(ordered)), default=0)


@given(
    sent=st.lists(st.floats(0, 1000), max_size=80),
    now=st.floats(0, 1000),
    limit=st.integers(1, 20),
    window=st.floats(0.1, 100),
)
def test_after_the_wait_the_limit_holds(sent: list[float], now: float, limit: int, window: float) -> None:
    """Waiting exactly as long as told leaves room for one more, and no shorter wait would."""
    past = [at for at in sent if at <= now]
    wait = window_wait(now, past, limit, window)
    assert wait >= 0
    later = now + wait + 1e-6
    assert sum(later - at < window for at in past) < limit
    if wait > 1e-3:
        assert sum(now + wait - 1e-3 - at < window for at in past) >= limit


def simulate(seed: int, seconds: float, lost: float, travel: float) -> list[float]:
    """Arrivals at the server of three processes with a backlog; restarts lose second stamps, clocks are stepped."""
    chance = random.Random(seed)
    stamps: deque[PermitStamp] = deque()
    arrivals: list[float] = []
    mono, wall_step, boot_at, boot = 0.0, 0.0, 0.0, 0

    def moment() -> Moment:
        return Moment(str(boot), mono - boot_at, 1e9 + mono + wall_step)

    while mono < seconds:
        wait = permit_wait(stamps, moment(), 60, 60.0)
        if wait > 0:
            mono += max(wait, 1e-6)
            continue
        journey = chance.random() * travel
        if chance.random() < lost:  # killed between the stamps; the request may still arrive
            stamps.append(PermitStamp(moment(), False))
        else:
            started = moment()
            stamps.append(PermitStamp(Moment(started.boot, started.mono + journey, started.wall + journey), True))
        arrivals.append(mono + journey + chance.random() * 0.05)
        mono += 0.001 if chance.random() < 0.7 else chance.random() * 0.5
        if chance.random() < 0.0005:
            wall_step += chance.choice([-3600.0, -90.0, 30.0, 7200.0])
        while stamps and elapsed(stamps[0].at, moment()) > 92:
            stamps.popleft()
    return arrivals


@pytest.mark.slow
def test_hours_with_a_backlog_keep_the_limit_and_use_it() -> None:
    """Hours (a day in a campaign), clock steps included: at most 60 arrive in any 60 s, and at least 97 % of them."""
    seconds = few_or_all(5, 24) * 3600.0
    arrivals = simulate(seed=1, seconds=seconds, lost=0.0, travel=0.2)
    assert most_in_window(arrivals, 60.0) <= 60
    assert len(arrivals) >= 0.97 * seconds


@pytest.mark.parametrize("seed", range(8))
def test_kills_and_slow_journeys_never_break_the_limit(seed: int) -> None:
    """Lost second stamps and bodies that travel for seconds cost throughput, not the promise."""
    arrivals = simulate(seed=seed, seconds=1800, lost=0.05, travel=8.0)
    assert most_in_window(arrivals, 60.0) <= 60


def test_age_ignores_steps_of_the_wall_clock_within_a_boot() -> None:
    """Within one boot only the monotonic clock counts."""
    assert elapsed(Moment("a", 10, 5000), Moment("a", 15, 99)) == 5


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (Moment("a", 900, 1000), Moment("b", 500, 1030), 30),
        (Moment("a", 900, 1000), Moment("b", 20, 9000), 20),
        (Moment("a", 900, 1000), Moment("b", 500, 400), 0),
        (Moment("unknown", 900, 1000), Moment("unknown", 20, 1030), 20),
        (Moment("a", 900, 1000), Moment("a", 899, 8000), 0),
    ],
)
def test_age_over_a_reboot_is_never_more_than_the_uptime(then: Moment, now: Moment, expected: float) -> None:
    """After a reboot the wall clock is believed only as far as this boot is long."""
    assert elapsed(then, now) == expected


def test_pauses_without_a_named_time_grow() -> None:
    """Each further 429 without Retry-After waits longer, up to a bound."""
    pauses = [pause_seconds(strikes, 60) for strikes in range(1, 10)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 10
    assert pauses[-1] == 300


class FakeClock:
    """A clock that sleeps instantly."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.boot = "one"

    def now(self) -> Moment:
        return Moment(self.boot, self.at, 1e9 + self.at)

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def limiters(tmp_path: Path, clock: FakeClock, count: int = 1, **more: int) -> list[RateLimiter]:
    return [
        RateLimiter(schema.open_database(tmp_path), limits=RateLimits(5, 60.0, more), clock=clock, sleep=clock.sleep)
        for _ in range(count)
    ]


def test_processes_share_one_log(tmp_path: Path) -> None:
    """Gates of several processes on one state folder together keep the limit, also after a restart."""
    clock = FakeClock()
    passed = []
    for _round in range(4):
        opened = limiters(tmp_path, clock, 3)
        for limiter in opened * 3:
            limiter.mark_sent(limiter.acquire())
            passed.append(clock.at)
        for limiter in opened:
            limiter._database.close()
    assert most_in_window(passed, 60.0) == 5
    assert passed[-1] - passed[0] <= 36 / 5 * 60.5


def test_token_lane_has_its_own_limit_within_the_common_one(tmp_path: Path) -> None:
    """Token requests stop at their own limit while others may still go, and they use up the common one."""
    clock = FakeClock()
    (limiter,) = limiters(tmp_path, clock, token=2)
    assert isinstance(limiter.try_acquire("token"), Permit)
    assert isinstance(limiter.try_acquire("token"), Permit)
    assert isinstance(limiter.try_acquire("token"), float)
    assert [isinstance(limiter.try_acquire(), Permit) for _ in range(4)] == [True, True, True, False]
    limiter._database.close()


def test_a_429_blocks_every_process_for_the_named_time(tmp_path: Path) -> None:
    """Retry-After holds for all rate limiters of the folder; the next response resets the pause."""
    clock = FakeClock()
    one, two = limiters(tmp_path, clock, 2)
    permit = one.acquire()
    assert one.pause_lane(permit, 17.0) == 17.0
    assert two.try_acquire() == pytest.approx(17.0)
    clock.at += 17.0
    again = two.acquire()
    assert two.pause_lane(again, None) == 20.0
    clock.at += 20.0
    two.clear_strikes(again)
    assert one.pause_lane(again, None) == 10.0
    for limiter in (one, two):
        limiter._database.close()


def test_old_stamps_are_forgotten(tmp_path: Path) -> None:
    """The log stays bounded over many requests."""
    clock = FakeClock()
    (limiter,) = limiters(tmp_path, clock)
    for _ in range(120):
        limiter.mark_sent(limiter.acquire())
    with limiter._database.read() as db:
        assert db.scalar("select count(*) from permits") < 40
    limiter._database.close()


def test_permits_several_windows_old_are_deleted_once_there_are_many(tmp_path: Path) -> None:
    """With more than twice the limit, those older than four windows go, and those of exactly four stay."""
    clock = FakeClock()
    (limiter,) = limiters(tmp_path, clock)
    counts = []
    for _ in range(12):
        assert isinstance(limiter.try_acquire(), Permit)
        with limiter._database.read() as db:
            counts.append(db.scalar("select count(*) from permits"))
        clock.at += 60.0
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 5]
    limiter._database.close()


def test_a_wait_is_as_long_as_told_also_a_short_one(tmp_path: Path) -> None:
    """Half a second before a place is free there is no permit; it is waited for exactly so long."""
    clock = FakeClock()
    (limiter,) = limiters(tmp_path, clock)
    for _ in range(5):
        limiter.mark_sent(limiter.acquire())
    clock.at += 60.0
    assert limiter.try_acquire() == pytest.approx(0.5)
    limiter.acquire()
    assert clock.at == pytest.approx(1060.5)
    limiter._database.close()


def test_a_shorter_pause_does_not_end_a_longer_one(tmp_path: Path) -> None:
    """What is left of an earlier pause counts; half a second is half a second, and less than none is none."""
    clock = FakeClock()
    (limiter,) = limiters(tmp_path, clock)
    permit = limiter.acquire()
    assert limiter.pause_lane(permit, 17.0) == 17.0
    clock.at += 7.0
    assert limiter.pause_lane(permit, 2.0) == 10.0
    clock.at += 10.0
    assert limiter.pause_lane(permit, 0.5) == 0.5
    clock.at += 1.0
    assert limiter.pause_lane(permit, -4.0) == 0.0
    assert limiter.pause_lane(permit, 1e9) == 3600.0
    limiter._database.close()


def test_the_machine_names_its_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes of one boot name the same; a machine that does not tell has an unknown one."""
    if Path("/proc/sys/kernel/random/boot_id").exists():
        assert MachineClock().now().boot == MachineClock().now().boot != UNKNOWN_BOOT

    def refuse(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert MachineClock().now().boot == UNKNOWN_BOOT


def test_waiting_ends_when_stopped(tmp_path: Path) -> None:
    """The wait for a permit ends as soon as a stop is asked for."""
    clock = FakeClock()
    (limiter,) = limiters(tmp_path, clock)
    limiter._is_stopped = lambda: clock.at > 1000.0
    for _ in range(5):
        limiter.acquire()
    with pytest.raises(Stopped):
        limiter.acquire()
    limiter._database.close()


class DayClock:
    """A machine's clocks through a day: restarts of the machine, and steps of the wall clock."""

    def __init__(self) -> None:
        self.true, self.boot, self.booted, self.step = 0.0, 0, -500.0, 0.0

    def now(self) -> Moment:
        return Moment(f"boot {self.boot}", self.true - self.booted, 1e9 + self.true + self.step)

    def sleep(self, seconds: float) -> None:
        self.true += seconds

    def reboot(self, down: float) -> None:
        """The machine stands still for a while; its monotonic clock starts anew."""
        self.true += down
        self.boot, self.booted = self.boot + 1, self.true - down / 2


@pytest.mark.slow
def test_a_day_of_processes_restarts_and_clock_steps_keeps_and_uses_the_limit(tmp_path: Path) -> None:
    """24 h with a backlog: three processes in turn, each replaced every hour, the wall clock stepped and the machine
    restarted in between. Never more than the limit in any window, at least 97 % used."""
    chance = random.Random(7)
    clock = DayClock()
    limit, per_seconds = (
        4,
        600.0,
    )  # a hundred-and-fiftieth of the true rate, so that a day of it goes through SQLite in seconds

    def opened() -> RateLimiter:
        return RateLimiter(
            schema.open_database(tmp_path),
            limits=RateLimits(limit, per_seconds, {}),
            clock=clock,
            sleep=clock.sleep,
        )

    passed: list[float] = []
    down = 0.0
    processes = [opened() for _ in range(3)]
    hour = 0
    while clock.true < DAY:
        limiter = chance.choice(processes)
        permit = limiter.acquire()
        limiter.mark_sent(permit)
        passed.append(clock.true)
        if clock.true // 3600 > hour:
            hour = int(clock.true // 3600)
            processes.pop(0)._database.close()  # a process ends, another one starts
            processes.append(opened())
            clock.step += chance.choice([-7200.0, -30.0, 45.0, 3600.0])
            if hour % 12 == 0:
                clock.step = 0.0  # the clock is right when the machine comes up
                clock.reboot(120.0)
                down += 120.0
    for limiter in processes:
        limiter._database.close()
    assert most_in_window(passed, per_seconds) <= limit
    assert len(passed) >= 0.97 * (DAY - down) * limit / per_seconds
