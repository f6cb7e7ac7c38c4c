"""Finds where the data begins and the names of its columns; a file that the dialect does not fit is invalid.

The dialect is frozen: it is checked here on the header and the first rows, and never guessed again. What does not fit
is named together with the mapping line that would fix it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from etl.errors import InvalidFileError
from etl.formats import errors
from etl.formats.text.csv_reader import csv_options
from etl.formats.text.line_source import DELIMITER_PLACEHOLDER, LineSource
from etl.formats.text.lines import BAD_BYTE
from etl.model.columns import ROW
from etl.model.tables import Dialect

COMMON_DELIMITERS = (",", ";", "\t", "|")
QUOTE_CHARACTERS = ('"', "'")
DOUBLED_QUOTES = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')  #: wrapped in quotes, with doubled ones inside
SAMPLE_RECORDS = 100  #: records looked at when quoting is checked


def read_header(source: LineSource, lines: Iterator[str]) -> tuple[str, ...]:
    """Read up to and including the header, check the dialect on it, and return the column names.

    Raises InvalidFileError.
    """
    dialect, where = source.dialect, source.path.name
    if dialect.header == 0:
        return _skip_to_data(source, lines)
    cells = _read_header_cells(source, lines)
    _check_header_text(source, cells, "".join(source.record_lines))
    _check_column_count(dialect, cells, where)
    check_column_order(dialect.columns, cells, where, dialect.header)
    if not dialect.columns and len(cells) > 1:
        source.header_cells = cells
    return unique_names(dialect.columns or cells, where, dialect.header, source.limits.columns)


def _skip_to_data(source: LineSource, lines: Iterator[str]) -> tuple[str, ...]:
    """Skip the lines before the data of a file without a header, and return the mapping's column names."""
    dialect, where = source.dialect, source.path.name
    if not dialect.columns:
        raise errors.missing_columns(where)
    if sum(1 for _ in islice(lines, dialect.skip)) < dialect.skip:
        raise errors.missing_header(where, dialect.skip, source.line_count)
    return unique_names(dialect.columns, where, 0, source.limits.columns)


def _read_header_cells(source: LineSource, lines: Iterator[str]) -> list[str]:
    dialect, where = source.dialect, source.path.name
    skipped = sum(1 for _ in islice(lines, dialect.header - 1))
    source.record_lines.clear()
    try:
        cells = next(csv.reader(lines, **csv_options(dialect, source.delimiter)), None)
    except csv.Error:
        raise InvalidFileError(
            "header-unreadable",
            f"the quotes in the header, line {dialect.header}, do not match",
            where=f"{where}:{dialect.header}",
            hint="check `quote:` and `header:` in the mapping, or whether the file was cut off",
        ) from None
    if cells is None:
        raise errors.missing_header(where, dialect.header, skipped)
    return source.restore_delimiter(cells)


def _check_header_text(source: LineSource, cells: Sequence[str], raw: str) -> None:
    """Check that the header is whole text, written with the mapping's delimiter and quotes."""
    dialect, where = source.dialect, source.path.name
    if not raw.strip():
        raise errors.blank_header(where, dialect.header)
    if BAD_BYTE in raw or "\0" in raw:
        raise InvalidFileError(
            "bad-bytes",
            f"the header has bytes that are no text in {dialect.encoding}",
            where=f"{where}:{dialect.header}",
            hint="check `encoding:` in the mapping",
        )
    check_delimiter(where, dialect, dialect.header, raw.replace(DELIMITER_PLACEHOLDER, dialect.delimiter))
    for quote in QUOTE_CHARACTERS:
        if quote != dialect.quote and all(_is_wrapped(cell, quote) for cell in cells):
            raise errors.wrong_quote(where, dialect.header, dialect.quote, quote)
    if dialect.final_newline and not raw.endswith(("\n", "\r")):
        raise InvalidFileError(
            "cut-off",
            "the file ends within its header",
            where=f"{where}:{dialect.header}",
            hint="ask the source to send it again; if it never ends its last line, set `final_newline: false`",
        )


def _check_column_count(dialect: Dialect, cells: Sequence[str], where: str) -> None:
    """Check that the mapping names as many columns as the header; more only where rows may lack cells."""
    columns = len(dialect.columns)
    if not columns or columns == len(cells) or (dialect.short_rows == "empty" and columns > len(cells)):
        return
    raise InvalidFileError(
        "columns-count",
        f"the mapping names {columns} columns, the header has {len(cells)}",
        where=f"{where}:{dialect.header}",
        hint="give `columns:` one name per column of the file",
    )


def unique_names(cells: Sequence[str], where: str, header: int, limit: int) -> tuple[str, ...]:
    """Return column names as written; one without a name is called after its place."""
    if len(cells) > limit:
        raise errors.file_too_big(where, f"the number of columns ({len(cells):,})", limit)
    names = tuple(cell or f"column {place}" for place, cell in enumerate(cells, 1))
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or ROW in names:
        raise errors.duplicate_names(where, header, repeated or [ROW])
    return names


def check_column_order(columns: Sequence[str], cells: Sequence[str], where: str, line: int) -> None:
    """Check that the header has the mapping's names at their places. Raises InvalidFileError where one has moved."""
    for name, cell in zip(columns, cells, strict=False):
        if cell != name and cell in columns and cells.count(cell) == 1:
            raise InvalidFileError(
                "columns-moved",
                f"the mapping names column {columns.index(cell) + 1} {cell!r}, the header has it in place "
                f"{list(cells).index(cell) + 1}",
                where=f"{where}:{line}",
                hint="the source has moved its columns: put `columns:` into the header's order",
            )


def check_first_rows(source: LineSource, lines: Iterator[str]) -> None:
    """Check, in a file without a header, that the first lines have the delimiter: decimal commas can look like it."""
    dialect = source.dialect
    if dialect.header or len(dialect.columns) < 2:
        return
    first = []
    for line in islice(lines, SAMPLE_RECORDS):
        source.record_lines.clear()
        first.append(line)
    check_delimiter(
        source.path.name, dialect, dialect.skip + 1, "".join(first).replace(DELIMITER_PLACEHOLDER, dialect.delimiter)
    )
    own = _share_of_full_records(first, source.delimiter, source)
    for mark in COMMON_DELIMITERS:
        even = 0.0 if mark == dialect.delimiter else _share_of_full_records(first, mark, source)
        if even > 2 * own or even > 0.9 > own:
            raise errors.wrong_delimiter(source.path.name, dialect.skip + 1, dialect.delimiter, mark)


def _share_of_full_records(lines: Sequence[str], delimiter: str, source: LineSource) -> float:
    """Return the share of records with as many cells as there are columns, without empty ones at the end."""
    wanted, width = csv_options(source.dialect, delimiter) | {"strict": False}, len(source.dialect.columns)
    records = [cells for cells in csv.reader(lines, **wanted) if cells]
    fitting = sum(len(cells) >= width and not any(cells[width:]) for cells in records)
    return fitting / len(records) if fitting * 2 > len(records) else 0.0


def check_delimiter(where: str, dialect: Dialect, line: int, raw: str) -> None:
    """Check that a line has the declared delimiter. Raises InvalidFileError where it has only another one."""
    if dialect.delimiter in raw:
        return
    found = max(COMMON_DELIMITERS, key=raw.count)
    if raw.count(found):
        raise errors.wrong_delimiter(where, line, dialect.delimiter, found)


def check_quotes(where: str, dialect: Dialect, first: int, rows: Sequence[Sequence[str | None]]) -> None:
    """Check, where no quotes are declared, that no column has quotes around its every cell."""
    if dialect.quote is not None:
        return
    if any(cell and DOUBLED_QUOTES.fullmatch(cell) for row in rows for cell in row):
        raise errors.wrong_quote(where, first, None, '"')
    for cells in zip(*rows, strict=False):
        filled = [cell for cell in cells if cell]
        if len(filled) > 1 and all(_is_wrapped(cell, '"') for cell in filled):
            raise errors.wrong_quote(where, first, None, '"')


def _is_wrapped(cell: str, quote: str) -> bool:
    return len(cell) > 2 and cell[0] == cell[-1] == quote
