"""Reads delimited files: checks them, reads with the fastest reader that is proved right, counts with another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from etl.formats.limits import ReadLimits
from etl.formats.text import header, polars_reader, row_counter
from etl.formats.text.csv_reader import CsvReader, MalformedRows
from etl.formats.text.line_source import LineSource, open_line_source, translate_read_errors
from etl.formats.text.lines import reject_other_code_page
from etl.formats.text.polars_reader import ProvenPrefix
from etl.model.columns import ROW
from etl.model.tables import Dialect, Reading, Rejections, Table
from etl.parallel import Submit, run_inline

MANY_BAD_ROWS = 3  #: rows with bad bytes that make one ask whether the whole file is in another code page


class TextFile:
    """A delimited file as a `Reading`: the fast reader as far as it can prove itself, the tolerant one from there."""

    def __init__(self, path: Path, dialect: Dialect, limits: ReadLimits, *, only_tolerant: bool = False) -> None:
        self.path = path
        self.dialect = dialect
        self.limits = limits
        self.only_tolerant = only_tolerant
        self.malformed = Rejections(MalformedRows().to_frame())
        self.rows = 0
        with open_line_source(path, dialect, limits) as feed:
            lines = iter(feed)
            self.columns = header.read_header(feed, lines)
            self._data_start, self._header_cells = (
                ProvenPrefix(offset=feed.bom_size, lines=feed.line_count),
                feed.header_cells,
            )
            if not only_tolerant:
                header.check_first_rows(feed, lines)

    def frames(self, start: Submit = run_inline) -> Iterator[pl.DataFrame]:
        """Yield the rows in one pass over the file."""
        proved = ProvenPrefix(self._data_start.offset, self._data_start.lines)
        with translate_read_errors(self.path):
            if not self.only_tolerant:
                with open_line_source(self.path, self.dialect, self.limits) as feed:
                    feed.header_cells = self._header_cells
                    yield from polars_reader.read_proven(feed, self.columns, proved, start)
            self.malformed, self.rows = Rejections(MalformedRows().to_frame()), proved.rows
            if not proved.is_complete:
                yield from self._read_tolerantly(proved)

    def _read_tolerantly(self, prefix: ProvenPrefix) -> Iterator[pl.DataFrame]:
        """Yield the rows behind the proved part, or all of them."""
        malformed, shown = MalformedRows(), prefix.rows > 0
        with self._open_lines(prefix) as (feed, lines):
            for frame in CsvReader(feed, lines, self.columns, malformed).frames():
                if not shown:
                    sample = frame.head(header.SAMPLE_RECORDS).drop(ROW).rows()
                    header.check_quotes(self.path.name, self.dialect, self.dialect.rows_before_data + 1, sample)
                    shown = True
                yield frame
            if malformed.counts["bad-bytes"] >= MANY_BAD_ROWS:
                reject_other_code_page(self.path, self.dialect.encoding, feed.codecs)
            with self._open_lines(prefix) as (again, lines):
                self.rows += row_counter.count_rows(_without_history(again, lines), self.dialect, again.delimiter)
            feed.check_trailer(self.rows)
        self.malformed = Rejections(malformed.to_frame())

    @contextmanager
    def _open_lines(self, prefix: ProvenPrefix) -> Iterator[tuple[LineSource, Iterator[str]]]:
        at, given = (prefix.offset, prefix.lines) if prefix.rows else (0, 0)
        with open_line_source(self.path, self.dialect, self.limits, at, given) as feed:
            lines = iter(feed)
            if prefix.rows:
                feed.header_cells = self._header_cells
            else:
                header.read_header(feed, lines)
            yield feed, lines


def collect_table(reading: Reading) -> Table:
    """Return all of a file in memory."""
    frame = pl.concat(reading.frames())
    return Table(frame, reading.malformed, reading.rows)


def _without_history(source: LineSource, lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines without collecting them as a record."""
    for line in lines:
        source.record_lines.clear()
        yield line
