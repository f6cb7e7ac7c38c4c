"""The fast reader: polars, wherever it can be proved that it reads exactly; None says "not proved".

polars pads short rows, takes blank lines for rows and knows neither code pages nor bare CR, all without a word. It does
raise on rows that are too long. So the proof is a balance of bytes: if cells, delimiters and line ends together are as
many bytes as the file has, no row was short, no line blank and no line end odd. The rows are counted in the bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from etl.formats.feed import Feed
from etl.formats.header import SAMPLE, check_quotes
from etl.formats.transcode import Scan, scan
from etl.model import ROW, Dialect


def read(feed: Feed, names: tuple[str, ...], first: int) -> tuple[pl.DataFrame, int] | None:
    """The table and the independent row count; `first` lines come before the data."""
    dialect = feed.dialect
    if not _eligible(dialect, feed.codecs):
        return None
    found = scan(feed.path, feed.codecs[0], feed.skip, dialect)
    if found is None or (found.last != b"\n" and dialect.final_newline):
        return None
    head = found.head(first)
    if head is None or (found.data is None and feed.skip and not first):
        return None
    crlf = found.returns > 0
    rows = found.newlines - first + (found.last != b"\n")
    if (crlf and found.returns != found.newlines) or not 0 < rows <= feed.limits.rows:
        return None
    source = feed.path if found.data is None else found.data
    frame = _parse(source, dialect, names, first, found.quoted)
    if frame is None or frame.height != rows or not _balanced(frame, found, head, rows, dialect):
        return None
    if found.longest > feed.limits.cell:
        return None  # the other reader knows the line
    if found.quoted:
        if not _well_quoted(source, dialect, first):
            return None
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    if min(frame.null_count().row(0)) and frame.select(pl.all_horizontal(pl.all().is_null()).any()).item():
        return None  # a row that says nothing is no row: the other reader leaves it out
    if feed.titles and _has_header_again(frame, feed.titles):
        return None
    check_quotes(feed.path.name, dialect, first + 1, frame.head(SAMPLE).rows())
    number = pl.int_range(first + 1, first + 1 + rows, dtype=pl.Int64, eager=True).alias(ROW)
    return frame.insert_column(0, number), rows


def _has_header_again(frame: pl.DataFrame, titles: list[str]) -> bool:
    """Exports put one after the other: the tolerant reader names the line."""
    last = frame.filter(pl.col(frame.columns[-1]).eq_missing(titles[-1] or None))
    if last.is_empty():
        return False
    same = [pl.col(name).eq_missing(title or None) for name, title in zip(frame.columns, titles, strict=True)]
    same[0] = pl.col(frame.columns[0]).str.strip_chars_start("\ufeff").eq_missing(titles[0] or None)
    return not last.filter(pl.all_horizontal(same)).is_empty()


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


def _parse(
    source: Path | bytes, dialect: Dialect, names: tuple[str, ...], first: int, quoted: bool
) -> pl.DataFrame | None:
    try:
        return pl.read_csv(
            source,
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
    return bool(sum(sizes.row(0)) + delimiters + ends + quotes == found.size - len(head))


def _well_quoted(source: Path | bytes, dialect: Dialect, first: int) -> bool:
    """Is every line a full record in which quotes wrap whole cells?"""
    mark, delimiter = re.escape(dialect.quote or ""), re.escape(dialect.delimiter)
    cell = f"(?:[^{mark}{delimiter}\r]*|{mark}(?:[^{mark}]|{mark}{mark})*{mark})"
    lines = pl.scan_lines(source).slice(first)
    return bool(lines.select(pl.all().str.contains(f"^{cell}(?:{delimiter}{cell})*\r?$").all()).collect().item())
