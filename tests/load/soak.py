"""`make soak`: one `etl run` that lives for a month of a told clock, with thousands of files; nothing grows.

The process that lives is this one, so its memory is what is looked at, after what only the test keeps (requests,
old jobs) was dropped. Told time makes a night pass in no time; files, SQLite and threads are real.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

DAY = 86_400.0


@dataclass(frozen=True)
class Soaked:
    """How it ended."""

    days: int
    files: int
    ended: int  #: runs that came to their end
    agrees: bool  #: whether Connect has what the newest files say
    growth: float  #: MB of resident memory from the third day on
    sends: int  #: rows in the gate's log
    kept: int  #: files in the state folder besides the archive
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.days} days, {self.files} files: {self.ended} runs ended, {'agrees' if self.agrees else 'DIFFERS'}; "
            f"memory grew by {self.growth:.1f} MB, {self.kept} files of state besides the archive, "
            f"{self.sends} stamps in the gate; {self.seconds:.0f} s"
        )


def soak(root: Path, days: int, files: int, seed: int = 1) -> Soaked:
    """Files at random moments of so many days, most of them a little different from the one before."""
    from etl.cli import run as work
    from etl.config import settings
    from tests.simulation.simulator import World, plain
    from tests.support.fake_clock import telling

    begun = time.monotonic()
    chance = random.Random(seed)
    world = World(root)
    world.settings(rescan_seconds=300)
    world.clock.idle = world.quiet  # nights in which nothing happens are skipped
    says = {feed: {f"P{number}": "1" for number in range(40)} for feed in ("stock", "prices")}
    said: dict[str, dict[str, str]] = {feed: {} for feed in says}
    memory: list[float] = []

    def come(feed: str) -> None:
        for part in chance.sample(sorted(says[feed]), chance.randrange(6)):
            says[feed][part] = str(chance.randrange(1, 10_000))
        whole = says[feed] if feed == "stock" else dict(chance.sample(sorted(says[feed].items()), 10))
        said[feed] |= whole
        world.drop(world.file(feed, dict(whole)))

    def evening() -> None:
        world.forget()
        gc.collect()
        _trim()
        memory.append(_resident())

    for _ in range(files):
        feed = chance.choice(["stock", "prices"])
        world.clock.at(chance.random() * (days - 0.1) * DAY, partial(come, feed))
    for day in range(days):
        world.clock.at((day + 0.95) * DAY, evening)
    world.clock.at(days * DAY + 600, lambda: os.kill(os.getpid(), signal.SIGTERM))
    nowhere = _Nowhere()
    with (
        contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), world.wired(), telling(world.clock)
    ):  # fmt: skip
        work.run(settings.load_settings(root / "etl.toml"), verbose=False)
    with world.ledger() as ledger:
        ended = sum(run.state.is_final for run in ledger.runs.list_recent(files + 10))
        agrees = all(
            world.stored(feed) == {part: plain(value) for part, value in values.items()}
            for feed, values in said.items()
        )
        with ledger.database.read() as db:
            sends = int(db.scalar("select count(*) from permits"))
    state = root / "var"
    kept = sum(path.is_file() and "archive" not in path.parts for path in state.rglob("*"))
    growth = max(memory[2:]) - memory[2] if len(memory) > 2 else 0.0
    return Soaked(days, files, ended, agrees, growth, sends, kept, time.monotonic() - begun)


class _Nowhere(io.StringIO):
    """Takes a month of log without keeping it."""

    def write(self, text: str) -> int:
        return len(text)


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def _trim() -> None:
    """Give freed memory back, so that what stays is what is held."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def main() -> int:
    """The long version, with its figures."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--days", type=int, default=30)
    words.add_argument("--files", type=int, default=4000)
    asked = words.parse_args()
    from tests.support import fake_clock as told

    told.install()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="etl-soak-", dir=memory) as folder:
        found = soak(Path(folder) / "shop", asked.days, asked.files)
    print(found)
    return 0 if found.ended == found.files and found.agrees and found.growth < 20 and found.kept < 40 else 1


if __name__ == "__main__":
    sys.exit(main())
