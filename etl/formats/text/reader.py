"""CSV and its kin: opens, checks, reads by the fastest reader that is provably right, counts by another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from etl.formats.limits import Limits
from etl.formats.text import header
from etl.formats.text import lines as text
from etl.formats.text import polars_reader as fast
from etl.formats.text import row_counter as count
from etl.formats.text.csv_reader import Malformed, Reader
from etl.formats.text.line_source import Feed, open_feed, readable
from etl.formats.text.polars_reader import Proved
from etl.model.columns import ROW
from etl.model.tables import Dialect, Reading, Rejections, Table
from etl.parallel import Start, in_turn

MANY = 3  #: rows with bad bytes that make one ask whether the whole file is in another code page


class Delimited:
    """A delimited file as a `Reading`: the fast reader as far as it can prove itself, the tolerant one from there."""

    def __init__(self, path: Path, dialect: Dialect, limits: Limits, *, tolerant: bool = False) -> None:
        self.path = path
        self.dialect = dialect
        self.limits = limits
        self.tolerant = tolerant
        self.malformed = Rejections(Malformed().frame())
        self.rows = 0
        with open_feed(path, dialect, limits) as feed:
            lines = iter(feed)
            self.columns = header.names_of(feed, lines)
            self._start, self._titles = Proved(at=feed.skip, lines=feed.given), feed.titles
            if not tolerant:
                header.check_headless(feed, lines)

    def frames(self, start: Start = in_turn) -> Iterator[pl.DataFrame]:
        """One pass over the file."""
        proved = Proved(self._start.at, self._start.lines)
        with readable(self.path):
            if not self.tolerant:
                with open_feed(self.path, self.dialect, self.limits) as feed:
                    feed.titles = self._titles
                    yield from fast.read(feed, self.columns, proved, start)
            self.malformed, self.rows = Rejections(Malformed().frame()), proved.rows
            if not proved.ended:
                yield from self._tolerant(proved)

    def _tolerant(self, proved: Proved) -> Iterator[pl.DataFrame]:
        """What follows on the proved part, or all of it."""
        malformed, shown = Malformed(), proved.rows > 0
        with self._opened(proved) as (feed, lines):
            for frame in Reader(feed, lines, self.columns, malformed).frames():
                if not shown:
                    sample = frame.head(header.SAMPLE).drop(ROW).rows()
                    header.check_quotes(self.path.name, self.dialect, self.dialect.above + 1, sample)
                    shown = True
                yield frame
            if malformed.counts["bad-bytes"] >= MANY:
                text.refuse_other_code_page(self.path, self.dialect.encoding, feed.codecs)
            with self._opened(proved) as (again, lines):
                self.rows += count.rows(_forgetting(again, lines), self.dialect, again.delimiter)
            feed.check_trailer(self.rows)
        self.malformed = Rejections(malformed.frame())

    @contextmanager
    def _opened(self, proved: Proved) -> Iterator[tuple[Feed, Iterator[str]]]:
        at, given = (proved.at, proved.lines) if proved.rows else (0, 0)
        with open_feed(self.path, self.dialect, self.limits, at, given) as feed:
            lines = iter(feed)
            if proved.rows:
                feed.titles = self._titles
            else:
                header.names_of(feed, lines)
            yield feed, lines


def read_tolerantly(path: Path, dialect: Dialect, limits: Limits) -> Table:
    """The whole table without the fast reader."""
    return whole(Delimited(path, dialect, limits, tolerant=True))


def whole(reading: Reading) -> Table:
    """All of a file in memory."""
    frame = pl.concat(reading.frames())
    return Table(frame, reading.malformed, reading.rows)


def _forgetting(feed: Feed, lines: Iterator[str]) -> Iterator[str]:
    """The lines, without gathering them into a record."""
    for line in lines:
        feed.recent.clear()
        yield line
