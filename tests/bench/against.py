"""`make bench-peers`: the same work through what one would otherwise write or take, in the same minutes.

None of the others checks a row, follows a job, or survives a crash; see `tests/bench/peers.py`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.bench import measure
from tests.bench.__main__ import Bench, versions
from tests.bench.measure import Series, Taken, by_turns, job


def show(name: str, series: Series) -> None:
    """A line of the table."""
    print(f"{name:44} {series.seconds:8.2f} s {series.ratio:7.2f} x {series.memory:7.0f} MB", flush=True)


def prices(bench: Bench, rows: int) -> None:
    """What differs between two price files, as requests on disk, and the new snapshot."""
    old, new = bench.file("prices", rows, "1.utf8.csv"), bench.file("prices", rows, "2.utf8.csv", 0.02)
    state = bench.state("prices", bench.file("prices", rows, "1.csv"))
    today = bench.file("prices", rows, "2.csv", 0.02)
    print(f"{rows:,} prices, 2 % changed: seconds, ratio to polars.read_csv, peak memory")

    def floor() -> Taken:
        return job("floor", new, "prices")

    show("connect-etl (windows-1252, checked, durable)", bench.plan("prices", today, state, floor))
    for name in ("polars", "duckdb", "pandas", "petl"):
        rounds = 1 if name == "petl" else bench.rounds
        show(f"{name} (UTF-8)", by_turns(name, rounds, floor, lambda name=name: bench.peer(name, old, new)))  # type: ignore[misc]


def products(bench: Bench, rows: int) -> None:
    """All products of a file, nested and posted to a server."""
    plain, today = bench.file("products", rows, "1.utf8.csv"), bench.file("products", rows, "1.csv")
    print(f"{rows:,} product rows x 25, first load to an HTTP sink")

    def floor() -> Taken:
        return job("floor", plain, "products")

    show("connect-etl (checked, durable, jobs followed)",
         by_turns("ours", bench.rounds, floor, lambda: bench.loaded("products", today)[0]))  # fmt: skip
    for name, rounds in (("polars", bench.rounds), ("dlt", 1)):
        show(f"{name} (posted only)", by_turns(name, rounds, floor, lambda name=name: bench.posted(name, plain)))  # type: ignore[misc]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(prog="make bench-peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    measure.small_parent()
    print(versions())
    with tempfile.TemporaryDirectory(prefix="etl-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, given.rounds, given.scale)
        prices(bench, bench.rows(1_000_000))
        products(bench, bench.rows(300_000))


if __name__ == "__main__":
    main()
