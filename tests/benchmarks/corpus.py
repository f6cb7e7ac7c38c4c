"""How many files of the corpora each reader gets right, side by side: `python -m tests.benchmarks.corpus [FILES]`.

Samples are judged by the manifest beside them: header and shape, for gold files every record. Polluted files are made
here and are judged cell by cell. DuckDB takes part where it is installed. What refuses is not wrong; what differs
without a word is.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl

from etl import formats
from etl.errors import InvalidFileError
from etl.formats.excel.sheet import WorkbookError
from etl.formats.excel.workbook import WorkbookRequest, open_sheet, write_table
from etl.model.columns import ROW
from etl.model.tables import Dialect
from tests.integration.formats import pollution

SAMPLES = Path(os.environ.get("ETL_SAMPLES") or Path(__file__).parents[2].parent / "shared" / "samples")
WORKBOOKS = ("xlsx", "xlsm", "xlsb", "xls", "ods")
SLOW = 20.0  #: seconds that no file may need

#: Header (None: it has none) and records of a file.
Shape = tuple[list[str], list[tuple[str | None, ...]]]
Reader = Callable[[Path], Shape]


def ours(path: Path) -> Shape:
    """Detection, then the reader; rows that it rejects are missing, which is said."""
    table = formats.read_table(path, formats.detect_dialect(path).dialect)
    if table.malformed.rows:
        raise InvalidFileError("rows", f"{table.malformed.rows} rows rejected", hint="")
    return list(table.columns), table.frame.drop(ROW).rows()


def by_polars(path: Path) -> Shape:
    frame = pl.read_csv(path, infer_schema=False)
    return frame.columns, frame.rows()


def by_clevercsv(path: Path) -> Shape:
    clevercsv = importlib.import_module("clevercsv")
    header, *rows = clevercsv.read_table(str(path))
    return header, [tuple(row) for row in rows]


def by_duckdb(path: Path) -> Shape:
    duckdb = importlib.import_module("duckdb")
    with duckdb.connect() as connection:
        found = connection.execute("select * from read_csv(?, all_varchar = true)", [str(path)])
        return [column[0] for column in found.description], found.fetchall()


READERS: dict[str, Reader] = {"ours": ours, "polars.read_csv": by_polars, "CleverCSV": by_clevercsv}
if importlib.util.find_spec("duckdb"):
    READERS["DuckDB read_csv"] = by_duckdb


def plain(rows: list[tuple[str | None, ...]]) -> list[tuple[str | None, ...]]:
    """Empty cells alike, and rows without any left out."""
    tidy = (tuple(cell or None for cell in row) for row in rows)
    return [row for row in tidy if any(row)]


def listed(kind: str) -> Iterator[dict[str, str]]:
    with (SAMPLES / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        yield from (line for line in csv.DictReader(stream) if line["path"].startswith(kind))


def header_of(line: dict[str, str]) -> list[str] | None:
    """The header that the manifest's encoding, delimiter and line give."""
    at = int(line["header_record"])
    if at < 0:
        return None
    delimiter = "\t" if line["delimiter"] == "TAB" else line["delimiter"]
    with (SAMPLES / line["path"]).open(encoding=line["encoding"], newline="") as stream:
        return list(csv.reader(stream, delimiter=delimiter))[at]


def judged(reader: Reader, line: dict[str, str]) -> str:
    """ "right", "wrong" or "refused" for a real export."""
    try:
        names, rows = reader(SAMPLES / line["path"])
    except Exception:  # every reader has its own
        return "refused"
    wanted = header_of(line)
    known = wanted is None or [name.lstrip("\ufeff") for name in names] == [
        name or f"column {at}" for at, name in enumerate(wanted, 1)
    ]
    if not known and wanted is not None:
        known = [name.strip("\ufeff") for name in names] == wanted
    wide = wanted is None or len(names) == int(line["cols"])
    return "right" if known and wide and len(plain(rows)) == int(line["rows"]) else "wrong"


def real() -> None:
    """A: real exports of shops, as text."""
    lines = [line for line in listed("A_") if line["encoding"] not in WORKBOOKS]
    print(f"\nA: {len(lines)} real exports as text, nothing declared")
    for name, reader in READERS.items():
        print(f"  {name:18}{counted(judged(reader, line) for line in lines)}")


def gold() -> None:
    """Files with a list of their records."""
    found: Counter[str] = Counter()
    for line in listed("B_"):
        if line["gold"]:
            path = SAMPLES / line["path"]
            table = formats.read_table(
                path, replace(formats.detect_dialect(path).dialect, header=1, skip=0, columns=())
            )
            rows = [{key: cell or "" for key, cell in row.items()} for row in table.frame.drop(ROW).to_dicts()]
            found["equal" if rows == json.loads((SAMPLES / line["gold"]).read_text("utf-8")) else "different"] += 1
    print(f"\ngold: {counted(found.elements())}")


def messy(kind: str) -> None:
    """B and C: fixtures of other projects, made to be bad."""
    found: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    slowest = 0.0
    for line in listed(kind):
        path, start = SAMPLES / line["path"], time.perf_counter()
        try:
            bad = workbook_here(path) if kind == "C_" else text_here(path)
            found["rows rejected by name" if bad else "read whole"] += 1
        except WorkbookError as error:
            found["refused"] += 1
            refused["workbook-encrypted" if str(error) == "encrypted" else "workbook-unreadable"] += 1
        except InvalidFileError as error:
            found["refused"] += 1
            refused[error.code] += 1
        slowest = max(slowest, time.perf_counter() - start)
        assert slowest < SLOW, path
    print(f"\n{kind[0]}: {counted(found.elements())}; the slowest took {slowest:.1f} s")
    print(f"  refused: {', '.join(f'{code} {count}' for code, count in refused.most_common())}")


def text_here(path: Path) -> int:
    """Number of rejected rows."""
    table = formats.read_table(path, formats.detect_dialect(path).dialect)
    assert table.rows == table.frame.height + table.malformed.rows, path
    return table.malformed.rows


def workbook_here(path: Path) -> int:
    """The same for a workbook, without the bounded process, which costs half a second each."""
    draft = Dialect(format="excel", header=0)
    with tempfile.TemporaryDirectory() as folder:
        request = WorkbookRequest(str(path), path.name, folder, draft, formats.ReadLimits())
        sheet = open_sheet(request)
        if not sheet.rows:
            raise InvalidFileError("file-empty", "nothing on the first sheet", where=path.name, hint="")
        width = max(col for cells in sheet.rows.values() for col in cells)
        names = tuple(f"column {at}" for at in range(1, width + 1))
        answer = write_table(
            sheet, WorkbookRequest(str(path), path.name, folder, replace(draft, columns=names), formats.ReadLimits())
        )
        bad = pl.read_ipc(Path(folder, "malformed"))["row"].n_unique()
        assert answer.rows == pl.read_ipc(Path(folder, "frame")).height + bad, path
        return bad


def polluted(files: int) -> None:
    """Files made here, each with a known answer."""
    print(f"\n{files} polluted files, nothing declared; right: every cell")
    totals: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "export.csv")
        for seed in range(files):
            made = pollution.make(seed)
            path.write_bytes(made.data)
            good = [row for row in made.rows.values() if row is not None]
            for name, reader in READERS.items():
                if name == "ours":
                    totals[name][of_ours(path, made)] += 1
                    continue
                try:
                    names, rows = reader(path)
                except Exception:
                    totals[name]["refused"] += 1
                    continue
                known = made.dialect.header == 0 or [title.strip("\ufeff") for title in names] == list(made.names)
                totals[name]["right" if known and plain(rows) == plain(good) else "wrong"] += 1
    for name, found in totals.items():
        print(f"  {name:18}{counted(found.elements())}")


def of_ours(path: Path, made: pollution.Polluted) -> str:
    try:
        found = pollution.verdict(made, formats.read_table(path, formats.detect_dialect(path).dialect))
    except InvalidFileError as error:
        found = pollution.verdict(made, error)
    word = found.partition(":")[0].lower()
    return word if word in ("right", "wrong", "refused") else "rows rejected by name"


def counted(words: Iterator[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def main() -> None:
    """Prints all of it."""
    warnings.simplefilter("ignore")
    csv.field_size_limit(sys.maxsize)
    if (SAMPLES / "manifest.csv").is_file():
        real()
        gold()
        messy("B_")
        messy("C_")
    else:
        print(f"no real files: neither ETL_SAMPLES nor {SAMPLES.name}/ beside the project is a folder of samples")
    with suppress(KeyboardInterrupt):
        polluted(int(sys.argv[1]) if len(sys.argv) > 1 else 500)


if __name__ == "__main__":
    main()
