"""Walks over the points at which `etl once` can die: `python -m tests.crash.walk`, the work of `make crash`.

Each walk sets the stage as it was after day one, lets one or more lives end where ordered, lets the last one live,
and compares everything with a day without trouble.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.scenario import Outcome, Theatre, theatre

KILLED = -9
#: How the command may end by itself: all is well, some rows rejected, some records refused by Connect.
FINE = (0, 4, 5)
FAULTS = ("ENOSPC", "EIO", "EMFILE", "EROFS")

Order = dict[str, Any]


class Diverged(AssertionError):
    """The end state is not that of an undisturbed day."""


def undisturbed(on: Theatre, order: Order | None = None) -> tuple[Outcome, int]:
    """The oracle, and how many points there were on the way."""
    on.reset()
    life = on.live_once(**(order or {}))
    assert life.status in FINE, life.err
    found = on.outcome()
    on.promises()
    return found, life.points


def converge(on: Theatre, oracle: Outcome, orders: Sequence[Order]) -> int:
    """Lives that end as ordered, then one that may live. How many really ended early. Raises Diverged."""
    on.reset()
    early = 0
    for order in orders:
        life = on.live_once(**order)
        early += life.status not in FINE
        if order.get("mode") in FAULTS:
            _clear(life.status, life.err, order)
        elif life.status not in (KILLED, *FINE):
            raise Diverged(f"{order}: ended with {life.status}\n{life.err[-2000:]}")
    last = on.live_once()
    if last.status not in FINE:
        raise Diverged(f"the last life ended with {last.status}\n{last.err[-2000:]}")
    try:
        found = on.outcome()
        on.promises()
    except AssertionError as error:
        raise Diverged(str(error)) from error
    for name in Outcome.__dataclass_fields__:
        if getattr(found, name) != getattr(oracle, name):
            raise Diverged(f"{name}:\n  {getattr(found, name)}\n  instead of\n  {getattr(oracle, name)}")
    again = sum(on.sends().values()) - on.usual
    whole = len(orders) - early  # lives that nothing ended: each sends once more what is still owed
    if again > 4 * early + whole:
        raise Diverged(f"{again} requests were sent again after {early} early ends")
    return early


def _clear(status: int, err: str, order: Order) -> None:
    """A failing disk ends the command with a sentence, or it did not matter."""
    if status in FINE:
        return
    if status != 1 or "error[" not in err or "defect" in err or "hint:" not in err or "Traceback" in err:
        raise Diverged(f"{order}: ended with {status}\n{err[-3000:]}")


# -- many of them ---------------------------------------------------------------------------------------------------


def single(oracle_points: int, share: float = 1.0, seed: int = 0) -> list[list[Order]]:
    """A kill at each point (or an even share of them)."""
    step = max(1, round(1 / share))
    return [[{"at": at}] for at in range(1 + seed % step, oracle_points + 1, step)]


def pairs(points: int, count: int, seed: int) -> list[list[Order]]:
    """A kill, and another one while the first is being made good."""
    chance = random.Random(seed)
    return [[{"at": chance.randrange(1, points)}, {"at": chance.randrange(1, points)}] for _ in range(count)]


def power_cuts(points: int, count: int, seed: int) -> list[list[Order]]:
    """What was not synced is lost as well."""
    chance = random.Random(seed)
    return [[{"at": chance.randrange(1, points), "mode": "power"}] for _ in range(count)]


def torn(count: int) -> list[list[Order]]:
    """Half of a write, then nothing."""
    return [[{"at": at, "mode": "torn"}] for at in range(1, count + 1)]


def faults(points: int, count: int, seed: int) -> list[list[Order]]:
    """The disk fails at the n-th call: once, or from then on."""
    chance = random.Random(seed)
    made: list[list[Order]] = []
    for number in range(count):
        mode = FAULTS[number % len(FAULTS)]
        made.append([{"at": chance.randrange(1, points), "mode": mode, "sticky": bool(number // len(FAULTS) % 2)}])
    return made


class Worker:
    """One theatre per process, set up when it is first needed."""

    on: Theatre | None = None
    oracle: Outcome | None = None
    exit: Any = None


def work(orders: list[Order]) -> tuple[list[Order], int, str | None]:
    """One walk in a worker process: its orders, how many lives ended early, and what went wrong."""
    if Worker.on is None:
        folder = tempfile.mkdtemp(prefix="etl-crash-", dir=_memory())
        Worker.exit = theatre(Path(folder))
        Worker.on = Worker.exit.__enter__()
        Worker.oracle, _ = undisturbed(Worker.on)
        Worker.on.usual = sum(Worker.on.sends().values())
    assert Worker.oracle is not None
    try:
        return orders, converge(Worker.on, Worker.oracle, orders), None
    except Diverged as error:
        return orders, 0, str(error)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True)
class Staged:
    """A theatre with its oracle, and how many points there are in a mode."""

    on: Theatre
    oracle: Outcome
    points_of: Callable[[str], int]


@contextmanager
def staged() -> Iterator[Staged]:
    """Set up for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="etl-crash-", dir=_memory()) as folder, theatre(Path(folder)) as on:
        oracle, points = undisturbed(on)
        on.usual = sum(on.sends().values())
        yield Staged(on, oracle, lambda mode: points if mode == "kill" else undisturbed(on, {"mode": mode})[1])


def main() -> int:
    """All of it, with counts."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--pairs", type=int, default=500)
    words.add_argument("--power", type=int, default=80)
    words.add_argument("--faults", type=int, default=120)
    words.add_argument("--share", type=float, default=0.5, help="of the single points")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--workers", type=int, default=max(1, (multiprocessing.cpu_count() or 2)))
    asked = words.parse_args()
    with staged() as stage:
        points, faulty, tears = (stage.points_of(mode) for mode in ("kill", "EIO", "torn"))
    plan = {
        "single points": single(points, asked.share, asked.seed),
        "random pairs": pairs(points, asked.pairs, asked.seed),
        "power cuts": power_cuts(points, asked.power, asked.seed),
        "torn writes": torn(tears),
        "disk faults": faults(faulty, asked.faults, asked.seed),
    }
    bad = 0
    begun = time.monotonic()
    print(f"{points} points, {faulty} calls that a disk can fail, {tears} writes", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
        for name, walks in plan.items():
            early: Counter[bool] = Counter()
            for orders, ended, trouble in pool.map(work, walks):
                early[ended > 0] += 1
                if trouble:
                    bad += 1
                    print(f"DIVERGED {orders}: {trouble}", flush=True)
            took = time.monotonic() - begun
            print(f"{name}: {len(walks)} walks, {early[True]} ended early; {took:.0f} s", flush=True)
    print(f"{sum(map(len, plan.values()))} walks, {bad} did not converge")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
