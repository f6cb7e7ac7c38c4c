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

from etl.formats import errors
from etl.formats.text.line_source import DELIMITER_PLACEHOLDER, LineSource
from etl.formats.text.lines import BAD_BYTE
from etl.model.columns import REJECTION_COLUMNS, ROW
from etl.model.tables import Dialect

BLOCK_ROWS = 50_000
WATCH_ROWS = 50  #: rows held back after unbalanced quotes
EXCERPT_CHARACTERS = 200

REJECTION_SCHEMA = {name: pl.Int64 if name == "row" else pl.String for name in REJECTION_COLUMNS}


@dataclass(slots=True)
class MalformedRows:
    """Rows whose cells could not be told apart; a million of them are kept as frames and not as objects."""

    buffer: list[tuple[int, str | None, str, str, str, str]] = field(default_factory=list)
    parts: list[pl.DataFrame] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, code: str, value: str, message: str, hint: str, *, column: str | None = None) -> None:
        shown = value[:EXCERPT_CHARACTERS].replace(BAD_BYTE, "�").replace(DELIMITER_PLACEHOLDER, "").rstrip("\r\n")
        self.buffer.append((row, column, code, shown.encode(errors="replace").decode(), message, hint))
        self.counts[code] += 1
        if len(self.buffer) >= BLOCK_ROWS:
            self._flush_buffer()

    def _flush_buffer(self) -> None:
        columns = zip(*self.buffer, strict=True) if self.buffer else [()] * len(REJECTION_SCHEMA)
        kinds = zip(REJECTION_SCHEMA.items(), columns, strict=True)
        self.parts.append(pl.DataFrame([pl.Series(name, cells, dtype=kind) for (name, kind), cells in kinds]))
        self.buffer.clear()

    def to_frame(self) -> pl.DataFrame:
        self._flush_buffer()
        return pl.concat(self.parts).sort("row", maintain_order=True)


def csv_options(dialect: Dialect, delimiter: str) -> dict[str, Any]:
    """Return the options of `csv.reader`."""
    csv.field_size_limit(sys.maxsize)  # the feed bounds a whole record; csv's own default is 128 KiB
    return {
        "delimiter": delimiter,
        "quotechar": dialect.quote,
        "quoting": csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        "escapechar": dialect.escape or None,
        "doublequote": True,
        "strict": True,
    }


def parse_padded(text: str, dialect: Dialect, delimiter: str, error: csv.Error) -> list[str]:
    """Return the cells, blanks included, when only blanks are between closing quotes and delimiters; else none."""
    if not dialect.quote or dialect.escape or delimiter == " " or "expected after" not in str(error):
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


def make_frame(numbers: list[int], rows: list[list[str]], names: tuple[str, ...]) -> pl.DataFrame:
    """Make a frame of cells: empty ones are null, rows without any filled cell are left out."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    series = [pl.Series(ROW, numbers, dtype=pl.Int64)]
    series += [pl.Series(name, cells, dtype=pl.String) for name, cells in zip(names, columns, strict=True)]
    return drop_blank_rows(pl.DataFrame(series))


def drop_blank_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Set empty cells to null, and drop the rows in which all are empty."""
    cells = pl.exclude(ROW)
    frame = frame.with_columns(pl.when(cells != "").then(cells))
    return frame.filter(~pl.all_horizontal(cells.is_null()))


class CsvReader:
    """One pass over the records after the header."""

    def __init__(
        self, source: LineSource, lines: Iterator[str], names: tuple[str, ...], malformed: MalformedRows
    ) -> None:
        self.source = source
        self.lines = lines
        self.names = names
        self.width = len(names)
        self.malformed = malformed
        self.dialect = source.dialect
        self.suspect_rows: list[tuple[int, list[str], str]] = []  # rows after unbalanced quotes
        self.watch_left = 0
        self.record_line = 0  #: line of the latest record
        self.line_numbers: list[int] = []
        self.rows: list[list[str]] = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the good rows in batches; the others go to `malformed`."""
        recent = self.source.record_lines
        recent.clear()
        reader = csv.reader(self.lines, **csv_options(self.dialect, self.source.delimiter))
        base = self.source.line_count
        width, total = self.width, 0
        while True:
            recent.clear()
            start = base + reader.line_num + 1
            try:
                cells = self.source.restore_delimiter(next(reader))
            except StopIteration:
                break
            except csv.Error as error:
                cells = self._parse_broken(start, error)
            self.record_line = start
            if len(cells) != width:
                cells = self._fit_width(start, cells)
            elif len(recent) > 1 and self._reject_swallowed(start):
                continue
            if not cells or self._reject_repeated_header(start, cells):
                continue
            if self.watch_left:
                self._watch_row(start, cells)
                continue
            self.line_numbers.append(start)
            self.rows.append(cells)
            if len(self.rows) > BLOCK_ROWS:
                total += BLOCK_ROWS
                self._check_row_limit(total)
                yield self._take_rows(BLOCK_ROWS)  # without the latest row: it may turn out to be cut off
        self._release_suspects()
        self._check_last_row()
        self._check_row_limit(total + len(self.rows))
        yield self._take_rows(len(self.rows))

    def _check_row_limit(self, rows: int) -> None:
        if rows > self.source.limits.rows:
            raise errors.file_too_big(self.source.path.name, "the number of rows", self.source.limits.rows)

    def _parse_broken(self, row: int, error: csv.Error) -> list[str]:
        """Return the cells of a record that csv refuses for padded quotes only; else reject it and return none."""
        text = "".join(self.source.record_lines)
        cells = self.source.restore_delimiter(parse_padded(text, self.dialect, self.source.delimiter, error))
        if len(cells) == self.width:
            return cells
        self._reject_broken(row, str(error))
        return []

    def _reject_repeated_header(self, row: int, cells: list[str]) -> bool:
        """Reject a row that repeats the header, where exports were put one after the other."""
        titles = self.source.header_cells
        if not titles or cells[-1] != titles[-1] or [cells[0].lstrip("\ufeff"), *cells[1:]] != titles:
            return False
        self.malformed.add(row, *errors.repeated_header(row, self.source.delimiter.join(cells)))
        return True

    def _take_rows(self, count: int) -> pl.DataFrame:
        numbers, rows = self.line_numbers[:count], self.rows[:count]
        self.line_numbers, self.rows = self.line_numbers[count:], self.rows[count:]
        try:
            frame = make_frame(numbers, rows, self.names)
        except UnicodeEncodeError:
            clean = [self._check_decoding(number, cells) for number, cells in zip(numbers, rows, strict=True)]
            numbers = [number for number, good in zip(numbers, clean, strict=True) if good]
            frame = make_frame(numbers, [cells for cells, good in zip(rows, clean, strict=True) if good], self.names)
        if self.source.has_zero_byte:
            zero = pl.any_horizontal(pl.exclude(ROW).str.contains("\0", literal=True).fill_null(False))
            for row in frame.filter(zero)[ROW]:
                self._reject_bad_bytes(row, "")
            frame = frame.filter(~zero)
        return frame

    def _check_decoding(self, row: int, cells: list[str]) -> bool:
        if any(BAD_BYTE in cell for cell in cells):
            self._reject_bad_bytes(row, self.source.delimiter.join(cells))
            return False
        return True

    def _reject_bad_bytes(self, row: int, value: str) -> None:
        self.malformed.add(
            row,
            "bad-bytes",
            value,
            f"line {row} has bytes that are no text in {self.dialect.encoding}",
            f"if single lines come in another code page, say so in the mapping: encoding: "
            f"{self.dialect.encoding}|{'windows-1252' if 'utf' in self.dialect.encoding else 'utf-8'}",
        )

    def _fit_width(self, row: int, cells: list[str]) -> list[str]:
        """Reject a row of another width, unless the mapping says that missing or surplus ends are empty."""
        if not any(cells):
            return []
        has, want, dialect = len(cells), self.width, self.dialect
        if has < want and dialect.short_rows == "empty":
            return cells + [""] * (want - has)
        if has > want and dialect.long_rows == "empty" and not any(cells[want:]):
            return cells[:want]
        if self.watch_left:
            self._toggle_watch(self._count_quotes())
        if has < want:
            code, hint = "row-too-short", "a line break or a missing delimiter has cut the row; "
            hint += "if the source leaves out empty cells at the end, set `short_rows: empty` in the mapping"
        else:
            code, hint = "row-too-long", "a cell holds the delimiter without quotes; "
            hint += "if rows only end in surplus delimiters, set `long_rows: empty` in the mapping"
        text = "".join(self.source.record_lines)
        if BAD_BYTE in text:
            self._reject_bad_bytes(row, text)
        else:
            self.malformed.add(row, code, text, f"line {row} has {has} cells, the header has {want}", hint)
        return []

    def _reject_broken(self, row: int, reason: str) -> None:
        recent, name = self.source.record_lines, self.source.path.name
        last = row + len(recent) - 1
        value = "".join(recent)
        if "unexpected end" in reason:
            full = sum(line.count(self.source.delimiter) == self.width - 1 for line in recent[1:])
            if len(recent) > 2 and (full > 1 or self.width == 1):
                raise errors.unclosed_quote(name, row, last)
            message = f"the file ends inside the quoted cell that begins in line {row}"
            hint = "the file is cut off, or a quote is not closed: ask the source to send it again"
            self.malformed.add(row, "cut-off", value, message, hint)
            return
        self._toggle_watch(self._count_quotes())
        upto = f"line {row}" if last == row else f"lines {row} to {last}"
        self.malformed.add(
            row,
            "broken-quote",
            value,
            f"a quoted cell in {upto} goes on after its closing quote",
            "double the quote inside the cell in the source, or set `escape:` or `quote:` in the mapping",
        )

    def _reject_swallowed(self, row: int) -> bool:
        """Reject a row whose lines would be rows of their own: a stray quote has joined them."""
        recent, delimiter = self.source.record_lines, self.source.delimiter
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

    def _count_quotes(self) -> int:
        quote = self.dialect.quote
        return sum(line.count(quote) for line in self.source.record_lines) if quote else 0

    def _toggle_watch(self, quotes: int) -> None:
        if quotes % 2 == 0:
            return
        if self.watch_left:  # the quote that was missing: what lay between belongs to the broken cell
            for row, _, text in self.suspect_rows:
                self._reject_between(row, text)
            self.suspect_rows, self.watch_left = [], 0
        else:
            self.watch_left = WATCH_ROWS

    def _watch_row(self, row: int, cells: list[str]) -> None:
        text = "".join(self.source.record_lines)
        if self._count_quotes() % 2:
            self._toggle_watch(1)
            self._reject_between(row, text)
            return
        self.suspect_rows.append((row, cells, text))
        self.watch_left -= 1
        if not self.watch_left:
            self._release_suspects()

    def _reject_between(self, row: int, text: str) -> None:
        message = f"line {row} stands between two rows with unbalanced quotes"
        self.malformed.add(row, "broken-quote", text, message, "correct the quotes of the rows around it in the source")

    def _release_suspects(self) -> None:
        for row, cells, _ in self.suspect_rows:
            self.line_numbers.append(row)
            self.rows.append(cells)
        self.suspect_rows, self.watch_left = [], 0

    def _check_last_row(self) -> None:
        """Reject a last row without a line end where its last cell may be cut off."""
        if not self.dialect.final_newline or self.source.trailer_match or not self.line_numbers:
            return
        if self.source.last_line.endswith(("\n", "\r")) or self.line_numbers[-1] != self.record_line:
            return
        row, cells = self.line_numbers.pop(), self.rows.pop()
        if not any(cells):
            return
        self.malformed.add(
            row,
            "cut-off",
            self.source.delimiter.join(cells),
            f"the last row, line {row}, has no line end, so its last cell may be cut off",
            "if this source never ends its last line, set `final_newline: false` in the mapping",
        )
