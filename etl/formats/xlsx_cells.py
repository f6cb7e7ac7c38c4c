"""The cells of one .xlsx sheet, and a second count of its rows by pattern instead of by parser."""

from __future__ import annotations

import re
import zipfile
from itertools import pairwise

from etl.formats import cells, xml
from etl.formats.limits import Limits
from etl.formats.sheet import Sheet, Unreadable

ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")

NO_VALUE = "formula without a stored value"
_LETTERS: dict[str, int] = {}


class SheetParser:
    """Gathers filled cells; state lives in slots because this runs for every cell."""

    __slots__ = (
        *("aid", "at", "col", "data", "epoch", "formula", "limits", "row"),
        *("shared", "sheet", "style", "styles", "taking", "total", "type"),
    )

    def __init__(self, sheet: Sheet, styles: list[str], shared: list[str], epoch: bool, limits: Limits) -> None:
        self.sheet, self.styles, self.shared, self.epoch, self.limits = sheet, styles, shared, epoch, limits
        self.row = self.col = self.total = 0
        self.type = self.style = ""
        self.data: list[str] = []
        self.taking = self.formula = self.aid = False
        self.at: dict[int, str] = {}

    def run(self, archive: zipfile.ZipFile, part: str) -> None:
        xml.parse(archive, part, self.start, self.end, self.text)

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
            self.col = 0
            self.at = {}
        elif name == "rPh":
            self.aid = True
        elif name == "mergeCell":
            self.merge(attributes.get("ref", ""))

    def place(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        if letters not in _LETTERS:
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
        text = raw
        if len(raw) > self.limits.cell:
            raise Unreadable(f"a cell in row {self.row} has more than {self.limits.cell:,} characters")
        if self.type == "s":
            index = int(raw) if raw.strip().isdigit() else -1
            if not 0 <= index < len(self.shared):
                raise Unreadable(f"row {self.row} points to a text that is not there")
            text = self.shared[index]
        elif self.type in ("inlineStr", "str"):
            text = unescape(raw)
        elif self.type == "b":
            text = cells.boolean(raw.strip() in ("1", "true"))
        elif self.type == "e":
            self.fault(raw)
            return
        elif self.type in ("n", "d") and raw.strip():
            code = self.styles[int(self.style)] if int(self.style) < len(self.styles) else ""
            try:
                text = cells.moment(raw, code) if self.type == "d" else cells.number(raw.strip(), code, self.epoch)
            except (ValueError, ArithmeticError):
                self.fault(raw)
                return
        if not raw and self.formula and self.type not in ("str", "s", "inlineStr"):
            self.fault(NO_VALUE)
        elif text:
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


ROW = re.compile(rb"<(?:\w+:)?row\b([^>]*?)(/?)>")
NUMBER = re.compile(rb"""\br=["'](\d+)["']""")
CELL = re.compile(rb"<(?:\w+:)?c\b([^>]*?)(?<!/)>(.*?)</(?:\w+:)?c>", re.DOTALL)
KIND = re.compile(rb"""\bt=["'](\w+)["']""")
VALUE = re.compile(rb"<(?:\w+:)?[vt](?:\s[^>]*)?>(?:<!\[CDATA\[(?!\]\]>))?([^<]+)")


def count_rows(archive: zipfile.ZipFile, part: str, header: int, empties: frozenset[bytes]) -> int:
    """Rows below the header with a cell that holds something."""
    total = number = 0
    rest = b""
    for piece in xml.chunks(archive, part):
        rest += piece
        starts = list(ROW.finditer(rest))
        for this, following in pairwise(starts):
            number = _number(this, number)
            total += number > header and _is_filled(rest[this.end() : following.start()], this, empties)
        if starts:
            rest = rest[starts[-1].start() :]
    final = ROW.search(rest)
    if final:
        number = _number(final, number)
        total += number > header and _is_filled(rest[final.end() :], final, empties)
    return total


def _number(row: re.Match[bytes], before: int) -> int:
    found = NUMBER.search(row.group(1))
    return int(found.group(1)) if found else before + 1


def _is_filled(content: bytes, row: re.Match[bytes], empties: frozenset[bytes]) -> bool:
    if row.group(2):
        return False
    for cell in CELL.finditer(content):
        kind, value = KIND.search(cell.group(1)), VALUE.search(cell.group(2))
        shared = kind is not None and kind.group(1) == b"s"
        if value and not (shared and value.group(1).strip() in empties):
            return True
        if not value and b"<f" in cell.group(2) and (kind is None or kind.group(1) in (b"n", b"b", b"e", b"d")):
            return True  # a formula without a stored value: a fault, and so a row
    return False


def unescape(text: str) -> str:
    """Characters that XML cannot carry are written as _x000D_."""
    return ESCAPED.sub(lambda hit: chr(int(hit.group(1), 16)), text) if "_x" in text else text


def column(letters: str) -> int:
    """A -> 1, AA -> 27."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number
