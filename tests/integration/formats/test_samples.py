"""Real exports and fixtures from elsewhere: right, or refused with a true reason, and never wrong without a word."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl
import pytest

from etl import formats
from etl.errors import InvalidFileError
from etl.formats.excel.sheet import WorkbookError
from etl.formats.excel.workbook import WorkbookRequest, open_sheet, write_table
from etl.model.tables import Dialect, Table

SAMPLES = Path(os.environ.get("ETL_SAMPLES") or Path(__file__).parents[3].parent / "shared" / "samples")
MANIFEST = SAMPLES / "manifest.csv"
WORKBOOKS = ("xlsx", "xlsm", "xlsb", "xls", "ods")
pytestmark = pytest.mark.skipif(
    not MANIFEST.is_file(), reason=f"no sample files: ETL_SAMPLES or {SAMPLES.name}/ beside"
)

#: Record types of different width, without a header: as many columns as the widest record has.
WIDEST = {"datanorm_v4_datpreis.001": 30, "datanorm_v5_first_texts.001": 30, "nelfo_rabatt.csv": 17}
#: What is wrong in the file itself, and how many rows that costs.
TRULY_MALFORMED = {"akeneo_attributes.csv": 4, "nelfo_varer_small.csv": 1}
#: Workbooks that share a name but not their content: other data, or a cell that one of them does not have.
DIFFERENT = {
    *("roo_1900_base", "roo_1904_base", "test_git_issue_283_timespan", "simple", "sheet_with_formulas"),
    *("two_sheets_with_custom_names", "formula", "hidden_sheets", "style", "lonumbers", "number_format"),
}


def listed(kind: str) -> Iterator[dict[str, str]]:
    """The manifest's lines whose path begins so."""
    with MANIFEST.open(newline="", encoding="utf-8") as stream:
        yield from (line for line in csv.DictReader(stream) if line["path"].startswith(kind))


def balanced(table: Table) -> bool:
    return table.rows == table.frame.height + table.malformed.rows


def test_real_exports_are_read_right() -> None:
    """Every real text export is read with the manifest's shape, or its bad rows are named for a true reason."""
    seen = 0
    for line in listed("A_"):
        path = SAMPLES / line["path"]
        if line["encoding"] in WORKBOOKS:
            continue
        found = formats.detect_dialect(path)
        table = formats.read_table(path, found.dialect)
        seen += 1
        assert balanced(table), path.name
        assert table.rows == int(line["rows"]), path.name
        assert len(table.columns) == WIDEST.get(path.name, int(line["cols"])), path.name
        assert table.malformed.rows == TRULY_MALFORMED.get(path.name, 0), path.name
        assert found.dialect.header == int(line["header_record"]) + 1, path.name
        delimiter = "\t" if line["delimiter"] == "TAB" else line["delimiter"]
        assert found.dialect.delimiter == delimiter, path.name
    assert seen >= 1
    print(f"\nA: {seen} text exports read, {sum(TRULY_MALFORMED.values())} rows in 3 of them malformed")


def test_every_bad_row_of_the_real_exports_is_read_once_declared() -> None:
    """With a dialect that says what is odd about the source, its rows are all read."""
    wide = next(SAMPLES.glob("A_ecommerce/*/akeneo_attributes.csv"))
    found = formats.detect_dialect(wide)
    dialect = replace(found.dialect, columns=(*found.columns, "surplus"), short_rows="empty")
    assert formats.read_table(wide, dialect).malformed.rows == 0
    mixed = next(SAMPLES.glob("A_ecommerce/*/nelfo_varer_small.csv"))
    dialect = replace(formats.detect_dialect(mixed).dialect, short_rows="empty")
    assert formats.read_table(mixed, dialect).malformed.rows == 0


def test_alko_price_list() -> None:
    """Header in sheet row 4, 11,332 wines, leading zeros kept, a wrong dimension survived."""
    path = next(SAMPLES.glob("A_ecommerce/alko/*.xlsx"))
    found = formats.detect_dialect(path)
    assert found.dialect.header == 4
    table = formats.read_table(path, found.dialect)
    assert (table.rows, len(table.columns), table.malformed.rows) == (11_332, 30, 0)
    assert table.frame.get_column(table.columns[0]).str.starts_with("0").any()


def test_gold_files() -> None:
    """Files with a gold record list are equal to it, record by record."""
    seen = 0
    for line in listed("B_"):
        if not line["gold"]:
            continue
        path = SAMPLES / line["path"]
        dialect = replace(formats.detect_dialect(path).dialect, header=1, columns=())
        table = formats.read_table(path, dialect)
        rows = [{key: value or "" for key, value in row.items()} for row in table.frame.drop("_row").to_dicts()]
        gold = json.loads((SAMPLES / line["gold"]).read_text(encoding="utf-8"))
        assert rows == gold, path.name
        seen += 1
    print(f"\nB: {seen} gold files equal")
    assert seen >= 1


def test_messy_csv() -> None:
    """Nothing crashes or hangs, every file balances, and what is loaded is what Python's csv sees in that dialect."""
    outcome: Counter[str] = Counter()
    for line in listed("B_"):
        path = SAMPLES / line["path"]
        try:
            dialect = formats.detect_dialect(path).dialect
            table = formats.read_table(path, dialect)
        except InvalidFileError as error:
            outcome[f"refused: {error.code}"] += 1
            continue
        assert balanced(table), path.name
        outcome["loaded, some rows malformed" if table.malformed.rows else "loaded whole"] += 1
        if "|" not in dialect.encoding and dialect.escape is None and dialect.short_rows == "reject":
            assert_plain_reading_agrees(path, dialect, table)
    print("\nB:", dict(outcome.most_common()))


def assert_plain_reading_agrees(path: Path, dialect: Dialect, table: Table) -> None:
    """Every loaded row is among the records that a plain reading of the whole text gives."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    text = data.decode(dialect.encoding, "replace").lstrip("\ufeff")
    lines = io.StringIO(text, newline="")
    for _ in range(dialect.header - 1):
        lines.readline()
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    records = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, quoting=quoting)
    plain = {tuple(cell or None for cell in record)[: len(table.columns)] for record in records}
    loose = {row[1:] for row in table.frame.iter_rows()} - plain
    assert len(loose) <= table.malformed.rows * 3, (path.name, list(loose)[:2])


def test_workbooks_of_one_name_say_the_same(tmp_path: Path) -> None:
    """.xlsx, .xlsm, .xlsb, .xls and .ods of the same data give the same cells in the same rows, and the same faults."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(path for kind in WORKBOOKS for path in SAMPLES.glob(f"C_*/*/*.{kind}")):
        groups.setdefault((path.parent.name, path.stem.lower()), []).append(path)
    same = 0
    for (_, stem), paths in groups.items():
        if len(paths) < 2 or stem in DIFFERENT:
            continue
        found: list[tuple[object, list[tuple[int, int]]]] = []
        for path in paths:
            request = WorkbookRequest(
                str(path), path.name, str(tmp_path), Dialect(format="excel", header=0), formats.ReadLimits()
            )
            try:
                sheet = open_sheet(request)
                cells = sheet.to_frame()
                found.append(((cells.columns, cells.rows()), sorted(place[:2] for place in sheet.cell_errors)))
            except (WorkbookError, InvalidFileError) as error:
                found.append((str(error), []))
        assert all(one == found[0] for one in found), (stem, [path.suffix for path in paths])
        same += 1
    print(f"\nC: {same} workbooks in two formats or more, all equal")
    assert same > 40


def test_messy_workbooks(tmp_path: Path) -> None:
    """Nothing crashes or hangs; what is read balances, what is not is refused for a reason."""
    outcome: Counter[str] = Counter()
    for line in (*listed("C_"), *listed("A_ecommerce/alko")):
        path = SAMPLES / line["path"]
        request = WorkbookRequest(
            str(path), path.name, str(tmp_path), Dialect(format="excel", header=0), formats.ReadLimits()
        )
        try:  # in this process: the bounded one costs a third of a second each
            sheet = open_sheet(request)
            places = sheet.to_frame().columns[1:]
            if not places:
                outcome["nothing on the first sheet"] += 1
                continue
            width = int(places[-1])
            names = tuple(f"c{place}" for place in range(width))
            wanted = WorkbookRequest(
                request.path, path.name, str(tmp_path), replace(request.dialect, columns=names), request.limits
            )
            answer = write_table(sheet, wanted)
        except WorkbookError as error:
            outcome["refused: encrypted" if str(error) == "encrypted" else "refused: unreadable"] += 1
            continue
        except InvalidFileError as error:
            outcome[f"refused: {error.code}"] += 1
            continue
        bad = pl.read_ipc(tmp_path / "malformed")["row"].n_unique()
        assert answer.rows == pl.read_ipc(tmp_path / "frame").height + bad, path.name
        outcome["loaded, some rows malformed" if bad else "loaded whole"] += 1
    print("\nC:", dict(outcome.most_common()))
    assert outcome["loaded whole"] > 200
