"""Reads one clean file of a million rows with several readers, side by side.

`python -m tests.benchmarks.reading [ROWS]`.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import clevercsv
import polars as pl

from etl import formats
from etl.model.tables import Dialect
from tests.support.tolerant_reading import read_tolerantly

ROUNDS = 9


def write(path: Path, rows: int, encoding: str, *, quoted: bool = False) -> None:
    """A price file: seven columns, a word beyond ASCII in every row."""
    with path.open("w", encoding=encoding, newline="") as stream:
        stream.write("PartNo;PriceList;Name;PriceSale;PriceRecommended;Currency;ValidFrom\n")
        mark = '"' if quoted else ""
        stream.writelines(
            f"{n:08d};SEK-{n % 5};{mark}Skruvmejsel blå {n % 977}{mark};{n * 37 % 99999 / 100:.2f};"
            f"{n * 41 % 99999 / 100:.2f};SEK;2026-01-{n % 28 + 1:02d}\n"
            for n in range(rows)
        )


def best(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The shortest of some rounds, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Prints the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        plain, page, quoted = (Path(folder, name) for name in ("utf8.csv", "cp1252.csv", "quoted.csv"))
        write(plain, rows, "utf-8")
        write(page, rows, "cp1252")
        write(quoted, rows, "utf-8", quoted=True)
        dialect, western = Dialect(delimiter=";"), Dialect(delimiter=";", encoding="windows-1252")

        def polars() -> pl.DataFrame:
            return pl.read_csv(plain, separator=";", infer_schema=False)

        def line(name: str, call: Callable[[], object], rounds: int = ROUNDS, times: int = 1) -> None:
            pairs = [(best(polars, 1), best(call, 1)) for _ in range(rounds)]  # by turns: the machine may be busy
            taken = times * min(pair[1] for pair in pairs)
            ratio = median(times * pair[1] / pair[0] for pair in pairs)
            print(f"{name:44}{taken:8.3f} s {ratio:6.2f}x", flush=True)

        size = plain.stat().st_size / 1e6
        print(f"{rows:,} rows, {size:.0f} MB, best of {ROUNDS}; ratio: median of as many turns with polars")
        line("polars.read_csv, all text", polars)
        line("ours, utf-8", lambda: formats.read_table(plain, dialect))
        line("ours, windows-1252", lambda: formats.read_table(page, western))
        line("polars.read_csv, encoding='cp1252'", lambda: _polars_page(page))
        line("ours, one quoted column", lambda: formats.read_table(quoted, dialect))
        line("ours, tolerant reader", lambda: read_tolerantly(plain, dialect, formats.ReadLimits()), 1)
        line("csv.reader, rows only", lambda: _csv(plain), 1)
        if importlib.util.find_spec("duckdb"):
            line("DuckDB read_csv, all text, into a table", lambda: _duckdb(plain))
        line("clevercsv.reader, rows only (a tenth, x 10)", lambda: _clevercsv(plain, rows // 10), 1, 10)
        line("detection", lambda: formats.detect_dialect(plain))


def _polars_page(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, separator=";", infer_schema=False, encoding="cp1252")


def _csv(path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as stream:
        return sum(1 for _ in csv.reader(stream, delimiter=";"))


def _clevercsv(path: Path, rows: int) -> int:
    with path.open(encoding="utf-8", newline="") as stream:
        lines = (line for _, line in zip(range(rows), stream, strict=False))
        return sum(1 for _ in clevercsv.reader(lines, delimiter=";"))


def _duckdb(path: Path) -> None:
    duckdb = importlib.import_module("duckdb")
    with duckdb.connect() as connection:
        connection.execute(f"create table t as select * from read_csv('{path}', delim=';', all_varchar=true)")


if __name__ == "__main__":
    main()
