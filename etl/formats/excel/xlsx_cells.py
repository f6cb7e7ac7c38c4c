"""The cells of one .xlsx sheet, one by one: what decides in every case that the quicker way of `xlsx_rows` leaves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from etl.formats.excel import cell_text as cells
from etl.formats.excel.sheet import Sheet, Unreadable
from etl.formats.excel.xml import Parser
from etl.formats.limits import Limits

ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")

NO_VALUE = "formula without a stored value"
LAST_ROW = 1 << 31  #: no sheet has as many
_LETTERS: dict[str, int] = {}


@dataclass(frozen=True)
class Book:
    """What the cells of all sheets refer to."""

    styles: list[str] = field(default_factory=list)  #: number format of every cell style
    shared: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))  #: texts
    epoch_1904: bool = False

    @cached_property
    def texts(self) -> list[str]:
        """The shared texts, for one at a time."""
        return self.shared.to_list()

    @property
    def empties(self) -> list[int]:
        """Places of the shared texts without a character."""
        return self.shared.eq("").arg_true().to_list()

    def format(self, style: str) -> str:
        """Number format of a cell with this style; ValueError when it is no number."""
        place = int(style)
        return self.styles[place] if 0 <= place < len(self.styles) else ""


def stored(kind: str, raw: str, code: str, book: Book) -> str:
    """What is not empty as people see it; ValueError or ArithmeticError when it is no value, Unreadable for no text."""
    if kind == "s":
        index = int(raw) if raw.strip().isdecimal() else -1
        if not 0 <= index < len(book.texts):
            raise Unreadable("a cell points to a text that is not there")
        return book.texts[index]
    if kind in ("inlineStr", "str"):
        return unescape(raw)
    if kind == "b":
        return cells.boolean(raw.strip() in ("1", "true"))
    if kind == "e":
        raise ValueError("an error")
    if kind == "d" and raw.strip():
        return cells.moment(raw, code)
    if kind == "n" and raw.strip():
        return cells.number(raw.strip(), code, book.epoch_1904)
    return raw


class SheetParser:
    """Gathers filled cells; state lives in slots because this runs for every cell."""

    __slots__ = ("aid", "at", "book", "col", "data", "formula", "limits", "row", "sheet", "style", "taking", "type")

    def __init__(self, sheet: Sheet, book: Book, limits: Limits) -> None:
        self.sheet, self.book, self.limits = sheet, book, limits
        self.row = self.col = 0
        self.type = self.style = ""
        self.data: list[str] = []
        self.taking = self.formula = self.aid = False
        self.at: dict[int, str] = {}

    def parser(self, part: str) -> Parser:
        return Parser(part, self.start, self.end, self.text)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            reference = attributes.get("r")
            self.col = self.place(reference) if reference else self.col + 1
            self.type = attributes.get("t", "n")
            self.style = attributes.get("s", "0")
            self.data.clear()
            self.formula = False
        elif name in ("v", "t"):
            self.taking = not self.aid
        elif name == "f":
            self.formula = True
        elif name == "row":
            number = attributes.get("r")
            self.row = int(number) if number else self.row + 1
            if not 0 < self.row <= LAST_ROW:
                raise Unreadable(f"it has a row {self.row}")
            self.col = 0
            self.at = {}
        elif name == "rPh":
            self.aid = True
        elif name == "mergeCell":
            self.merge(attributes.get("ref", ""))

    def place(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        if letters not in _LETTERS:
            if not (letters.isascii() and letters.isalpha()):
                raise Unreadable(f"row {self.row} has a cell in a place called {reference}")
            _LETTERS[letters] = column(letters.upper())
        row = int(reference[len(letters) :])
        if row != self.row:
            raise Unreadable(f"cell {reference} stands in row {self.row}")
        return _LETTERS[letters]

    def text(self, data: str) -> None:
        if self.taking:
            self.data.append(data)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self.taking = False
        elif name == "rPh":
            self.aid = False
        elif name == "c":
            if self.data or self.formula:
                self.cell("".join(self.data))
        elif name == "row" and self.at:
            if self.row in self.sheet.rows:
                raise Unreadable(f"row {self.row} appears twice")
            self.sheet.rows[self.row] = self.at
            if len(self.sheet.rows) > self.limits.rows:
                raise Unreadable(f"it has more than {self.limits.rows:,} rows")

    def cell(self, raw: str) -> None:
        if len(raw) > self.limits.cell:
            raise Unreadable(f"a cell in row {self.row} has more than {self.limits.cell:,} characters")
        if not raw and self.formula and self.type not in ("str", "s", "inlineStr"):
            self.fault(NO_VALUE if self.type != "e" else raw)
            return
        code = self.book.format(self.style) if self.type in ("n", "d") and raw.strip() else ""
        try:
            text = stored(self.type, raw, code, self.book)
        except (ValueError, ArithmeticError):
            self.fault(raw)
            return
        if text:
            if self.col > self.limits.columns:
                raise Unreadable(f"row {self.row} has a cell in column {self.col:,}")
            self.at[self.col] = text

    def fault(self, what: str) -> None:
        self.sheet.faults.append((self.row, self.col, what))
        self.at[self.col] = what

    def merge(self, reference: str) -> None:
        found = re.fullmatch(r"\$?([A-Z]+)\$?(\d+):\$?([A-Z]+)\$?(\d+)", reference)
        if found:
            first, top, last, bottom = found.groups()
            self.sheet.merged.append((int(top), column(first), int(bottom), column(last)))


def unescape(text: str) -> str:
    """Characters that XML cannot carry are written as _x000D_."""
    return ESCAPED.sub(lambda hit: chr(int(hit.group(1), 16)), text) if "_x" in text else text


def column(letters: str) -> int:
    """A -> 1, AA -> 27."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number
