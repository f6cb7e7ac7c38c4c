"""Reads .xls (BIFF 2 to 8) with xlrd, the one reader that keeps error cells and number formats of old workbooks."""

from __future__ import annotations

from pathlib import Path

import xlrd

from etl.formats.excel import cell_text
from etl.formats.excel.sheet import Sheet, SheetEntry, WorkbookError, choose_sheet
from etl.formats.limits import ReadLimits


def read_sheet(path: Path, sheet_name: str | None, header: int, limits: ReadLimits) -> Sheet:
    """Read one sheet."""
    try:
        book = xlrd.open_workbook(str(path), formatting_info=True, on_demand=True, logfile=_NullStream())
    except Exception as error:  # its errors on damaged files are of every kind
        if "encrypted" in str(error).lower():
            raise WorkbookError("encrypted") from None
        raise WorkbookError(f"it is no .xls that can be read ({type(error).__name__})") from None
    try:
        tabs = [
            SheetEntry(name, str(place), visible=book._sheet_visibility[place] == 0)
            for place, name in enumerate(book.sheet_names())
        ]
        if len(tabs) > limits.sheets:
            raise WorkbookError(f"it has {len(tabs)} sheets, more than {limits.sheets}")
        tab = choose_sheet(tabs, sheet_name, path.name)
        found = book.sheet_by_index(int(tab.part))
    except (IndexError, ValueError, TypeError, AssertionError, KeyError, xlrd.XLRDError) as error:
        raise WorkbookError(f"its sheet cannot be read ({type(error).__name__})") from None
    sheet = Sheet(tab.name, tabs)
    sheet.merged_ranges = [(top + 1, left + 1, bottom, right) for top, bottom, left, right in found.merged_cells]
    sheet.row_count = 0
    for row in range(found.nrows):
        values, kinds = found.row_values(row), found.row_types(row)
        at: dict[int, str] = {}
        for col, (value, kind) in enumerate(zip(values, kinds, strict=True)):
            if kind in (xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK) or value == "":
                continue
            text = _cell_text(book, found, row, col, value, kind)
            if text is None:
                text = cell_text.ERROR_TEXTS.get(value, "#ERROR") if kind == xlrd.XL_CELL_ERROR else f"{value:.15g}"
                sheet.cell_errors.append((row + 1, col + 1, text))
            at[col + 1] = text
        if at:
            sheet.rows[row + 1] = at
            sheet.row_count += row + 1 > header
    return sheet


def _cell_text(
    book: xlrd.Book, xls_sheet: xlrd.sheet.Sheet, row: int, col: int, value: object, kind: int
) -> str | None:
    """Return the cell's text; None when it holds no value."""
    if kind == xlrd.XL_CELL_TEXT:
        return str(value)
    if kind == xlrd.XL_CELL_BOOLEAN:
        return cell_text.boolean_text(bool(value))
    if kind in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE) and isinstance(value, float):
        try:
            style = book.xf_list[xls_sheet.cell_xf_index(row, col)]
            known = book.format_map.get(style.format_key)
            code = known.format_str if known else cell_text.BUILTIN_FORMATS.get(style.format_key, "")
        except (IndexError, xlrd.XLRDError):
            code = ""
        try:
            return cell_text.number_text(value, code, book.datemode == 1)
        except (ValueError, ArithmeticError):
            return None
    return None


class _NullStream:
    """xlrd writes its remarks on damaged files to a stream."""

    def write(self, _: str) -> None:
        return

    def flush(self) -> None:
        return
