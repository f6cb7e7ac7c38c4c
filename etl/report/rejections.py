"""Rejections for people: grouped by column and rule, as a CSV, and as a workbook with comments on the bad cells.

Everything is counted, only examples are shown, and no row passes through Python on its way into the CSV: a million
bad rows cost seconds. What a spreadsheet would run as a formula is defused wherever it is written.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import polars as pl

from etl.model.columns import REJECTION_COLUMNS, ROW
from etl.model.tables import MAX_ANNOTATED_ROWS

#: Rows and values that are shown for each group.
EXAMPLES_PER_GROUP = 5
#: What one cell of a workbook holds, with room for its escapes.
_MAX_CELL_CHARS = 30_000
#: Spreadsheets run a cell that starts like this as a formula, also behind blanks.
_FORMULA_START = r"^[\s\u00a0\u200b\ufeff]*[=+\-@\t\r\n＝＋－＠]"


def group_rejections(rejections: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one entry for each column and rule, most frequent first: all counted, some rows shown."""
    if rejections.is_empty():
        return []
    groups = rejections.group_by("column", "code", "hint", maintain_order=True).agg(
        pl.len().alias("count"),
        pl.col("message").first(),
        pl.col("row").head(EXAMPLES_PER_GROUP).alias("rows"),
        pl.col("value").head(EXAMPLES_PER_GROUP).str.head(80).alias("values"),
    )
    names = ["column", "code", "count", "message", "hint", "rows", "values"]
    return groups.sort("count", descending=True, maintain_order=True).select(names).to_dicts()


def to_csv(rejections: pl.DataFrame) -> bytes:
    """Return one line for each reason, as a spreadsheet opens it."""
    texts = [
        pl.when(_is_formula(name)).then("'" + pl.col(name)).otherwise(name).alias(name)
        for name in REJECTION_COLUMNS[1:]
    ]
    stream = io.BytesIO()
    rejections.select("row", *texts).write_csv(stream, include_bom=True, line_terminator="\r\n")
    return stream.getvalue()


def _is_formula(name: str) -> pl.Expr:
    return pl.col(name).str.contains(_FORMULA_START)


def rejected_cells(frames: Iterable[pl.DataFrame], rejections: pl.DataFrame) -> pl.DataFrame:
    """Return the cells of the rejected rows as in the file, at most as many rows as their workbook shows."""
    rejected_rows = rejections["row"].unique().implode()
    return pl.concat([frame.filter(pl.col(ROW).is_in(rejected_rows)) for frame in frames]).head(MAX_ANNOTATED_ROWS)


def to_workbook(rows: pl.DataFrame, rejections: pl.DataFrame) -> bytes:
    """Return the rejected rows with their row numbers and cells, the bad cells marked and commented.

    Cells are texts and stay texts. A row that could not be read at all has the bad cell only.
    """
    from xlsxwriter import Workbook

    names = [name for name in rows.columns if name != ROW]
    cells = {row[ROW]: row for row in rows.iter_rows(named=True)}
    shown = rejections.filter(pl.col("row").is_not_null()).sort("row", maintain_order=True)
    numbers = shown["row"].unique(maintain_order=True).head(MAX_ANNOTATED_ROWS)
    shown = shown.filter(pl.col("row").is_in(numbers.implode()))
    stream = io.BytesIO()
    with Workbook(stream, {"in_memory": True}) as book:
        sheet = book.add_worksheet("rejections")
        head, bad = book.add_format({"bold": True}), book.add_format({"bg_color": "#FFC7CE"})
        last = numbers.len()
        sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{last + 1}"})
        for at, name in enumerate(["row", *names]):
            sheet.write_string(0, at, name[:_MAX_CELL_CHARS], head)
        place = {name: at for at, name in enumerate(names, 1)}
        line = {number: at for at, number in enumerate(numbers, 1)}
        for number, at in line.items():
            sheet.write_number(at, 0, number)
            for name, cell in cells.get(number, {}).items():
                if name != ROW and cell is not None:
                    sheet.write_string(at, place[name], cell[:_MAX_CELL_CHARS])
        for (number, column), reasons in _reasons_by_cell(shown).items():
            at, over = line[number], place.get(column, 0)
            cell = cells.get(number, {}).get(column) or next((value for value, _ in reasons if value), "")
            if not over:
                sheet.write_number(at, 0, number, bad)
            elif cell:
                sheet.write_string(at, over, cell[:_MAX_CELL_CHARS], bad)
            else:
                sheet.write_blank(at, over, None, bad)
            sheet.write_comment(at, over, "\n".join(reason for _, reason in reasons)[:_MAX_CELL_CHARS], {"x_scale": 2})
        hidden_rows = rejections["row"].n_unique() - last
        if hidden_rows > 0:
            sheet.write_string(last + 1, 0, f"and {hidden_rows} more rows: see rejections.csv", head)
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, last, len(names))
    return stream.getvalue()


def _reasons_by_cell(rejections: pl.DataFrame) -> dict[tuple[int, str], list[tuple[str | None, str]]]:
    """Return values with reasons, by row number and column."""
    reasons: dict[tuple[int, str], list[tuple[str | None, str]]] = {}
    for row, column, _, value, message, hint in rejections.select(REJECTION_COLUMNS).iter_rows():
        reason = f"{message}: {hint}" if hint else str(message)
        reasons.setdefault((row, column or ""), []).append((value, reason))
    return reasons
