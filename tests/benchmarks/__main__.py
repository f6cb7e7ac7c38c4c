"""`make bench`: what the product takes, beside floors measured in the same minutes, and whether that is good enough.

Every figure is a ratio of neighbours: floor and work run after one another, in processes of their own, by turns, so a
busy machine slows both. Ends with status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import measure
from tests.benchmarks.measure import Series, Taken, by_turns, job, planned, process

BENCH = measure.ROOT / ".venv-bench" / "bin" / "python"
ETL = Path(sys.executable).with_name("etl")


@dataclass(slots=True)
class Line:
    """A line of the table."""

    work: str
    figure: float
    unit: str
    goal: float | None
    aim: str = "most"  #: or "least"
    more: str = ""

    @property
    def missed(self) -> bool:
        if self.goal is None:
            return False
        return self.figure > self.goal if self.aim == "most" else self.figure < self.goal

    def shown(self) -> str:
        sign = "≤" if self.aim == "most" else "≥"
        goal = f"{sign} {self.goal:g} {self.unit}" if self.goal is not None else ""
        verdict = "" if self.goal is None else "MISSED" if self.missed else "ok"
        return f"{self.work:62} {self.figure:8.2f} {self.unit:5} {goal:12} {verdict:6} {self.more}"


class Bench:
    """Made-up files and states in one folder, and the lines so far."""

    def __init__(self, folder: Path, rounds: int, scale: float) -> None:
        self.folder = folder
        self.rounds = rounds
        self.scale = scale
        self.lines: list[Line] = []

    def rows(self, count: int) -> int:
        return max(1000, int(count * self.scale))

    def file(self, kind: str, rows: int, name: str, changed: float = 0.0, bad: float = 0.0) -> Path:
        """A made-up export, made once."""
        path = self.folder / f"{kind}-{rows}-{name}"
        if not path.exists():
            job("export", kind, rows, changed, bad, path)
        return path

    def state(self, feed: str, file: Path) -> Path:
        """A state in which all of a file is accepted, made once."""
        path = self.folder / f"state-{feed}-{file.name}"
        if not path.exists():
            job("seed", feed, file, path)
        return path

    def say(self, *lines: Line) -> None:
        for line in lines:
            self.lines.append(line)
            print(line.shown(), flush=True)

    def plan(
        self,
        feed: str,
        file: Path,
        state: Path | None,
        floor: Callable[[], Taken],
        rounds: int = 0,
        keep: Path | None = None,
    ) -> Series:
        work = self.folder / "work"
        return by_turns(feed, rounds or self.rounds, floor, lambda: planned(work, feed, file, state, keep))

    # -- the lines ----------------------------------------------------------------------------------------------

    def prices(self, rows: int, goal: float | None, memory: float | None, rounds: int = 0) -> Series:
        """An ordinary day: two rows in a hundred have changed."""
        state = self.state("prices", self.file("prices", rows, "1.csv"))
        today = self.file("prices", rows, "2.csv", 0.02)
        plain = self.file("prices", rows, "2.utf8.csv", 0.02)
        series = self.plan("prices", today, state, lambda: job("floor", plain, "prices"), rounds)
        name = f"{rows:,} prices, windows-1252, 2 % changed: claim to stored plan"
        self.say(
            Line(name, series.ratio, "x", goal, more=told(series)),
            Line(f"{rows:,} prices: peak memory", series.memory, "MB", memory),
        )
        return series

    def unchanged(self, rows: int) -> None:
        """The same file again: nothing to send."""
        file = self.file("prices", rows, "1.csv")
        state = self.state("prices", file)
        plain = self.file("prices", rows, "1.utf8.csv")
        series = self.plan("prices", file, state, lambda: job("floor", plain, "prices"))
        requests = float(series.taken[0].said.split()[-2])
        self.say(
            Line(f"{rows:,} prices, none changed", series.ratio, "x", 3.5, more=told(series)),
            Line(f"{rows:,} prices, none changed: requests", requests, "", 0),
        )

    def bad(self, rows: int) -> None:
        """A file in which every fifth row is bad, beside the same one without bad rows."""
        state = self.state("prices", self.file("prices", rows, "1.csv"))
        good = self.file("prices", rows, "2.csv", 0.02)
        bad = self.file("prices", rows, "bad.csv", 0.02, 0.2)
        work = self.folder / "work"
        series = self.plan("prices", bad, state, lambda: planned(work, "prices", good, state))
        self.say(Line(f"{rows:,} prices, 20 % bad rows, all reported: to the good file", series.ratio, "x", 2.0))

    def products(self, rows: int) -> None:
        """Products of 25 columns with cultures and variants: an ordinary day, and the first."""
        first = self.file("products", rows, "1.csv")
        state = self.state("products", first)
        today = self.file("products", rows, "2.csv", 0.01)
        plain = self.file("products", rows, "2.utf8.csv", 0.01)
        series = self.plan("products", today, state, lambda: job("floor", plain, "products"))
        more = told(series)
        self.say(Line(f"{rows:,} product rows x 25, 1 % changed", series.ratio, "x", 5.0, more=more))
        load = self.plan("products", first, None, lambda: job("floor", plain, "products"), 2)
        self.say(
            Line(f"{rows:,} product rows x 25, first load: peak memory", load.memory, "MB", 1000),
            Line(f"{rows:,} product rows x 25, first load", load.ratio, "x", None),
        )

    def sheet(self, rows: int) -> None:
        """A workbook, beside the bare reader of the same file."""
        file = self.file("prices", rows, "1.xlsx")
        floor = lambda: process("-m", "tests.benchmarks.jobs", "floor_sheet", str(file), python=str(BENCH))  # noqa: E731
        series = self.plan("sheet", file, None, floor)
        more = told(series)
        self.say(Line(f"{rows:,} rows of .xlsx, claim to plan: to bare calamine", series.ratio, "x", 3.0, more=more))

    def update(self, rows: int) -> None:
        """One accepted record in a hundred gets other values: what a run writes for that, durably."""
        file = self.file("prices", rows, "1.csv")
        state = self.state("prices", file)
        plain = self.file("prices", rows, "1.utf8.csv")
        floors = [job("floor", plain, "prices") for _ in range(self.rounds)]
        written = [float(job("update", state, rows // 100).said) for _ in range(self.rounds)]
        ratio = sorted(written)[len(written) // 2] / sorted(one.seconds for one in floors)[len(floors) // 2]
        self.say(Line(f"1 % of {rows:,} accepted records updated durably", ratio, "x", 0.1))

    def duckdb(self, rows: int, ours: Series, rounds: int = 0) -> None:
        """The same comparison in SQL, which checks nothing: from a UTF-8 copy that is there, and from the same file."""
        old = self.file("prices", rows, "1.utf8.csv")
        plain = self.file("prices", rows, "2.utf8.csv", 0.02)
        same = self.file("prices", rows, "2.csv", 0.02)
        floor = lambda: job("floor", plain, "prices")  # noqa: E731
        for name, new, what, goal in (
            ("duckdb", plain, "given a UTF-8 copy", None),
            ("decoding_duckdb", same, "from the same file", 1.0),
        ):
            theirs = by_turns(name, rounds or self.rounds, floor, lambda: self.peer(name, old, new))  # noqa: B023
            ratio = ours.ratio / theirs.ratio
            self.say(Line(f"{rows:,} prices: ours to DuckDB SQL {what}", ratio, "x", goal, more=told(theirs)))

    def peer(self, name: str, old: Path, new: Path, keep: Path | None = None) -> Taken:
        """A peer's requests for what has changed, in the folder `keep`, else in one that is removed."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            words = f"{name}_prices", str(old), str(new), str(keep or out)
            return process("-m", "tests.benchmarks.peers", *words, python=str(BENCH))

    def load(self, rows: int, *, with_dlt: bool) -> None:
        """The first load of products to a server that takes everything at once, the limit lifted."""
        plain = self.file("products", rows, "1.utf8.csv")
        cp1252 = self.file("products", rows, "1.csv")
        ours = by_turns(
            "load", self.rounds, lambda: self.posted("polars", plain), lambda: self.loaded("products", cp1252)[0]
        )
        more = told(ours)
        self.say(Line(f"{rows:,} x 25 to an HTTP sink, whole product: to a script", ours.ratio, "x", 1.8, more=more))
        if with_dlt:
            dlt = self.posted("dlt", plain)
            self.say(
                Line("the same: dlt to ours", dlt.seconds / ours.seconds, "x", 8.0, "least", f"{dlt.seconds:.1f} s")
            )

    def posted(self, name: str, file: Path, keep: Path | None = None) -> Taken:
        with sink(keep) as (port, _):
            url = f"http://127.0.0.1:{port}/import"
            return process("-m", "tests.benchmarks.peers", f"{name}_products", str(file), url, python=str(BENCH))

    def loaded(self, feed: str, file: Path, keep: Path | None = None) -> tuple[Taken, float]:
        """`etl once` over a file, and the seconds until its first request."""
        root = self.folder / "once"
        shutil.rmtree(root, ignore_errors=True)
        (root / "inbox").mkdir(parents=True)
        os.link(file, root / "inbox" / f"{feed}.csv")
        job("write_mapping", feed, root / "feed.yaml")
        with sink(keep) as (port, told):
            (root / "etl.toml").write_text(
                f'[connect]\nbase_url = "http://127.0.0.1:{port}"\nscope = "playground"\napplication_id = 1\n'
                'account_id = 1\nclient_id = "bench"\n[limits]\nrequests = 100000\nper_seconds = 1\n'
                '[paths]\nmappings = "."\n[watch]\nsettle_seconds = 0\n'
            )
            os.environ["ETL_CLIENT_SECRET"] = "bench"
            start = time.time()
            taken = process(str(ETL), "--config", str(root / "etl.toml"), "once", "--json", python=sys.executable)
            found = told()
        shutil.rmtree(root)
        return taken, found["first"] - start

    def first_request(self, rows: int) -> None:
        """From the start of the command to the first request that arrives."""
        file = self.file("prices", rows, "1.csv")
        seconds = sorted(self.loaded("prices", file)[1] for _ in range(self.rounds))[self.rounds // 2]
        self.say(Line(f"{rows:,} prices, `etl once`: start of the command to first request", seconds, "s", 2.0))

    def commands(self) -> None:
        """The command line."""
        for words in (["--help"], ["status"]):
            taken = sorted(process(str(ETL), *words).seconds for _ in range(max(5, self.rounds)))
            self.say(Line(f"etl {words[0]}", taken[len(taken) // 2], "s", 0.15))


@contextmanager
def sink(keep: Path | None = None) -> Iterator[tuple[int, Callable[[], dict[str, float]]]]:
    """A server of `tests.benchmarks.sink`; what came is told when it has stopped, and is in the folder `keep`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sink", *([str(keep)] if keep is not None else [])],
        cwd=measure.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    port = int(child.stdout.readline())

    def told() -> dict[str, float]:
        out, _ = child.communicate()
        found: dict[str, float] = json.loads(out)
        return found

    try:
        yield port, told
    finally:
        if child.poll() is None:
            child.communicate()


def told(series: Series) -> str:
    """What stands beside a ratio."""
    return f"{series.seconds:.2f} s, floor {series.floor:.2f} s; processor {series.work:.1f} x; {series.memory:.0f} MB"


def versions(*peers: str) -> str:
    """What was measured, where and when; of peers as they are in their own environment."""
    with open("/proc/loadavg") as file:
        load = file.read().split()[0]

    def told(names: tuple[str, ...], python: str) -> str:
        code = "import importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in " + repr(names) + "))"
        return process("-c", code, python=python).said

    said = told(peers, str(BENCH)) if peers else told(("polars", "pandera", "httpx"), sys.executable)
    python, cores = sys.version.split()[0], os.cpu_count()
    return f"{time.strftime('%Y-%m-%d %H:%M')}, Python {python}, {said}, {cores} cores, load {load}"


def main() -> None:
    """Prints the table; status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (fewer while developing)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--only", nargs="*", default=[], help="lines by method name")
    parser.add_argument("--folder", type=Path, help="where made-up files stay for the next time")
    given = parser.parse_args()
    measure.small_parent()
    print(versions(), flush=True)
    with tempfile.TemporaryDirectory(prefix="etl-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, given.rounds, given.scale)
        for name, line in table(bench).items():
            if not given.only or name in given.only:
                line()
    if missed := [line.work for line in bench.lines if line.missed]:
        print(f"missed: {'; '.join(missed)}")
        raise SystemExit(1)


def table(bench: Bench) -> dict[str, Callable[[], object]]:
    """The lines by name, in order."""
    million = bench.rows(1_000_000)

    def day() -> None:
        bench.duckdb(million, bench.prices(million, 4.5, 450))

    def five() -> None:
        rows, rounds = bench.rows(5_000_000), max(1, bench.rounds // 2)
        bench.duckdb(rows, bench.prices(rows, 6.0, 800, rounds), rounds)

    def growth() -> None:
        for count, memory in ((100_000, None), (10_000_000, 1200)):
            bench.prices(bench.rows(count), None, memory, 1)

    return {
        "day": day,
        "five": five,
        "unchanged": lambda: bench.unchanged(million),
        "bad": lambda: bench.bad(million),
        "products": lambda: bench.products(bench.rows(200_000)),
        "load": lambda: bench.load(bench.rows(300_000), with_dlt=True),
        "sheet": lambda: bench.sheet(bench.rows(100_000)),
        "first": lambda: bench.first_request(bench.rows(100_000)),
        "update": lambda: bench.update(bench.rows(5_000_000)),
        "commands": bench.commands,
        "growth": growth,
    }


if __name__ == "__main__":
    main()
