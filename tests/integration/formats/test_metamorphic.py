"""The same data, written another way, gives the very same requests."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import xlsxwriter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl import formats
from etl.formats.excel import workbook
from etl.model.tables import Dialect, Rejections, Table
from etl.plan.requests import make_requests
from tests.support.builders import mapping, nothing, plan_file
from tests.support.campaign import few_or_all

#: `make metamorphic` asks for 500.
EXAMPLES = int(os.environ.get("ETL_EXAMPLES") or few_or_all(40, 500))
FEED = mapping("""
feed: lists
operation: Product/ImportPriceLists
source: {files: "*", content: full}
columns:
  code: {required: true}
  margin: {type: decimal}
  from: {type: date}
  public: {type: boolean}
record:
  Code: code
  Name: name
  Description: text
  DefaultMinMarginPercent: margin
  StartDate: from
  IsPublic: public
""")
NAMES = ("code", "name", "text", "margin", "from", "public", "note")
#: Nobody maps it; it makes the file's text that of a language, where the other columns hold letters at random.
NOTE = "Blå räksmörgås på Åland, kökshylla för små smörgåsbord, grön låda på höjden, blåbärssås från Öland, "
ROW = st.tuples(
    st.text("ABCåäö0123", min_size=1, max_size=6),
    st.text(' aåÄé0;,|\t"', max_size=4),
    st.text(' aåÄé"\n', max_size=8),
    st.one_of(st.just(""), st.decimals(-9999, 9999, places=2).map(str), st.just("x")),
    st.one_of(st.just(""), st.dates(date(2000, 1, 1), date(2040, 1, 1)).map(str)),
    st.sampled_from(["", "ja", "nej", "true", "0"]),
    st.just(NOTE * 2),
)

Rows = list[tuple[str, ...]]


def requests(table: Table, dialect: Dialect) -> list[tuple[Any, bytes]]:
    """Headers and payloads of the plan."""
    feed = replace(FEED, source=replace(FEED.source, dialect=dialect))
    return [(request.header, request.payload) for request in make_requests(plan_file(table, feed, nothing()))]


def as_csv(path: Path, order: Sequence[int], rows: Rows, dialect: Dialect, end: str = "\n", bom: bool = False) -> Table:
    stream = io.StringIO()
    quoted = bom or end == "\r"
    writer = csv.writer(
        stream, delimiter=dialect.delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    )
    for row in (NAMES, *rows):
        writer.writerow([row[at] for at in order])
    mark = b"\xef\xbb\xbf" if bom and dialect.encoding == "utf-8" else b""
    path.write_bytes(mark + stream.getvalue().encode(dialect.encoding))
    return formats.read_table(path, dialect)


def as_workbook(folder: Path, order: Sequence[int], rows: Rows, *, typed: bool) -> Table:
    """Numbers and dates as texts, or as the cells that Excel makes of them; read in this process, to be quick."""
    path = folder / "x.xlsx"
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd"}) as book:
        sheet = book.add_worksheet()
        for line, row in enumerate((NAMES, *rows)):
            for at, source in enumerate(order):
                cell = row[source]
                if typed and line and NAMES[source] == "from" and cell:
                    sheet.write_datetime(line, at, date.fromisoformat(cell))
                elif typed and line and NAMES[source] == "margin" and cell not in ("", "x"):
                    sheet.write_number(line, at, float(cell))
                elif cell:
                    sheet.write_string(line, at, cell)
    request = workbook.WorkbookRequest(str(path), path.name, str(folder), Dialect(format="excel"), formats.ReadLimits())
    answer = workbook.write_table(workbook.open_sheet(request), request)
    frames = (pl.read_ipc(io.BytesIO((folder / name).read_bytes())) for name in ("frame", "malformed"))
    return Table(next(frames), Rejections(next(frames)), answer.rows)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, min_size=1, max_size=6, unique_by=lambda row: row[0]),
    order=st.permutations(range(len(NAMES))),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "windows-1252", "latin-1"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    typed=st.booleans(),
)
@example([("A", "", "", "-0.00", "", "", NOTE)], [0, 1, 2, 3, 4, 5, 6], ",", "utf-8", "\n", False, True)
def test_writing_changes_nothing(
    tmp_path: Path,
    rows: Rows,
    order: list[int],
    delimiter: str,
    encoding: str,
    end: str,
    bom: bool,
    typed: bool,
) -> None:
    """Order of columns, delimiter, encoding, line ends, quoting, byte order mark, workbook: the requests are equal."""
    plain = Dialect()
    path = tmp_path / "x.csv"
    wanted = requests(as_csv(path, range(len(NAMES)), rows, plain), plain)
    other = Dialect(delimiter=delimiter, encoding=encoding)
    assert requests(as_csv(path, order, rows, other, end, bom), other) == wanted
    excel = Dialect(format="excel")
    assert requests(as_workbook(tmp_path, order, rows, typed=typed), excel) == wanted
