"""The rows of a sheet counted a second time: by patterns, whatever filled the table, from the same bytes."""

from __future__ import annotations

import re
from itertools import pairwise

import polars as pl

ROW_TAG = re.compile(rb"<(?:\w+:)?row\b([^>]*?)(/?)>")
ROW_NUMBER = re.compile(rb"""\br=["'](\d+)["']""")
CELL_ELEMENT = re.compile(rb"<(?:\w+:)?c\b([^>]*?)(?<!/)>(.*?)</(?:\w+:)?c>", re.DOTALL)
CELL_TYPE = re.compile(rb"""\bt=["'](\w+)["']""")
CELL_VALUE = re.compile(rb"<(?:\w+:)?[vt](?:\s[^>]*)?>(?:<!\[CDATA\[(?!\]\]>))?([^<]+)")
#: The same for many rows at once; what neither of the last two decides is looked at cell by cell.
ROW_NUMBER_TEXT = r"""^(?:[^<>]*\s)?r=["']([0-9]{1,18})["']"""
FILLED_ROW_TEXT = r"<[vt](?:\s[^<>]*)?>[^<]"
POSSIBLE_ROW_TEXT = r"<(?:\w+:)?[vtf][\s/>]"


class RowCounter:
    """Rows below the header with a cell that holds something."""

    def __init__(self, header: int, empty_texts: list[int], block: int) -> None:
        self.header = header
        self.empty_texts = frozenset(str(index).encode() for index in empty_texts)  #: shared texts without a character
        self.total = self.row_number = 0
        self.buffer = bytearray()
        self.block = block
        self.threshold = block  #: bytes worth looking at

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the part."""
        self.buffer += piece
        if len(self.buffer) >= self.threshold:
            self._count_complete_rows()
            self.threshold = max(self.block, 2 * len(self.buffer))

    def close(self) -> int:
        """Return the number of rows, at the end of the part."""
        self._count_complete_rows()
        rest = bytes(self.buffer)
        final = ROW_TAG.search(rest, self._count_one_by_one(rest))
        if final:
            self._count_row(final, rest[final.end() :])
        return self.total

    def _count_complete_rows(self) -> None:
        """Count all rows but the last, whose end is not known yet."""
        cut = self.buffer.rfind(b"<row ")
        block = bytes(memoryview(self.buffer)[: max(0, cut)])
        if not block or not self._count_by_pattern(block):
            cut = self._count_one_by_one(bytes(self.buffer))
        del self.buffer[:cut]

    def _count_by_pattern(self, block: bytes) -> bool:
        """Count complete rows; return False when they are written in an unusual way."""
        try:
            text = pl.Series([block], dtype=pl.Binary).cast(pl.String)
        except pl.exceptions.ComputeError:  # not UTF-8
            return False
        if text.str.contains(":row", literal=True)[0]:
            return False
        rows = text.str.split("<row ").explode().slice(1)
        if text.str.count_matches("<row", literal=True)[0] != rows.len():
            return False
        numbers = rows.str.extract(ROW_NUMBER_TEXT).cast(pl.Int64)
        if numbers.has_nulls():
            return False
        if numbers.len():
            self.row_number = int(numbers[-1])
        rows = rows.filter(numbers > self.header)
        empty = [f"<v>{index.decode()}</v>" for index in self.empty_texts]
        filled = (rows.str.replace_many(empty, [""] * len(empty)) if empty else rows).str.contains(FILLED_ROW_TEXT)
        self.total += int(filled.sum())
        open_ones = rows.filter(~filled & rows.str.contains(POSSIBLE_ROW_TEXT))
        for row in open_ones.to_list():
            self.total += _is_filled(row.encode(), self.empty_texts)
        return True

    def _count_one_by_one(self, rest: bytes) -> int:
        """Count all rows but the last one after the other, and return where the last begins."""
        starts = list(ROW_TAG.finditer(rest))
        for this, following in pairwise(starts):
            self._count_row(this, rest[this.end() : following.start()])
        return starts[-1].start() if starts else 0

    def _count_row(self, row: re.Match[bytes], content: bytes) -> None:
        found = ROW_NUMBER.search(row.group(1))
        self.row_number = int(found.group(1)) if found else self.row_number + 1
        self.total += self.row_number > self.header and not row.group(2) and _is_filled(content, self.empty_texts)


def _is_filled(content: bytes, empty_texts: frozenset[bytes]) -> bool:
    for cell in CELL_ELEMENT.finditer(content):
        kind, value = CELL_TYPE.search(cell.group(1)), CELL_VALUE.search(cell.group(2))
        shared = kind is not None and kind.group(1) == b"s"
        if value and not (shared and value.group(1).strip() in empty_texts):
            return True
        if not value and b"<f" in cell.group(2) and (kind is None or kind.group(1) in (b"n", b"b", b"e", b"d")):
            return True  # a formula without a stored value: a fault, and so a row
    return False
