"""Runs work in fresh processes, by turns, and keeps seconds and peak memory."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Taken:
    """What one process took."""

    seconds: float
    work: float  #: seconds of processor time
    memory: float  #: MB at its peak
    said: str


@dataclass(slots=True)
class Series:
    """The same work several times, each beside its floor."""

    name: str
    floors: list[Taken] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of the ratios of neighbours: the machine may be busy, but it is for both of them."""
        return median(one.seconds / floor.seconds for one, floor in zip(self.taken, self.floors, strict=True))

    @property
    def work(self) -> float:
        """The same of processor time, which a busy machine hardly changes."""
        return median(one.work / floor.work for one, floor in zip(self.taken, self.floors, strict=True))

    @property
    def seconds(self) -> float:
        return median(one.seconds for one in self.taken)

    @property
    def memory(self) -> float:
        return median(one.memory for one in self.taken)

    @property
    def floor(self) -> float:
        return median(one.seconds for one in self.floors)


def process(*arguments: str, python: str = sys.executable) -> Taken:
    """One process from its start to its end; what it logs is shown only when it fails.

    As installed, it finds its modules compiled, whatever is set where this runs.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        child = subprocess.Popen([python, *arguments], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}\n{log.read()}")
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said.strip())


def job(name: str, *arguments: object) -> Taken:
    """A job of `tests.benchmarks.jobs`."""
    return process("-m", "tests.benchmarks.jobs", name, *map(str, arguments))


def by_turns(name: str, rounds: int, floor: Callable[[], Taken], work: Callable[[], Taken]) -> Series:
    """Floor and work after one another, so many times."""
    series = Series(name)
    for _ in range(rounds):
        series.floors.append(floor())
        series.taken.append(work())
    return series


def planned(folder: Path, feed: str, file: Path, state: Path | None, keep: Path | None = None) -> Taken:
    """The plan of a file over a state that nobody has touched before; its requests stay in the folder `keep`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "inbox").mkdir(parents=True)
    os.link(file, folder / "inbox" / file.name)
    if state is not None:
        shutil.copytree(state, folder / "var")
    else:
        (folder / "var").mkdir()
    os.sync()
    taken = job("plan", feed, folder)
    for payload in (folder / "var").glob("runs/*/[0-9]*.json") if keep is not None else ():
        shutil.copy(payload, str(keep))
    shutil.rmtree(folder)
    return taken


def small_parent() -> None:
    """A child's peak memory begins with what its parent has: this process has to stay small."""
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if mine > 60:
        raise SystemExit(f"the measuring process itself takes {mine:.0f} MB")


def files(made: Path, wanted: Sequence[tuple[str, int, float, float, str]]) -> dict[str, Path]:
    """Made-up exports by name, as (kind, rows, changed, bad, name); those that are there already are kept."""
    found = {}
    for kind, rows, changed, bad, name in wanted:
        path = made / name
        if not path.exists():
            job("export", kind, rows, changed, bad, path)
        found[name] = path
    return found
