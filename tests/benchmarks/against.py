"""`make bench-peers`: the same work through what one would otherwise write or take, in the same minutes.

None of the others checks a row, follows a job, or survives a crash; see `tests/benchmarks/peers.py`. What each of them
has made is held against what the script in polars has made; it ends with status 1 when they differ.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import measure
from tests.benchmarks.__main__ import Bench, versions
from tests.benchmarks.measure import Series, Taken, by_turns, job

#: Too slow to be run more than once.
ONCE = ("petl", "dlt")


class Table:
    """One table of all works and tools, and the folders that requests are kept in."""

    def __init__(self, bench: Bench, kept: Path) -> None:
        self.bench = bench
        self.kept = kept

    def head(self) -> None:
        print(f"{'':52} {'seconds':>8} {'to read':>8} {'cpu':>7} {'MB':>6}  records", flush=True)

    def line(self, work: str, tool: str, measured: Callable[[Path], Series]) -> None:
        """A tool's line; what it has made has to be what polars, which comes first, has made."""
        folder = self.kept / work / tool.partition(" ")[0]
        folder.mkdir(parents=True)
        series = measured(folder)
        records = job("same", self.kept / work / "polars", folder).said
        print(
            f"{work:21} {tool:30} {series.seconds:8.2f} {series.ratio:8.2f} {series.work:7.1f} {series.memory:6.0f}"
            f"  {records}",
            flush=True,
        )

    def rounds(self, name: str) -> int:
        return 1 if name in ONCE else self.bench.rounds


def prices(table: Table, rows: int) -> None:
    """What differs between two price files, as requests on disk, and the new snapshot."""
    bench = table.bench
    old, new = bench.file("prices", rows, "1.utf8.csv"), bench.file("prices", rows, "2.utf8.csv", 0.02)
    state = bench.state("prices", bench.file("prices", rows, "1.csv"))
    today = bench.file("prices", rows, "2.csv", 0.02)
    work = f"{rows:,} prices, 2 %"

    def floor() -> Taken:
        return job("floor", new, "prices")

    def peer(name: str) -> Callable[[Path], Series]:
        return lambda keep: by_turns(name, table.rounds(name), floor, lambda: bench.peer(name, old, new, keep))

    table.line(work, "polars script", peer("polars"))
    table.line(work, "connect-etl (checked, durable)", lambda keep: bench.plan("prices", today, state, floor, 0, keep))
    for name in ("duckdb", "pandas", "petl"):
        table.line(work, name, peer(name))


def products(table: Table, rows: int) -> None:
    """All products of a file, nested and posted to a server."""
    bench = table.bench
    plain, today = bench.file("products", rows, "1.utf8.csv"), bench.file("products", rows, "1.csv")
    work = f"{rows:,} rows x 25, first"

    def floor() -> Taken:
        return job("floor", plain, "products")

    def peer(name: str) -> Callable[[Path], Series]:
        return lambda keep: by_turns(name, table.rounds(name), floor, lambda: bench.posted(name, plain, keep))

    def ours(keep: Path) -> Series:
        return by_turns("ours", bench.rounds, floor, lambda: bench.loaded("products", today, keep)[0])

    table.line(work, "polars script", peer("polars"))
    table.line(work, "connect-etl (jobs followed)", ours)
    table.line(work, "dlt", peer("dlt"))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="make bench-peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    measure.small_parent()
    print(versions("polars", "duckdb", "pandas", "petl", "dlt"))
    with tempfile.TemporaryDirectory(prefix="etl-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, given.rounds, given.scale)
        table = Table(bench, Path(temporary, "kept"))
        table.head()
        prices(table, bench.rows(1_000_000))
        products(table, bench.rows(300_000))


if __name__ == "__main__":
    main()
