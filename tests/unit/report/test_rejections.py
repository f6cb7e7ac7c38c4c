"""Rejections as people get them: grouped, as CSV, as a workbook."""

from __future__ import annotations

import csv
import io
from typing import Any

import openpyxl
import polars as pl
import pytest

from etl.model import tables
from etl.model.columns import ROW
from etl.model.schemas import REJECTION_SCHEMA
from etl.report import rejections, run_report
from tests.support.builders import PRICES, mapping, nothing, plan_file, table


def rejected(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=REJECTION_SCHEMA, orient="row")


def test_groups_count_everything_and_show_some() -> None:
    """One group for each column and rule, the largest first; counts are whole, rows and values are examples."""
    many = [(row, "price", "type", "x" * 500, f"line {row} is bad", "correct it") for row in range(2, 1002)]
    groups = rejections.group_rejections(rejected(*many, (7, "part", "empty", None, "is empty", "fill it")))
    assert [(g["column"], g["code"], g["count"], g["rows"]) for g in groups] == [
        ("price", "type", 1000, [2, 3, 4, 5, 6]),
        ("part", "empty", 1, [7]),
    ]
    assert groups[0]["message"] == "line 2 is bad"
    assert all(len(value) == 80 for value in groups[0]["values"])
    assert list(run_report.rejection_lines(groups)) == [
        "rejected 1000: price: line 2 is bad (rows 2, 3, 4, 5, 6 …); correct it",
        "rejected 1: part: is empty (row 7); fill it",
    ]
    assert rejections.group_rejections(rejected()) == []


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "\u00a0=1", "＝1"])
def test_no_cell_runs_as_a_formula(cell: str) -> None:
    """What a spreadsheet would run begins with an apostrophe; everything else is as it was, quotes and all."""
    plain = 'a "b", c; d\r\ne å'
    data = rejections.to_csv(rejected((2, cell, "type", cell, plain, None), (3, None, "type", "", "m", "h")))
    assert data.startswith(b"\xef\xbb\xbfrow,column,code,value,message,hint\r\n")
    first, second = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))[1:]
    assert first == ["2", "'" + cell, "type", "'" + cell, plain, ""]
    assert second == ["3", "", "type", "", "m", "h"]


def test_a_workbook_marks_the_bad_cells() -> None:
    """Rejected rows with their numbers and cells as text; bad cells have their reasons as comments."""
    rows = pl.DataFrame({ROW: [2, 5], "part": ["=1+1", None], "price": ["x", "9"]})
    found = rejected(
        (5, "part", "empty", None, "is empty", "fill it"),
        (2, "price", "type", "x", "is no decimal", "correct it"),
        (2, "price", "pattern", "x", "does not fit", "change it"),
        (3, "price", "excel-error", "#DIV/0!", "shows #DIV/0!", "correct the formula"),
        (5, None, "duplicate-key", None, "stands twice", "drop one"),
    )
    sheet = openpyxl.load_workbook(io.BytesIO(rejections.to_workbook(rows, found))).active
    assert sheet is not None
    cells = [[cell.value for cell in line] for line in sheet.iter_rows()]
    assert cells == [["row", "part", "price"], [2, "=1+1", "x"], [3, None, "#DIV/0!"], [5, None, "9"]]
    assert sheet["B2"].data_type == "s"
    notes = {cell.coordinate: cell.comment.text for line in sheet.iter_rows() for cell in line if cell.comment}
    assert notes == {
        "C2": "is no decimal: correct it\ndoes not fit: change it",
        "C3": "shows #DIV/0!: correct the formula",
        "B4": "is empty: fill it",
        "A4": "stands twice: drop one",
    }


def test_a_workbook_is_bounded() -> None:
    """Above its bound a workbook says how many rows are not in it."""
    count = tables.MAX_ANNOTATED_ROWS + 3
    rows = pl.DataFrame({ROW: range(2, count + 2), "part": ["x" * 40_000] + ["y"] * (count - 1)})
    found = rejected(*((row, "part", "type", "y", "bad", "fix") for row in range(2, count + 2)))
    made = rejections.to_workbook(rejections.rejected_cells([rows], found), found)
    sheet = openpyxl.load_workbook(io.BytesIO(made), read_only=True).active
    assert sheet is not None
    lines = [line[0] for line in sheet.iter_rows(values_only=True)]
    assert len(lines) == tables.MAX_ANNOTATED_ROWS + 2
    assert lines[-1] == "and 3 more rows: see rejections.csv"


def test_only_workbooks_keep_their_rejected_cells() -> None:
    """A plan of a workbook has the rejected rows as they came; one of a text file, or without rejections, has not."""
    source = table("part,price,cost\nA,x,1\nB,2,2\n")
    excel = PRICES.replace("content: full", "content: full, format: excel")
    made = plan_file(source, mapping(excel), nothing())
    assert made.rejected_cells is not None
    assert made.rejected_cells.rows() == [(2, "A", "x", "1")]
    assert plan_file(source, mapping(PRICES), nothing()).rejected_cells is None
    assert plan_file(table("part,price,cost\nB,2,2\n"), mapping(excel), nothing()).rejected_cells is None
