"""CSV and its kin: opens, checks, reads by the fastest reader that is provably right, counts by another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from etl.formats import count, fast, fixed, header, text
from etl.formats.feed import Feed, open_feed
from etl.formats.limits import Limits
from etl.formats.records import Malformed, Reader
from etl.model import ROW, Dialect, Rejections, Table

MANY = 3  #: rows with bad bytes that make one ask whether the whole file is in another code page


def read(path: Path, dialect: Dialect, limits: Limits) -> Table:
    """A delimited file as a table."""
    if dialect.format == "fixed":
        return fixed.read(path, dialect, limits)
    with open_feed(path, dialect, limits) as feed:
        lines = iter(feed)
        names = header.names_of(feed, lines)
        above = feed.given
        header.check_headless(feed, lines)
        found = fast.read(feed, names, above)
    if found is None:
        return read_tolerantly(path, dialect, limits)
    frame, rows = found
    return Table(frame, Rejections(Malformed().frame()), rows)


def read_tolerantly(path: Path, dialect: Dialect, limits: Limits) -> Table:
    """The same without the fast reader."""
    malformed = Malformed()
    with open_feed(path, dialect, limits) as feed:
        lines = iter(feed)
        names = header.names_of(feed, lines)
        frame = pl.concat(Reader(feed, lines, names, malformed).frames())
        header.check_quotes(path.name, dialect, dialect.above + 1, frame.head(header.SAMPLE).drop(ROW).rows())
        if malformed.count("bad-bytes") >= MANY:
            text.refuse_other_code_page(path, dialect.encoding, feed.codecs)
        rows = _count(path, dialect, limits)
        feed.check_trailer(rows)
    return Table(frame, Rejections(malformed.frame()), rows)


def _count(path: Path, dialect: Dialect, limits: Limits) -> int:
    with open_feed(path, dialect, limits) as feed:
        lines = iter(feed)
        header.names_of(feed, lines)
        return count.rows(_forgetting(feed, lines), dialect, feed.delimiter)


def _forgetting(feed: Feed, lines: Iterator[str]) -> Iterator[str]:
    """The lines, without gathering them into a record."""
    for line in lines:
        feed.recent.clear()
        yield line
