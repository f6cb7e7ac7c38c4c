"""The fast reader: polars, wherever it can be proved that it reads exactly; where it cannot, it stops.

polars pads short rows, takes blank lines for rows and knows neither code pages nor bare CR, all without a word. It does
raise on rows that are too long. So the proof is a balance of bytes: if cells, delimiters and line ends together are as
many bytes as the file has, no row was short, no line blank and no line end odd. The rows are counted in the bytes.

A file is read in blocks that end with a line, each proved by itself; a proved block ends outside any quoted cell, so
the next one, or the tolerant reader, goes on from there as if the file began with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl

from etl.formats import errors as refusals
from etl.formats.text import lines as text
from etl.formats.text.header import SAMPLE, check_quotes
from etl.formats.text.line_source import Feed
from etl.formats.text.transcode import Scan, scan
from etl.model.columns import ROW
from etl.model.tables import Dialect
from etl.parallel import Start, in_order, in_turn


@dataclass(slots=True)
class Proved:
    """How far a file has been read."""

    at: int  #: bytes
    lines: int
    rows: int = 0
    ended: bool = False  #: that was all of it


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file, proved."""

    frame: pl.DataFrame
    size: int  #: bytes
    ends: bool  #: the file ends with it


def read(feed: Feed, names: tuple[str, ...], proved: Proved, start: Start = in_turn) -> Iterator[pl.DataFrame]:
    """The table block by block, from where `proved` stands and moving it along, as far as it can be proved."""
    if not _eligible(feed.dialect, feed.codecs):
        return
    first = proved.lines  # preamble and header are in the first block
    for block in in_order(_works(feed, proved.at, names, first), start):
        if block is None:
            return
        if not proved.rows:
            check_quotes(feed.path.name, feed.dialect, first + 1, block.frame.head(SAMPLE).rows())
        line = proved.lines + 1
        proved.at += block.size
        proved.lines += block.frame.height
        proved.rows += block.frame.height
        if proved.rows > feed.limits.rows:
            raise refusals.too_big(feed.path.name, "the number of rows", feed.limits.rows)
        proved.ended = block.ends
        number = pl.int_range(line, line + block.frame.height, dtype=pl.Int64, eager=True).alias(ROW)
        yield block.frame.insert_column(0, number)


def _eligible(dialect: Dialect, codecs: tuple[str, ...]) -> bool:
    marks = dialect.delimiter + (dialect.quote or "")
    return (
        len(dialect.delimiter) == 1
        and marks.isascii()
        and dialect.escape is None
        and dialect.trailer is None
        and dialect.short_rows == dialect.long_rows == "reject"
        and (len(codecs) == 1 or codecs[0] == "utf-8")
    )


def _works(feed: Feed, at: int, names: tuple[str, ...], first: int) -> Iterator[Callable[[], Block | None]]:
    """Each is the proof of a block, whose bytes have been looked at already: that is quick, and holds Python's lock."""
    for buffer, size, ends in _blocks(feed, at):
        found = scan(buffer, size, feed.codecs[0], feed.dialect)
        yield partial(_block, feed, found, size, ends, names, first)
        first = 0


def _blocks(feed: Feed, at: int) -> Iterator[tuple[bytearray, int, bool]]:
    """A buffer, used again and again, how much of it are whole lines, and whether they are the last ones.

    All is one block where LF is not always one byte.
    """
    codec = feed.codecs[0]
    left = feed.path.stat().st_size - at
    size = min(feed.limits.block, left) if codec == "utf-8" or text.is_single_byte(codec) else left
    buffer, filled = bytearray(size), 0
    with feed.path.open("rb", buffering=0) as raw:
        raw.seek(at)
        while left > 0:
            if filled == len(buffer):
                buffer.extend(bytes(size))
            with memoryview(buffer) as view, view[filled:] as free:
                read = raw.readinto(free)
            if not read:
                return
            left -= read
            filled += read
            cut = filled if left <= 0 else buffer.rfind(b"\n", 0, filled) + 1
            if cut or filled > feed.limits.cell:
                cut = cut or filled
                yield buffer, cut, left <= 0
                buffer[: filled - cut] = buffer[cut:filled]
                filled -= cut


def _block(feed: Feed, found: Scan | None, size: int, ends: bool, names: tuple[str, ...], first: int) -> Block | None:
    """A block, if its cells can be proved; in any thread."""
    frame = _proved(feed, found, names, first)
    return Block(frame, size, ends) if frame is not None else None


def _proved(feed: Feed, found: Scan | None, names: tuple[str, ...], first: int) -> pl.DataFrame | None:
    """The cells of a block whose first lines are no rows; None when that they are these cannot be proved."""
    dialect = feed.dialect
    if found is None or (found.last != b"\n" and dialect.final_newline):
        return None
    head = _head(found.data, first)
    rows = found.newlines - first + (found.last != b"\n")
    odd = found.returns > 0 and not found.returns == found.newlines == found.data.count(b"\r\n")
    if head is None or rows <= 0 or odd or found.longest > feed.limits.cell:
        return None  # of a line that is too long the other reader knows the number
    frame = _parse(found.data, dialect, names, first, found.quoted)
    if frame is None or frame.height != rows or not _balanced(frame, found, head, rows, dialect):
        return None
    if found.quoted:
        if not _well_quoted(found.data, dialect, first):
            return None
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    if min(frame.null_count().row(0)) and frame.select(pl.all_horizontal(pl.all().is_null()).any()).item():
        return None  # a row that says nothing is no row: the other reader leaves it out
    if feed.titles and _has_header_again(frame, feed.titles):
        return None
    return frame


def _has_header_again(frame: pl.DataFrame, titles: list[str]) -> bool:
    """Exports put one after the other: the tolerant reader names the line."""
    last = frame.filter(pl.col(frame.columns[-1]).eq_missing(titles[-1] or None))
    if last.is_empty():
        return False
    same = [pl.col(name).eq_missing(title or None) for name, title in zip(frame.columns, titles, strict=True)]
    same[0] = pl.col(frame.columns[0]).str.strip_chars_start("\ufeff").eq_missing(titles[0] or None)
    return not last.filter(pl.all_horizontal(same)).is_empty()


def _head(data: bytes, lines: int) -> bytes | None:
    """The bytes of the first lines; None when they are too long to be preamble and header."""
    at = 0
    for _ in range(lines):
        at = data.find(b"\n", at, 1 << 20) + 1
        if not at:
            return None
    return data[:at]


def _parse(data: bytes, dialect: Dialect, names: tuple[str, ...], first: int, quoted: bool) -> pl.DataFrame | None:
    try:
        return pl.read_csv(
            data,
            has_header=False,
            skip_lines=first,
            schema=dict.fromkeys(names, pl.String),
            separator=dialect.delimiter,
            quote_char=dialect.quote if quoted else None,
        )
    except pl.exceptions.PolarsError:
        return None


def _balanced(frame: pl.DataFrame, found: Scan, head: bytes, rows: int, dialect: Dialect) -> bool:
    """Are cells, delimiters, line ends and quotes as many bytes as there are?"""
    mark = dialect.quote if found.quoted else None
    sizes = frame.select(pl.all().str.len_bytes().sum())
    delimiters = rows * (frame.width - 1)
    ends = found.newlines - head.count(b"\n") + found.returns - head.count(b"\r")
    quotes = 0
    if mark:
        inner = frame.select(pl.all().str.count_matches(mark, literal=True).sum())
        quotes = found.quotes - head.count(mark.encode()) - sum(inner.row(0))
    return bool(sum(sizes.row(0)) + delimiters + ends + quotes == len(found.data) - len(head))


def _well_quoted(data: bytes, dialect: Dialect, first: int) -> bool:
    """Is every line a full record in which quotes wrap whole cells?"""
    mark, delimiter = re.escape(dialect.quote or ""), re.escape(dialect.delimiter)
    cell = f"(?:[^{mark}{delimiter}\r]*|{mark}(?:[^{mark}]|{mark}{mark})*{mark})"
    lines = pl.scan_lines(data).slice(first)
    return bool(lines.select(pl.all().str.contains(f"^{cell}(?:{delimiter}{cell})*\r?$").all()).collect().item())
