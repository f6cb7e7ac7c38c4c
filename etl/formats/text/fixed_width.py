"""Reads fixed-width files: the mapping declares how many characters each column has."""

from __future__ import annotations

from itertools import accumulate, islice, pairwise
from pathlib import Path

from etl.errors import InvalidFileError
from etl.formats import errors
from etl.formats.limits import ReadLimits
from etl.formats.text import header
from etl.formats.text.csv_reader import MalformedRows, make_frame
from etl.formats.text.line_source import open_line_source
from etl.formats.text.lines import BAD_BYTE
from etl.model.tables import Dialect, Rejections, Table


def read_fixed_width(path: Path, dialect: Dialect, limits: ReadLimits) -> Table:
    """Read a file in which a line is a row; the blanks that pad a cell are cut, everything else stays."""
    widths = dialect.widths
    if not widths or min(widths) < 1:
        raise InvalidFileError(
            "widths-missing",
            "the mapping does not say how wide the columns are",
            where=path.name,
            hint="give the characters of each column in the mapping: widths: [8, 30, 10]",
        )
    places = list(pairwise(accumulate(widths, initial=0)))
    total = places[-1][1]
    malformed, numbers, rows = MalformedRows(), list[int](), list[list[str]]()
    with open_line_source(path, dialect, limits) as feed:
        lines = iter(feed)
        names = _column_names(path.name, dialect, list(islice(lines, dialect.rows_before_data)), places, limits)
        number = dialect.rows_before_data
        for line in lines:
            number += 1
            feed.record_lines.clear()
            text = line.rstrip("\r\n")
            if not text.strip():
                continue
            problem = _line_problem(number, line, text, total, dialect)
            if problem:
                malformed.add(number, problem[0], text, *problem[1:])
                continue
            numbers.append(number)
            rows.append([text[start:end].strip(" ") for start, end in places])
            if len(rows) > limits.rows:
                raise errors.file_too_big(path.name, "the number of rows", limits.rows)
        frame = make_frame(numbers, rows, names)
        count = _count_lines(path, dialect, limits)
        feed.check_trailer(count)
    return Table(frame, Rejections(malformed.to_frame()), count)


def _line_problem(number: int, line: str, text: str, total: int, dialect: Dialect) -> tuple[str, str, str] | None:
    if BAD_BYTE in text or "\0" in text:
        message = f"line {number} has bytes that are no text in {dialect.encoding}"
        return "bad-bytes", message, "check `encoding:` in the mapping"
    if line == text and dialect.final_newline:
        message = f"the last row, line {number}, has no line end, so it may be cut off"
        return "cut-off", message, "if this source never ends its last line, set `final_newline: false`"
    size = len(text)
    if size < total and dialect.short_rows == "reject":
        message = f"line {number} has {size} characters, the columns have {total}"
        return "row-too-short", message, "if the source cuts blanks at the end of a line, set `short_rows: empty`"
    if text[total:].strip(" "):
        message = f"line {number} has {size} characters, the columns have {total}"
        return "row-too-long", message, "correct `widths:` in the mapping, or the row in the source"
    return None


def _column_names(
    where: str, dialect: Dialect, first_lines: list[str], spans: list[tuple[int, int]], limits: ReadLimits
) -> tuple[str, ...]:
    if len(first_lines) < dialect.rows_before_data:
        raise errors.missing_header(where, dialect.rows_before_data, len(first_lines))
    if dialect.header == 0 and not dialect.columns:
        raise errors.missing_columns(where)
    names = dialect.columns or [first_lines[-1].rstrip("\r\n")[start:end].strip() for start, end in spans]
    if len(names) != len(spans):
        raise InvalidFileError(
            "columns-count",
            f"the mapping names {len(names)} columns and gives {len(spans)} widths",
            where=where,
            hint="give `columns:` and `widths:` one entry per column",
        )
    return header.unique_names(names, where, dialect.header, limits.columns)


def _count_lines(path: Path, dialect: Dialect, limits: ReadLimits) -> int:
    with open_line_source(path, dialect, limits) as feed:
        total = 0
        for line in islice(feed, dialect.rows_before_data, None):
            feed.record_lines.clear()
            total += not line.isspace()
        return total
