"""Reads .ods: values are stored with their type, and beside them the text that people see."""

from __future__ import annotations

import zipfile
from pathlib import Path

from etl.formats.excel import cell_text as cells
from etl.formats.excel import xml
from etl.formats.excel.sheet import Sheet, Tab, Unreadable, choose
from etl.formats.limits import Limits

REPEATED = 1_000  #: more equal rows or cells than that are the empty rest of a sheet


class _Parser:
    """Builds every sheet's cells; repeated empty ones only move on."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sheets: dict[str, Sheet] = {}
        self.tabs: list[Tab] = []
        self.hidden: set[str] = set()
        self.style = ""
        self.sheet = Sheet("")
        self.row = self.col = 0
        self.rows = self.columns = 1
        self.at: dict[int, str] = {}
        self.kind = self.value = ""
        self.error = False
        self.lines: list[str] = []
        self.depth = 0  #: within text:p
        self.note = False

    def start(self, name: str, a: dict[str, str]) -> None:
        if name == "table":
            self.sheet = Sheet(a.get("table:name", ""))
            self.sheets[self.sheet.name] = self.sheet
            self.tabs.append(Tab(self.sheet.name, self.sheet.name, a.get("table:style-name", "") not in self.hidden))
            self.row = 0
        elif name == "style":
            self.style = a.get("style:name", "")
        elif name == "table-properties" and a.get("table:display") == "false":
            self.hidden.add(self.style)
        elif name == "table-row":
            self.rows = int(a.get("table:number-rows-repeated", 1))
            self.col, self.at = 0, {}
        elif name in ("table-cell", "covered-table-cell"):
            self.columns = int(a.get("table:number-columns-repeated", 1))
            self.kind = a.get("office:value-type", "")
            self.error = a.get("calcext:value-type") == "error"
            keys = {"date": "office:date-value", "time": "office:time-value", "boolean": "office:boolean-value"}
            self.value = a.get(keys.get(self.kind, "office:value"), "")
            self.lines = []
            wide, high = int(a.get("table:number-columns-spanned", 1)), int(a.get("table:number-rows-spanned", 1))
            if wide > 1 or high > 1:
                here = (self.row + 1, self.col + 1)
                self.sheet.merged.append((*here, here[0] + high - 1, here[1] + wide - 1))
        elif name == "annotation":
            self.note = True
        elif name == "p" and not self.note:
            self.lines.append("")
            self.depth += 1
        elif self.depth and not self.note:
            if name == "s":
                self.text(" " * min(int(a.get("text:c", 1)), self.limits.cell))
            elif name in ("tab", "line-break"):
                self.text("\t" if name == "tab" else "\n")

    def text(self, data: str) -> None:
        if self.depth and not self.note:
            self.lines[-1] += data

    def end(self, name: str) -> None:
        if name == "annotation":
            self.note = False
        elif name == "p" and not self.note:
            self.depth -= 1
        elif name in ("table-cell", "covered-table-cell"):
            text = self.cell()
            if text and self.columns > REPEATED:
                raise Unreadable(f"row {self.row + 1} repeats a filled cell {self.columns:,} times")
            for _ in range(self.columns if text else 0):
                self.col += 1
                self.at[self.col] = text
            self.col += 0 if text else self.columns
        elif name == "table-row":
            if self.at and self.rows > REPEATED:
                raise Unreadable(f"row {self.row + 1} is repeated {self.rows:,} times")
            for place in range(self.rows if self.at else 0):
                self.sheet.rows[self.row + 1 + place] = self.at
            if self.at and max(self.at) > self.limits.columns:
                raise Unreadable(f"row {self.row + 1} has a cell in column {max(self.at):,}")
            if len(self.sheet.rows) > self.limits.rows:
                raise Unreadable(f"it has more than {self.limits.rows:,} rows")
            self.row += self.rows

    def cell(self) -> str:
        shown = "\n".join(self.lines)
        if self.error or (self.kind in ("float", "string", "") and shown.startswith("#") and shown in ERRORS):
            self.sheet.faults.append((self.row + 1, self.col + 1, shown or "error"))
            return shown or "error"
        if self.kind in ("float", "percentage", "currency") and self.value:
            try:
                number = cells.plain(self.value)
            except (ValueError, ArithmeticError):
                self.sheet.faults.append((self.row + 1, self.col + 1, self.value))
                return self.value
            digits = shown.strip()
            padded = self.kind == "float" and digits.isdigit() and digits.lstrip("0") == number.lstrip("0")
            return digits if padded else number
        if self.kind == "date":
            return self.value.removesuffix("T00:00:00")
        if self.kind == "time":
            return _clock(self.value)
        if self.kind == "boolean":
            return cells.boolean(self.value == "true")
        return shown


ERRORS = frozenset(("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"))


def _clock(value: str) -> str:
    """PT08H30M00S as 08:30:00."""
    hours, _, rest = value.removeprefix("PT").partition("H")
    minutes, _, seconds = rest.partition("M")
    seconds = seconds.rstrip("S").split(".")[0].split(",")[0]
    return f"{hours.zfill(2)}:{minutes.zfill(2)}:{seconds.zfill(2)}"


def read(path: Path, wanted: str | None, header: int, limits: Limits) -> Sheet:
    """One sheet."""
    parser = _Parser(limits)
    with zipfile.ZipFile(path) as archive:
        if "META-INF/manifest.xml" in archive.namelist() and b"encryption-data" in archive.read(
            "META-INF/manifest.xml"
        ):
            raise Unreadable("encrypted")
        xml.parse(archive, "content.xml", parser.start, parser.end, parser.text)
    if len(parser.tabs) > limits.sheets:
        raise Unreadable(f"it has {len(parser.tabs)} sheets, more than {limits.sheets}")
    sheet = parser.sheets[choose(parser.tabs, wanted, path.name).place]
    sheet.tabs = parser.tabs
    return sheet
