"""The fast reader: polars, wherever it can be proved that it reads exactly; where it cannot, it stops.

polars pads short rows, takes blank lines for rows and knows neither code pages nor bare CR, all without an error. It
does raise on rows that are too long. So the proof is a balance of bytes: if cells, delimiters and line ends together
are as many bytes as the file has, no row was short, no line blank and no line end odd. The rows are counted in the
bytes.

A file is read in blocks that end with a line, each proved by itself; a proved block ends outside any quoted cell, so
the next one, or the tolerant reader, goes on from there as if the file began with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl

from etl.formats import errors
from etl.formats.text.header import SAMPLE_RECORDS, check_quotes
from etl.formats.text.line_source import LineSource
from etl.formats.text.lines import is_single_byte_codec
from etl.formats.text.transcode import BlockScan, scan_block
from etl.model.columns import ROW
from etl.model.tables import Dialect
from etl.parallel import Submit, ordered_results, run_inline


@dataclass(slots=True)
class ProvenPrefix:
    """How far a file has been read."""

    offset: int  #: bytes
    lines: int
    rows: int = 0
    is_complete: bool = False  #: that was all of it


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file, proved."""

    frame: pl.DataFrame
    size: int  #: bytes
    is_last: bool  #: the file ends with it


def read_proven(
    source: LineSource, names: tuple[str, ...], prefix: ProvenPrefix, start: Submit = run_inline
) -> Iterator[pl.DataFrame]:
    """Yield the table block by block from `proved` on, and advance it, as far as the blocks can be proved."""
    if not _is_eligible(source.dialect, source.codecs):
        return
    first = prefix.lines  # preamble and header are in the first block
    for block in ordered_results(_block_tasks(source, prefix.offset, names, first), start):
        if block is None:
            return
        if not prefix.rows:
            check_quotes(source.path.name, source.dialect, first + 1, block.frame.head(SAMPLE_RECORDS).rows())
        line = prefix.lines + 1
        prefix.offset += block.size
        prefix.lines += block.frame.height
        prefix.rows += block.frame.height
        if prefix.rows > source.limits.rows:
            raise errors.file_too_big(source.path.name, "the number of rows", source.limits.rows)
        prefix.is_complete = block.is_last
        number = pl.int_range(line, line + block.frame.height, dtype=pl.Int64, eager=True).alias(ROW)
        yield block.frame.insert_column(0, number)


def _is_eligible(dialect: Dialect, codecs: tuple[str, ...]) -> bool:
    marks = dialect.delimiter + (dialect.quote or "")
    return (
        len(dialect.delimiter) == 1
        and marks.isascii()
        and dialect.escape is None
        and dialect.trailer is None
        and dialect.short_rows == dialect.long_rows == "reject"
        and (len(codecs) == 1 or codecs[0] == "utf-8")
    )


def _block_tasks(
    source: LineSource, offset: int, names: tuple[str, ...], skip_lines: int
) -> Iterator[Callable[[], Block | None]]:
    """Yield tasks that prove a block each; its bytes are scanned before, which is quick and holds Python's lock."""
    for buffer, size, ends in _read_blocks(source, offset):
        found = scan_block(buffer, size, source.codecs[0], source.dialect)
        yield partial(_prove_block, source, found, size, ends, names, skip_lines)
        skip_lines = 0


def _read_blocks(source: LineSource, offset: int) -> Iterator[tuple[bytearray, int, bool]]:
    """Yield a buffer, used again and again, how much of it are whole lines, and whether they are the last ones.

    All is one block where LF is not always one byte.
    """
    codec = source.codecs[0]
    left = source.path.stat().st_size - offset
    size = min(source.limits.block_bytes, left) if codec == "utf-8" or is_single_byte_codec(codec) else left
    buffer, filled = bytearray(size), 0
    with source.path.open("rb", buffering=0) as raw:
        raw.seek(offset)
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
            if cut or filled > source.limits.record_characters:
                cut = cut or filled
                yield buffer, cut, left <= 0
                buffer[: filled - cut] = buffer[cut:filled]
                filled -= cut


def _prove_block(
    source: LineSource, block_scan: BlockScan | None, size: int, is_last: bool, names: tuple[str, ...], skip_lines: int
) -> Block | None:
    """Return a block, if its cells can be proved; runs in any thread."""
    frame = _prove_cells(source, block_scan, names, skip_lines)
    return Block(frame, size, is_last) if frame is not None else None


def _prove_cells(
    source: LineSource, block_scan: BlockScan | None, names: tuple[str, ...], skip_lines: int
) -> pl.DataFrame | None:
    """Return the cells of a block whose first lines are no rows; None when they cannot be proved."""
    dialect = source.dialect
    if block_scan is None or (block_scan.last_byte != b"\n" and dialect.final_newline):
        return None
    head = _first_lines(block_scan.data, skip_lines)
    rows = block_scan.newlines - skip_lines + (block_scan.last_byte != b"\n")
    odd = (
        block_scan.carriage_returns > 0
        and not block_scan.carriage_returns == block_scan.newlines == block_scan.data.count(b"\r\n")
    )
    if head is None or rows <= 0 or odd or block_scan.longest_line > source.limits.record_characters:
        return None  # of a line that is too long the other reader knows the number
    frame = _parse_block(block_scan.data, dialect, names, skip_lines, block_scan.may_have_quotes)
    if frame is None or frame.height != rows or not _is_balanced(frame, block_scan, head, rows, dialect):
        return None
    if block_scan.may_have_quotes:
        if not _is_well_quoted(block_scan.data, dialect, skip_lines):
            return None
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    if min(frame.null_count().row(0)) and frame.select(pl.all_horizontal(pl.all().is_null()).any()).item():
        return None  # a row that says nothing is no row: the other reader leaves it out
    if source.header_cells and _repeats_header(frame, source.header_cells):
        return None
    return frame


def _repeats_header(frame: pl.DataFrame, header_cells: list[str]) -> bool:
    """Return whether a row repeats the header: the tolerant reader names its line."""
    last = frame.filter(pl.col(frame.columns[-1]).eq_missing(header_cells[-1] or None))
    if last.is_empty():
        return False
    same = [pl.col(name).eq_missing(title or None) for name, title in zip(frame.columns, header_cells, strict=True)]
    same[0] = pl.col(frame.columns[0]).str.strip_chars_start("\ufeff").eq_missing(header_cells[0] or None)
    return not last.filter(pl.all_horizontal(same)).is_empty()


def _first_lines(data: bytes, lines: int) -> bytes | None:
    """Return the bytes of the first lines; None when they are too long for preamble and header."""
    at = 0
    for _ in range(lines):
        at = data.find(b"\n", at, 1 << 20) + 1
        if not at:
            return None
    return data[:at]


def _parse_block(
    data: bytes, dialect: Dialect, names: tuple[str, ...], skip_lines: int, quoted: bool
) -> pl.DataFrame | None:
    try:
        return pl.read_csv(
            data,
            has_header=False,
            skip_lines=skip_lines,
            schema=dict.fromkeys(names, pl.String),
            separator=dialect.delimiter,
            quote_char=dialect.quote if quoted else None,
        )
    except pl.exceptions.PolarsError:
        return None


def _is_balanced(frame: pl.DataFrame, block_scan: BlockScan, head: bytes, rows: int, dialect: Dialect) -> bool:
    """Return whether cells, delimiters, line ends and quotes are as many bytes as the block has."""
    mark = dialect.quote if block_scan.may_have_quotes else None
    sizes = frame.select(pl.all().str.len_bytes().sum())
    delimiters = rows * (frame.width - 1)
    ends = block_scan.newlines - head.count(b"\n") + block_scan.carriage_returns - head.count(b"\r")
    quotes = 0
    if mark:
        inner = frame.select(pl.all().str.count_matches(mark, literal=True).sum())
        quotes = block_scan.quote_count - head.count(mark.encode()) - sum(inner.row(0))
    return bool(sum(sizes.row(0)) + delimiters + ends + quotes == len(block_scan.data) - len(head))


def _is_well_quoted(data: bytes, dialect: Dialect, skip_lines: int) -> bool:
    """Return whether every line is a full record in which quotes wrap whole cells."""
    mark, delimiter = re.escape(dialect.quote or ""), re.escape(dialect.delimiter)
    cell = f"(?:[^{mark}{delimiter}\r]*|{mark}(?:[^{mark}]|{mark}{mark})*{mark})"
    lines = pl.scan_lines(data).slice(skip_lines)
    return bool(lines.select(pl.all().str.contains(f"^{cell}(?:{delimiter}{cell})*\r?$").all()).collect().item())
