"""The rows of a sheet counted a second time: by patterns, whatever filled the table, from the same bytes."""

from __future__ import annotations

import re
from itertools import pairwise

import polars as pl

ROW = re.compile(rb"<(?:\w+:)?row\b([^>]*?)(/?)>")
NUMBER = re.compile(rb"""\br=["'](\d+)["']""")
CELL = re.compile(rb"<(?:\w+:)?c\b([^>]*?)(?<!/)>(.*?)</(?:\w+:)?c>", re.DOTALL)
KIND = re.compile(rb"""\bt=["'](\w+)["']""")
VALUE = re.compile(rb"<(?:\w+:)?[vt](?:\s[^>]*)?>(?:<!\[CDATA\[(?!\]\]>))?([^<]+)")
#: The same for many rows at once; what neither of the last two decides is looked at cell by cell.
NUMBERED = r"""^(?:[^<>]*\s)?r=["']([0-9]{1,18})["']"""
FILLED = r"<[vt](?:\s[^<>]*)?>[^<]"
POSSIBLE = r"<(?:\w+:)?[vtf][\s/>]"


class RowCount:
    """Rows below the header with a cell that holds something."""

    def __init__(self, header: int, empties: list[int], block: int) -> None:
        self.header = header
        self.empties = frozenset(str(index).encode() for index in empties)  #: shared texts without a character
        self.total = self.number = 0
        self.rest = bytearray()
        self.block = block
        self.enough = block  #: bytes worth looking at

    def feed(self, piece: bytes) -> None:
        """The next piece of the part."""
        self.rest += piece
        if len(self.rest) >= self.enough:
            self._whole_rows()
            self.enough = max(self.block, 2 * len(self.rest))

    def close(self) -> int:
        """The number, at the end of the part."""
        self._whole_rows()
        rest = bytes(self.rest)
        final = ROW.search(rest, self._in_turn(rest))
        if final:
            self._row(final, rest[final.end() :])
        return self.total

    def _whole_rows(self) -> None:
        """Counts all rows but the last, whose end is not known yet."""
        cut = self.rest.rfind(b"<row ")
        block = bytes(memoryview(self.rest)[: max(0, cut)])
        if not block or not self._at_once(block):
            cut = self._in_turn(bytes(self.rest))
        del self.rest[:cut]

    def _at_once(self, block: bytes) -> bool:
        """Counts whole rows; False when they are written in an unusual way."""
        try:
            text = pl.Series([block], dtype=pl.Binary).cast(pl.String)
        except pl.exceptions.ComputeError:  # not UTF-8
            return False
        if text.str.contains(":row", literal=True)[0]:
            return False
        rows = text.str.split("<row ").explode().slice(1)
        if text.str.count_matches("<row", literal=True)[0] != rows.len():
            return False
        numbers = rows.str.extract(NUMBERED).cast(pl.Int64)
        if numbers.has_nulls():
            return False
        if numbers.len():
            self.number = int(numbers[-1])
        rows = rows.filter(numbers > self.header)
        empty = [f"<v>{index.decode()}</v>" for index in self.empties]
        filled = (rows.str.replace_many(empty, [""] * len(empty)) if empty else rows).str.contains(FILLED)
        self.total += int(filled.sum())
        open_ones = rows.filter(~filled & rows.str.contains(POSSIBLE))
        for row in open_ones.to_list():
            self.total += _is_filled(row.encode(), self.empties)
        return True

    def _in_turn(self, rest: bytes) -> int:
        """Counts one after the other all rows but the last, and tells where that begins."""
        starts = list(ROW.finditer(rest))
        for this, following in pairwise(starts):
            self._row(this, rest[this.end() : following.start()])
        return starts[-1].start() if starts else 0

    def _row(self, row: re.Match[bytes], content: bytes) -> None:
        found = NUMBER.search(row.group(1))
        self.number = int(found.group(1)) if found else self.number + 1
        self.total += self.number > self.header and not row.group(2) and _is_filled(content, self.empties)


def _is_filled(content: bytes, empties: frozenset[bytes]) -> bool:
    for cell in CELL.finditer(content):
        kind, value = KIND.search(cell.group(1)), VALUE.search(cell.group(2))
        shared = kind is not None and kind.group(1) == b"s"
        if value and not (shared and value.group(1).strip() in empties):
            return True
        if not value and b"<f" in cell.group(2) and (kind is None or kind.group(1) in (b"n", b"b", b"e", b"d")):
            return True  # a formula without a stored value: a fault, and so a row
    return False
