"""Reads .ods: values are stored with their type, and beside them the text that people see."""

from __future__ import annotations

import zipfile
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

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table":
            self.sheet = Sheet(attributes.get("table:name", ""))
            self.sheets[self.sheet.name] = self.sheet
            self.entries.append(
                SheetEntry(
                    self.sheet.name, self.sheet.name, attributes.get("table:style-name", "") not in self.hidden_styles
                )
            )
            self.row = 0
        elif name == "style":
            self.style_name = attributes.get("style:name", "")
        elif name == "table-properties" and attributes.get("table:display") == "false":
            self.hidden_styles.add(self.style_name)
        elif name == "table-row":
            self.row_repeat = int(attributes.get("table:number-rows-repeated", 1))
            self.col, self.row_cells = 0, {}
        elif name in ("table-cell", "covered-table-cell"):
            self.column_repeat = int(attributes.get("table:number-columns-repeated", 1))
            self.value_type = attributes.get("office:value-type", "")
            self.is_error = attributes.get("calcext:value-type") == "error"
            keys = {"date": "office:date-value", "time": "office:time-value", "boolean": "office:boolean-value"}
            self.value = attributes.get(keys.get(self.value_type, "office:value"), "")
            self.paragraphs = []
            wide, high = (
                int(attributes.get("table:number-columns-spanned", 1)),
                int(attributes.get("table:number-rows-spanned", 1)),
            )
            if wide > 1 or high > 1:
                here = (self.row + 1, self.col + 1)
                self.sheet.merged_ranges.append((*here, here[0] + high - 1, here[1] + wide - 1))
        elif name == "annotation":
            self.in_note = True
        elif name == "p" and not self.in_note:
            self.paragraphs.append("")
            self.paragraph_depth += 1
        elif self.paragraph_depth and not self.in_note:
            if name == "s":
                self.text(" " * min(int(attributes.get("text:c", 1)), self.limits.record_characters))
            elif name in ("tab", "line-break"):
                self.text("\t" if name == "tab" else "\n")

    def text(self, data: str) -> None:
        if self.paragraph_depth and not self.in_note:
            self.paragraphs[-1] += data

    def end(self, name: str) -> None:
        if name == "annotation":
            self.in_note = False
        elif name == "p" and not self.in_note:
            self.paragraph_depth -= 1
        elif name in ("table-cell", "covered-table-cell"):
            text = self.cell_text()
            if text and self.column_repeat > MAX_REPEAT:
                raise WorkbookError(f"row {self.row + 1} repeats a filled cell {self.column_repeat:,} times")
            for _ in range(self.column_repeat if text else 0):
                self.col += 1
                self.row_cells[self.col] = text
            self.col += 0 if text else self.column_repeat
        elif name == "table-row":
            if self.row_cells and self.row_repeat > MAX_REPEAT:
                raise WorkbookError(f"row {self.row + 1} is repeated {self.row_repeat:,} times")
            for place in range(self.row_repeat if self.row_cells else 0):
                self.sheet.rows[self.row + 1 + place] = self.row_cells
            if self.row_cells and max(self.row_cells) > self.limits.columns:
                raise WorkbookError(f"row {self.row + 1} has a cell in column {max(self.row_cells):,}")
            if len(self.sheet.rows) > self.limits.rows:
                raise WorkbookError(f"it has more than {self.limits.rows:,} rows")
            self.row += self.row_repeat

    def cell_text(self) -> str:
        shown = "\n".join(self.paragraphs)
        if self.is_error or (
            self.value_type in ("float", "string", "") and shown.startswith("#") and shown in ODS_ERROR_TEXTS
        ):
            self.sheet.cell_errors.append((self.row + 1, self.col + 1, shown or "error"))
            return shown or "error"
        if self.value_type in ("float", "percentage", "currency") and self.value:
            try:
                number = plain_number(self.value)
            except (ValueError, ArithmeticError):
                self.sheet.cell_errors.append((self.row + 1, self.col + 1, self.value))
                return self.value
            digits = shown.strip()
            padded = self.value_type == "float" and digits.isdigit() and digits.lstrip("0") == number.lstrip("0")
            return digits if padded else number
        if self.value_type == "date":
            return self.value.removesuffix("T00:00:00")
        if self.value_type == "time":
            return _duration_text(self.value)
        if self.value_type == "boolean":
            return boolean_text(self.value == "true")
        return shown


ODS_ERROR_TEXTS = frozenset(("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"))


def _duration_text(value: str) -> str:
    """PT08H30M00S as 08:30:00."""
    hours, _, rest = value.removeprefix("PT").partition("H")
    minutes, _, seconds = rest.partition("M")
    seconds = seconds.rstrip("S").split(".")[0].split(",")[0]
    return f"{hours.zfill(2)}:{minutes.zfill(2)}:{seconds.zfill(2)}"


def read_sheet(path: Path, sheet_name: str | None, header: int, limits: ReadLimits) -> Sheet:
    """One sheet."""
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
