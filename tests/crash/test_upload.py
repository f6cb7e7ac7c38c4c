"""Stopping dead before or after any durable effect of an upload, and going on.

Effects are ledger transactions and HTTP exchanges. After the blow every further effect of the old process fails
too, as if it were gone; a new one on the same folder must reach the end state of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from etl.config.secrets import Secret
from etl.connect.client import ConnectClient
from etl.connect.http_exchange import Call, HttpOptions, Response
from etl.sandbox import Fault, RunningSandbox, SandboxSettings, run_in_thread
from tests.support.stage import STOCK, Stage, parts


class Killed(BaseException):
    """The process is gone."""


class Blow:
    """Falls at the n-th point; each effect has a point before and one after."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0
        self._lock = threading.Lock()

    def point(self) -> None:
        with self._lock:
            self.count += 1
            if self.at is not None and self.count >= self.at:
                raise Killed


def fragile(state: Path, live: RunningSandbox, blow: Blow) -> Stage:
    """A stage whose effects pass the blow's points."""
    on = Stage(state, live.sandbox, live.url, unfinished=2, per_seconds=0.6)
    on.connect.close()
    http = HttpOptions(timeout=httpx.Timeout(2))
    on.connect = ConnectClient(on.settings, Secret("sandbox"), on.gate, on.ledger.tokens, http=http)
    exchange, whole = on.connect._http.send, on.ledger.database.write

    def send(call: Call, *, on_sent: Callable[[], None]) -> Response:
        blow.point()
        response = exchange(call, on_sent=on_sent)
        blow.point()
        return response

    on.connect._http.send = send  # type: ignore[method-assign, assignment]

    @contextlib.contextmanager
    def write() -> Iterator[Any]:
        blow.point()
        with whole() as connection:
            yield connection
        blow.point()

    on.ledger.database.write = write  # type: ignore[method-assign]
    return on


def attempt(
    state: Path, live: RunningSandbox, keys: dict[tuple[str, int], list[str]], at: int | None
) -> tuple[bool, int]:
    """One life of a process: whether it came to the end, and how many points it passed."""
    blow = Blow(None)
    on = fragile(state, live, blow)
    on.keys = keys
    blow.at = at
    try:
        return on.go(patience=20), blow.count
    except Killed:
        return False, blow.count
    finally:
        blow.at = None
        on.close()


def begin(state: Path, live: RunningSandbox) -> dict[tuple[str, int], list[str]]:
    """A planned run: three chunks, one record refused by name, one found by halving."""
    live.sandbox.inject(Fault(kind="refuse", path=STOCK, keys=("P-0002",), times=0))
    live.sandbox.inject(Fault(kind="refuse", path=STOCK, keys=("P-0005",), name_row=False, times=0))
    on = Stage(state, live.sandbox, live.url)
    on.plan(parts(1, 3), parts(4, 2), parts(6, 2))
    on.close()
    return on.keys


def check(state: Path, live: RunningSandbox, keys: dict[tuple[str, int], list[str]]) -> None:
    """The oracle: ledger and sandbox as after an undisturbed run."""
    on = Stage(state, live.sandbox, live.url)
    on.keys = keys
    expected = set(parts(1, 7)) - {"P-0002", "P-0005"}
    try:
        assert on.accepted() == on.stored() == expected
        assert {item.key for item in on.ledger.record_errors.list_by_run("r1")} == {"P-0002", "P-0005"}
        assert on.ledger.chunks.list_by_run("r1", unfinished=True) == ()
    finally:
        on.close()


def converge(folder: Path, blows: list[int]) -> int:
    """Run with a blow at each of these points in turn, then undisturbed; the points of the first life."""
    folder.mkdir()
    passed = 0
    with run_in_thread(SandboxSettings(requests=10_000)) as live:
        keys = begin(folder, live)
        for life, at in enumerate([*blows, None]):
            done, count = attempt(folder, live, keys, at)
            passed = passed or count
            if done:
                break
            assert life < len(blows)
        check(folder, live, keys)
    return passed


@pytest.mark.slow
@pytest.mark.parametrize("offset", range(4))
def test_every_single_crash_point_converges(tmp_path: Path, offset: int) -> None:
    """A stop at any point is made good by the next start: a sixth of them here, all of the command in `make crash`."""
    points = converge(tmp_path / "whole", [])
    for at in range(1 + offset * 6, points + 1, 24):
        converge(tmp_path / str(at), [at])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_crashes_during_recovery_converge(tmp_path: Path, seed: int) -> None:
    """A second stop while the first is being made good changes nothing either."""
    chance = random.Random(seed)
    for number in range(2):
        converge(tmp_path / str(number), [chance.randrange(1, 120), chance.randrange(1, 60)])
