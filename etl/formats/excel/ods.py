"""Reads .ods: values are stored with their type, and beside them the text that people see."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from etl.formats.excel import xml
from etl.formats.excel.cell_text import boolean_text, plain_number
from etl.formats.excel.sheet import Sheet, SheetEntry, WorkbookError, choose_sheet
from etl.formats.limits import ReadLimits

MAX_REPEAT = 1_000  #: more equal rows or cells than that are the empty rest of a sheet


class _ContentParser:
    """Builds every sheet's cells; repeated empty ones only move on."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self.sheets: dict[str, Sheet] = {}
        self.entries: list[SheetEntry] = []
        self.hidden_styles: set[str] = set()
        self.style_name = ""
        self.sheet = Sheet("")
        self.row = self.col = 0
        self.row_repeat = self.column_repeat = 1
        self.row_cells: dict[int, str] = {}
        self.value_type = self.value = ""
        self.is_error = False
        self.paragraphs: list[str] = []
        self.paragraph_depth = 0  #: within text:p
        self.in_note = False

        self.start_handlers: dict[str, Callable[[dict[str, str]], None]] = {
            "table": self.start_table,
            "style": self.start_style,
            "table-properties": self.start_table_properties,
            "table-row": self.start_row,
            "table-cell": self.start_cell,
            "covered-table-cell": self.start_cell,
            "annotation": self.start_note,
            "p": self.start_paragraph,
            "s": self.start_spaces,
            "tab": lambda _: self.text("\t"),
            "line-break": lambda _: self.text("\n"),
        }
        self.end_handlers: dict[str, Callable[[], None]] = {
            "annotation": self.end_note,
            "p": self.end_paragraph,
            "table-cell": self.end_cell,
            "covered-table-cell": self.end_cell,
            "table-row": self.end_row,
        }

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if handler := self.start_handlers.get(name):
            handler(attributes)

    def end(self, name: str) -> None:
        if handler := self.end_handlers.get(name):
            handler()

    def start_table(self, attributes: dict[str, str]) -> None:
        name = attributes.get("table:name", "")
        visible = attributes.get("table:style-name", "") not in self.hidden_styles
        self.sheet = self.sheets[name] = Sheet(name)
        self.entries.append(SheetEntry(name, name, visible))
        self.row = 0

    def start_style(self, attributes: dict[str, str]) -> None:
        self.style_name = attributes.get("style:name", "")

    def start_table_properties(self, attributes: dict[str, str]) -> None:
        if attributes.get("table:display") == "false":
            self.hidden_styles.add(self.style_name)

    def start_row(self, attributes: dict[str, str]) -> None:
        self.row_repeat = int(attributes.get("table:number-rows-repeated", 1))
        self.col, self.row_cells = 0, {}

    def start_cell(self, attributes: dict[str, str]) -> None:
        self.column_repeat = int(attributes.get("table:number-columns-repeated", 1))
        self.value_type = attributes.get("office:value-type", "")
        self.is_error = attributes.get("calcext:value-type") == "error"
        self.value = attributes.get(VALUE_ATTRIBUTES.get(self.value_type, "office:value"), "")
        self.paragraphs = []
        width = int(attributes.get("table:number-columns-spanned", 1))
        height = int(attributes.get("table:number-rows-spanned", 1))
        if width > 1 or height > 1:
            row, column = self.row + 1, self.col + 1
            self.sheet.merged_ranges.append((row, column, row + height - 1, column + width - 1))

    def start_note(self, _: dict[str, str]) -> None:
        self.in_note = True

    def start_paragraph(self, _: dict[str, str]) -> None:
        if not self.in_note:
            self.paragraphs.append("")
            self.paragraph_depth += 1

    def start_spaces(self, attributes: dict[str, str]) -> None:
        if self.paragraph_depth and not self.in_note:
            self.text(" " * min(int(attributes.get("text:c", 1)), self.limits.record_characters))

    def text(self, data: str) -> None:
        if self.paragraph_depth and not self.in_note:
            self.paragraphs[-1] += data

    def end_note(self) -> None:
        self.in_note = False

    def end_paragraph(self) -> None:
        if not self.in_note:
            self.paragraph_depth -= 1

    def end_cell(self) -> None:
        text = self.cell_text()
        if not text:
            self.col += self.column_repeat
            return
        if self.column_repeat > MAX_REPEAT:
            raise WorkbookError(f"row {self.row + 1} repeats a filled cell {self.column_repeat:,} times")
        for _ in range(self.column_repeat):
            self.col += 1
            self.row_cells[self.col] = text

    def end_row(self) -> None:
        if self.row_cells:
            self.add_row()
        if len(self.sheet.rows) > self.limits.rows:
            raise WorkbookError(f"it has more than {self.limits.rows:,} rows")
        self.row += self.row_repeat

    def add_row(self) -> None:
        """Add the filled cells of the current row, as often as it is repeated."""
        if self.row_repeat > MAX_REPEAT:
            raise WorkbookError(f"row {self.row + 1} is repeated {self.row_repeat:,} times")
        last_column = max(self.row_cells)
        if last_column > self.limits.columns:
            raise WorkbookError(f"row {self.row + 1} has a cell in column {last_column:,}")
        for place in range(self.row_repeat):
            self.sheet.rows[self.row + 1 + place] = self.row_cells

    def cell_text(self) -> str:
        """Return the text of the current cell, and note an error that it holds."""
        shown = "\n".join(self.paragraphs)
        if self.is_error or (self.value_type in ("float", "string", "") and shown in ODS_ERROR_TEXTS):
            return self.note_error(shown or "error")
        if self.value_type in ("float", "percentage", "currency") and self.value:
            return self.number_text(shown.strip())
        if self.value_type == "date":
            return self.value.removesuffix("T00:00:00")
        if self.value_type == "time":
            return _duration_text(self.value)
        if self.value_type == "boolean":
            return boolean_text(self.value == "true")
        return shown

    def number_text(self, shown: str) -> str:
        """Return the stored number, or the shown digits where those are padded with zeros."""
        try:
            number = plain_number(self.value)
        except (ValueError, ArithmeticError):
            return self.note_error(self.value)
        padded = self.value_type == "float" and shown.isdigit() and shown.lstrip("0") == number.lstrip("0")
        return shown if padded else number

    def note_error(self, text: str) -> str:
        self.sheet.cell_errors.append((self.row + 1, self.col + 1, text))
        return text


#: The attribute that holds the value of a type, where it is not office:value.
VALUE_ATTRIBUTES = {"date": "office:date-value", "time": "office:time-value", "boolean": "office:boolean-value"}
ODS_ERROR_TEXTS = frozenset(("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"))


def _duration_text(value: str) -> str:
    """Return PT08H30M00S as 08:30:00."""
    hours, _, rest = value.removeprefix("PT").partition("H")
    minutes, _, seconds = rest.partition("M")
    seconds = seconds.rstrip("S").split(".")[0].split(",")[0]
    return f"{hours.zfill(2)}:{minutes.zfill(2)}:{seconds.zfill(2)}"


def read_sheet(path: Path, sheet_name: str | None, header: int, limits: ReadLimits) -> Sheet:
    """Read one sheet."""
    parser = _ContentParser(limits)
    with zipfile.ZipFile(path) as archive:
        if "META-INF/manifest.xml" in archive.namelist() and b"encryption-data" in archive.read(
            "META-INF/manifest.xml"
        ):
            raise WorkbookError("encrypted")
        xml.parse_part(archive, "content.xml", parser.start, parser.end, parser.text)
    if len(parser.entries) > limits.sheets:
        raise WorkbookError(f"it has {len(parser.entries)} sheets, more than {limits.sheets}")
    sheet = parser.sheets[choose_sheet(parser.entries, sheet_name, path.name).part]
    sheet.entries = parser.entries
    return sheet
