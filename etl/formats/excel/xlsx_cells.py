"""The cells of one .xlsx sheet, one by one: what decides in every case that the quicker way of `xlsx_rows` leaves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from etl.formats.excel.cell_text import boolean_text, datetime_text, number_text
from etl.formats.excel.sheet import Sheet, WorkbookError
from etl.formats.excel.xml import XmlParser
from etl.formats.limits import ReadLimits

ESCAPED_CHARACTER = re.compile(r"_x([0-9A-Fa-f]{4})_")

FORMULA_WITHOUT_VALUE = "formula without a stored value"
MAX_ROW = 1 << 31  #: no sheet has as many
_COLUMN_NUMBERS: dict[str, int] = {}


@dataclass(frozen=True)
class WorkbookData:
    """What the cells of all sheets refer to."""

    number_formats: list[str] = field(default_factory=list)  #: number format of every cell style
    shared_texts: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))  #: texts
    epoch_1904: bool = False

    @cached_property
    def shared_text_list(self) -> list[str]:
        """The shared texts, for one at a time."""
        return self.shared_texts.to_list()

    @property
    def empty_texts(self) -> list[int]:
        """Places of the shared texts without a character."""
        return self.shared_texts.eq("").arg_true().to_list()

    def number_format(self, style: str) -> str:
        """Number format of a cell with this style; ValueError when it is no number."""
        place = int(style)
        return self.number_formats[place] if 0 <= place < len(self.number_formats) else ""


def cell_text(kind: str, raw: str, format_code: str, book: WorkbookData) -> str:
    """Return a filled cell as people see it. Raises ValueError, ArithmeticError or Unreadable when it is no value."""
    if kind == "s":
        index = int(raw) if raw.strip().isdecimal() else -1
        if not 0 <= index < len(book.shared_text_list):
            raise WorkbookError("a cell points to a text that is not there")
        return book.shared_text_list[index]
    if kind in ("inlineStr", "str"):
        return unescape(raw)
    if kind == "b":
        return boolean_text(raw.strip() in ("1", "true"))
    if kind == "e":
        raise ValueError("an error")
    if kind == "d" and raw.strip():
        return datetime_text(raw, format_code)
    if kind == "n" and raw.strip():
        return number_text(raw.strip(), format_code, book.epoch_1904)
    return raw


class SheetParser:
    """Gathers filled cells; state lives in slots because this runs for every cell."""

    __slots__ = (
        "book",
        "cell_type",
        "col",
        "has_formula",
        "in_phonetic",
        "in_text",
        "limits",
        "row",
        "row_cells",
        "sheet",
        "style_index",
        "text_parts",
    )

    def __init__(self, sheet: Sheet, book: WorkbookData, limits: ReadLimits) -> None:
        self.sheet, self.book, self.limits = sheet, book, limits
        self.row = self.col = 0
        self.cell_type = self.style_index = ""
        self.text_parts: list[str] = []
        self.in_text = self.has_formula = self.in_phonetic = False
        self.row_cells: dict[int, str] = {}

    def make_parser(self, part: str) -> XmlParser:
        return XmlParser(part, self.start, self.end, self.text)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            reference = attributes.get("r")
            self.col = self.column_of(reference) if reference else self.col + 1
            self.cell_type = attributes.get("t", "n")
            self.style_index = attributes.get("s", "0")
            self.text_parts.clear()
            self.has_formula = False
        elif name in ("v", "t"):
            self.in_text = not self.in_phonetic
        elif name == "f":
            self.has_formula = True
        elif name == "row":
            number = attributes.get("r")
            self.row = int(number) if number else self.row + 1
            if not 0 < self.row <= MAX_ROW:
                raise WorkbookError(f"it has a row {self.row}")
            self.col = 0
            self.row_cells = {}
        elif name == "rPh":
            self.in_phonetic = True
        elif name == "mergeCell":
            self.add_merge(attributes.get("ref", ""))

    def column_of(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        if letters not in _COLUMN_NUMBERS:
            if not (letters.isascii() and letters.isalpha()):
                raise WorkbookError(f"row {self.row} has a cell in a place called {reference}")
            _COLUMN_NUMBERS[letters] = column_number(letters.upper())
        row = int(reference[len(letters) :])
        if row != self.row:
            raise WorkbookError(f"cell {reference} stands in row {self.row}")
        return _COLUMN_NUMBERS[letters]

    def text(self, data: str) -> None:
        if self.in_text:
            self.text_parts.append(data)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self.in_text = False
        elif name == "rPh":
            self.in_phonetic = False
        elif name == "c":
            if self.text_parts or self.has_formula:
                self.add_cell("".join(self.text_parts))
        elif name == "row" and self.row_cells:
            if self.row in self.sheet.rows:
                raise WorkbookError(f"row {self.row} appears twice")
            self.sheet.rows[self.row] = self.row_cells
            if len(self.sheet.rows) > self.limits.rows:
                raise WorkbookError(f"it has more than {self.limits.rows:,} rows")

    def add_cell(self, raw: str) -> None:
        if len(raw) > self.limits.record_characters:
            raise WorkbookError(f"a cell in row {self.row} has more than {self.limits.record_characters:,} characters")
        if not raw and self.has_formula and self.cell_type not in ("str", "s", "inlineStr"):
            self.add_error(FORMULA_WITHOUT_VALUE if self.cell_type != "e" else raw)
            return
        code = self.book.number_format(self.style_index) if self.cell_type in ("n", "d") and raw.strip() else ""
        try:
            text = cell_text(self.cell_type, raw, code, self.book)
        except (ValueError, ArithmeticError):
            self.add_error(raw)
            return
        if text:
            if self.col > self.limits.columns:
                raise WorkbookError(f"row {self.row} has a cell in column {self.col:,}")
            self.row_cells[self.col] = text

    def add_error(self, text: str) -> None:
        self.sheet.cell_errors.append((self.row, self.col, text))
        self.row_cells[self.col] = text

    def add_merge(self, reference: str) -> None:
        found = re.fullmatch(r"\$?([A-Z]+)\$?(\d+):\$?([A-Z]+)\$?(\d+)", reference)
        if found:
            first, top, last, bottom = found.groups()
            self.sheet.merged_ranges.append((int(top), column_number(first), int(bottom), column_number(last)))


def unescape(text: str) -> str:
    """Replace the escapes of characters that XML cannot carry, such as _x000D_."""
    return ESCAPED_CHARACTER.sub(lambda hit: chr(int(hit.group(1), 16)), text) if "_x" in text else text


def column_number(letters: str) -> int:
    """Return the number of a column: A is 1, AA is 27."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number
