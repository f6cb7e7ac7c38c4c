"""The tolerant reader: Python's csv in strict mode over physical lines, every doubt a malformed row.

It streams, so that memory grows with the table and not with the accidents in it. Quoting that has come loose is the
one thing that can move cells between rows; three rules keep that from happening in silence: a closing quote must be
followed by a delimiter or line end, a row whose every line would have been a full row by itself was swallowed by a
stray quote, and after a row with an odd number of quotes nothing is believed until they are even again. Blanks that
pad a quoted cell up to its delimiter are no doubt.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from etl.formats import errors as refusals
from etl.formats.text.line_source import JOINT, Feed
from etl.formats.text.lines import MARK
from etl.model.columns import REJECTION_COLUMNS, ROW
from etl.model.tables import Dialect

BATCH = 50_000
WATCH = 50  #: rows held back after unbalanced quotes
EXCERPT = 200

REJECTION_SCHEMA = {name: pl.Int64 if name == "row" else pl.String for name in REJECTION_COLUMNS}


@dataclass(slots=True)
class Malformed:
    """Rows whose cells could not be told apart; a million of them are kept as frames and not as objects."""

    latest: list[tuple[int, str | None, str, str, str, str]] = field(default_factory=list)
    parts: list[pl.DataFrame] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, code: str, value: str, message: str, hint: str, *, column: str | None = None) -> None:
        shown = value[:EXCERPT].replace(MARK, "�").replace(JOINT, "").rstrip("\r\n")
        self.latest.append((row, column, code, shown.encode(errors="replace").decode(), message, hint))
        self.counts[code] += 1
        if len(self.latest) >= BATCH:
            self._put_away()

    def _put_away(self) -> None:
        columns = zip(*self.latest, strict=True) if self.latest else [()] * len(REJECTION_SCHEMA)
        kinds = zip(REJECTION_SCHEMA.items(), columns, strict=True)
        self.parts.append(pl.DataFrame([pl.Series(name, cells, dtype=kind) for (name, kind), cells in kinds]))
        self.latest.clear()

    def frame(self) -> pl.DataFrame:
        self._put_away()
        return pl.concat(self.parts).sort("row", maintain_order=True)


def options(dialect: Dialect, delimiter: str) -> dict[str, Any]:
    """What `csv.reader` has to know."""
    csv.field_size_limit(sys.maxsize)  # the feed bounds a whole record; csv's own default is 128 KiB
    return {
        "delimiter": delimiter,
        "quotechar": dialect.quote,
        "quoting": csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        "escapechar": dialect.escape or None,
        "doublequote": True,
        "strict": True,
    }


def unpadded(text: str, dialect: Dialect, delimiter: str, why: csv.Error) -> list[str]:
    """The cells, blanks included, when nothing else stands between closing quotes and delimiters; else none."""
    if not dialect.quote or dialect.escape or delimiter == " " or "expected after" not in str(why):
        return []
    quote, mark, text = re.escape(dialect.quote), re.escape(delimiter), text.rstrip("\r\n")
    cell = re.compile(
        rf"(?:{quote}((?:[^{quote}]|{quote}{quote})*){quote}( *)|((?!{quote})[^{mark}\r\n]*))(?:{mark}|$)"
    )
    cells, at = list[str](), 0
    while found := cell.match(text, at):
        quoted, blanks, plain = found.groups()
        cells.append(plain if quoted is None else quoted.replace(dialect.quote * 2, dialect.quote) + blanks)
        if found.end() == len(text):
            return cells if not found[0].endswith(delimiter) else [*cells, ""]
        at = found.end()
    return []


def frame_of(numbers: list[int], rows: list[list[str]], names: tuple[str, ...]) -> pl.DataFrame:
    """Cells as a frame, empty ones as null, rows without any cell filled left out."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    series = [pl.Series(ROW, numbers, dtype=pl.Int64)]
    series += [pl.Series(name, cells, dtype=pl.String) for name, cells in zip(names, columns, strict=True)]
    return without_blanks(pl.DataFrame(series))


def without_blanks(frame: pl.DataFrame) -> pl.DataFrame:
    """Empty cells as null; a row that says nothing is no row."""
    cells = pl.exclude(ROW)
    frame = frame.with_columns(pl.when(cells != "").then(cells))
    return frame.filter(~pl.all_horizontal(cells.is_null()))


class Reader:
    """One pass over the records after the header."""

    def __init__(self, feed: Feed, lines: Iterator[str], names: tuple[str, ...], malformed: Malformed) -> None:
        self.feed = feed
        self.lines = lines
        self.names = names
        self.width = len(names)
        self.malformed = malformed
        self.dialect = feed.dialect
        self.held: list[tuple[int, list[str], str]] = []  # rows after unbalanced quotes
        self.watch = 0
        self.start = 0  #: line of the latest record
        self.numbers: list[int] = []
        self.rows: list[list[str]] = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """The good rows, in batches; the rest goes to `malformed`."""
        recent = self.feed.recent
        recent.clear()
        reader = csv.reader(self.lines, **options(self.dialect, self.feed.delimiter))
        base = self.feed.given
        width, total = self.width, 0
        while True:
            recent.clear()
            start = base + reader.line_num + 1
            try:
                cells = self.feed.restored(next(reader))
            except StopIteration:
                break
            except csv.Error as error:
                self.start = start
                cells = self.feed.restored(unpadded("".join(recent), self.dialect, self.feed.delimiter, error))
                if len(cells) != width:
                    self._broken(start, str(error))
                    continue
            self.start = start
            if len(cells) != width:
                cells = self._refit(start, cells)
            elif len(recent) > 1 and self._swallowed(start):
                continue
            if not cells or self._is_header(start, cells):
                continue
            if self.watch:
                self._hold(start, cells)
                continue
            self.numbers.append(start)
            self.rows.append(cells)
            if len(self.rows) > BATCH:
                total += BATCH
                if total > self.feed.limits.rows:
                    raise refusals.too_big(self.feed.path.name, "the number of rows", self.feed.limits.rows)
                yield self._flush(BATCH)  # the latest row stays: only the end of the file tells whether it is whole
        self._release()
        self._check_end()
        if total + len(self.rows) > self.feed.limits.rows:
            raise refusals.too_big(self.feed.path.name, "the number of rows", self.feed.limits.rows)
        yield self._flush(len(self.rows))

    def _is_header(self, row: int, cells: list[str]) -> bool:
        """The header once more, where exports were put together one after the other: no row of data."""
        titles = self.feed.titles
        if not titles or cells[-1] != titles[-1] or [cells[0].lstrip("\ufeff"), *cells[1:]] != titles:
            return False
        self.malformed.add(row, *refusals.header_again(row, self.feed.delimiter.join(cells)))
        return True

    def _flush(self, count: int) -> pl.DataFrame:
        numbers, rows = self.numbers[:count], self.rows[:count]
        self.numbers, self.rows = self.numbers[count:], self.rows[count:]
        try:
            frame = frame_of(numbers, rows, self.names)
        except UnicodeEncodeError:
            clean = [self._decoded(number, cells) for number, cells in zip(numbers, rows, strict=True)]
            numbers = [number for number, good in zip(numbers, clean, strict=True) if good]
            frame = frame_of(numbers, [cells for cells, good in zip(rows, clean, strict=True) if good], self.names)
        if self.feed.zeros:
            zero = pl.any_horizontal(pl.exclude(ROW).str.contains("\0", literal=True).fill_null(False))
            for row in frame.filter(zero)[ROW]:
                self._bad_bytes(row, "")
            frame = frame.filter(~zero)
        return frame

    def _decoded(self, row: int, cells: list[str]) -> bool:
        if any(MARK in cell for cell in cells):
            self._bad_bytes(row, self.feed.delimiter.join(cells))
            return False
        return True

    def _bad_bytes(self, row: int, value: str) -> None:
        self.malformed.add(
            row,
            "bad-bytes",
            value,
            f"line {row} has bytes that are no text in {self.dialect.encoding}",
            f"if single lines come in another code page, say so in the mapping: encoding: "
            f"{self.dialect.encoding}|{'windows-1252' if 'utf' in self.dialect.encoding else 'utf-8'}",
        )

    def _refit(self, row: int, cells: list[str]) -> list[str]:
        """Rows of another width: refused, unless the mapping says that missing or surplus ends are empty."""
        if not any(cells):
            return []
        has, want, dialect = len(cells), self.width, self.dialect
        if has < want and dialect.short_rows == "empty":
            return cells + [""] * (want - has)
        if has > want and dialect.long_rows == "empty" and not any(cells[want:]):
            return cells[:want]
        if self.watch:
            self._unbalance(self._quotes())
        if has < want:
            code, hint = "row-too-short", "a line break or a missing delimiter has cut the row; "
            hint += "if the source leaves out empty cells at the end, set `short_rows: empty` in the mapping"
        else:
            code, hint = "row-too-long", "a cell holds the delimiter without quotes; "
            hint += "if rows only end in surplus delimiters, set `long_rows: empty` in the mapping"
        text = "".join(self.feed.recent)
        if MARK in text:
            self._bad_bytes(row, text)
        else:
            self.malformed.add(row, code, text, f"line {row} has {has} cells, the header has {want}", hint)
        return []

    def _broken(self, row: int, why: str) -> None:
        recent, name = self.feed.recent, self.feed.path.name
        last = row + len(recent) - 1
        value = "".join(recent)
        if "unexpected end" in why:
            full = sum(line.count(self.feed.delimiter) == self.width - 1 for line in recent[1:])
            if len(recent) > 2 and (full > 1 or self.width == 1):
                raise refusals.open_quote(name, row, last)
            message = f"the file ends inside the quoted cell that begins in line {row}"
            hint = "the file is cut off, or a quote is not closed: ask the source to send it again"
            self.malformed.add(row, "cut-off", value, message, hint)
            return
        self._unbalance(self._quotes())
        upto = f"line {row}" if last == row else f"lines {row} to {last}"
        self.malformed.add(
            row,
            "broken-quote",
            value,
            f"a quoted cell in {upto} goes on after its closing quote",
            "double the quote inside the cell in the source, or set `escape:` or `quote:` in the mapping",
        )

    def _swallowed(self, row: int) -> bool:
        """Were these lines rows of their own that a stray quote has glued together?"""
        recent, delimiter = self.feed.recent, self.feed.delimiter
        if self.width < 3 or any(line.count(delimiter) != self.width - 1 for line in recent):
            return False
        self.malformed.add(
            row,
            "open-quote",
            "".join(recent),
            f"a quote opened in line {row} is closed only in line {row + len(recent) - 1}: each line looks like a row",
            "double the quote inside the cell in the source",
        )
        return True

    def _quotes(self) -> int:
        quote = self.dialect.quote
        return sum(line.count(quote) for line in self.feed.recent) if quote else 0

    def _unbalance(self, quotes: int) -> None:
        if quotes % 2 == 0:
            return
        if self.watch:  # the quote that was missing: what lay between belongs to the broken cell
            for row, _, text in self.held:
                self._between(row, text)
            self.held, self.watch = [], 0
        else:
            self.watch = WATCH

    def _hold(self, row: int, cells: list[str]) -> None:
        text = "".join(self.feed.recent)
        if self._quotes() % 2:
            self._unbalance(1)
            self._between(row, text)
            return
        self.held.append((row, cells, text))
        self.watch -= 1
        if not self.watch:
            self._release()

    def _between(self, row: int, text: str) -> None:
        message = f"line {row} stands between two rows with unbalanced quotes"
        self.malformed.add(row, "broken-quote", text, message, "correct the quotes of the rows around it in the source")

    def _release(self) -> None:
        for row, cells, _ in self.held:
            self.numbers.append(row)
            self.rows.append(cells)
        self.held, self.watch = [], 0

    def _check_end(self) -> None:
        """A last row without a line end may have lost the rest of its last cell."""
        if not self.dialect.final_newline or self.feed.trailer or not self.numbers:
            return
        if self.feed.last.endswith(("\n", "\r")) or self.numbers[-1] != self.start:
            return
        row, cells = self.numbers.pop(), self.rows.pop()
        if not any(cells):
            return
        self.malformed.add(
            row,
            "cut-off",
            self.feed.delimiter.join(cells),
            f"the last row, line {row}, has no line end, so its last cell may be cut off",
            "if this source never ends its last line, set `final_newline: false` in the mapping",
        )
