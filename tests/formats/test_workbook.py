"""Excel sheets as tables of text."""

from __future__ import annotations

from pathlib import Path

import xlsxwriter

from etl import formats
from etl.model import Dialect


def test_header_in_any_row(tmp_path: Path) -> None:
    """Rows above the header are skipped, and rows keep their sheet row."""
    path = tmp_path / "prices.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for row, cells in enumerate([["Price list"], [], [], ["no", "price"], ["00123", 5], [], ["x", 1.5]]):
            sheet.write_row(row, 0, cells)
    table = formats.read(path, Dialect(format="excel", header=4))
    assert table.frame.rows() == [(5, "00123", "5"), (7, "x", "1.5")]
    assert table.rows == 2
