"""Excel sheets as tables of text."""

from __future__ import annotations

from pathlib import Path

import fastexcel
import polars as pl

from etl.errors import FileRefused
from etl.formats import header, refusals
from etl.formats.limits import Limits
from etl.formats.records import Malformed, without_blanks
from etl.model import ROW, Dialect, Rejections, Table


def read(path: Path, dialect: Dialect, limits: Limits) -> Table:
    """One sheet of a workbook."""
    where = path.name
    if path.stat().st_size == 0:
        raise refusals.empty(where)
    try:
        book = fastexcel.read_excel(path)
    except Exception:
        raise FileRefused(
            "workbook-unreadable", "this is no workbook that can be read", where=where, hint="save it again as .xlsx"
        ) from None
    sheet = dialect.sheet or book.sheet_names[0]
    if sheet not in book.sheet_names:
        raise FileRefused(
            "sheet-missing",
            f"there is no sheet {sheet!r}; there are {', '.join(book.sheet_names)}",
            where=where,
            hint="correct `sheet:` in the mapping",
        )
    frame = book.load_sheet(sheet, header_row=None, skip_rows=0, dtypes="string").to_polars()
    if frame.height < max(dialect.header, 1):
        raise refusals.no_header(where, dialect.header, frame.height)
    cells = [cell or "" for cell in frame.row(dialect.header - 1)] if dialect.header else list(dialect.columns)
    names = header.unique(dialect.columns or cells, where, dialect.header, limits.columns)
    frame.columns = list(names)
    frame = frame.slice(dialect.header)
    numbers = pl.int_range(dialect.header + 1, dialect.header + 1 + frame.height, dtype=pl.Int64, eager=True).alias(ROW)
    frame = without_blanks(frame.insert_column(0, numbers))
    return Table(frame, Rejections(Malformed().frame()), frame.height)
