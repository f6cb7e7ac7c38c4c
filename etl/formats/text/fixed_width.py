"""Fixed-width files: the mapping declares how many characters each column has."""

from __future__ import annotations

from itertools import accumulate, islice, pairwise
from pathlib import Path

from etl.errors import FileRefused
from etl.formats import errors as refusals
from etl.formats.limits import Limits
from etl.formats.text import header
from etl.formats.text.csv_reader import Malformed, frame_of
from etl.formats.text.line_source import open_feed
from etl.formats.text.lines import MARK
from etl.model.tables import Dialect, Rejections, Table


def read(path: Path, dialect: Dialect, limits: Limits) -> Table:
    """A line is a row; blanks that pad a cell are cut, everything else stays."""
    widths = dialect.widths
    if not widths or min(widths) < 1:
        raise FileRefused(
            "widths-missing",
            "the mapping does not say how wide the columns are",
            where=path.name,
            hint="give the characters of each column in the mapping: widths: [8, 30, 10]",
        )
    places = list(pairwise(accumulate(widths, initial=0)))
    total = places[-1][1]
    malformed, numbers, rows = Malformed(), list[int](), list[list[str]]()
    with open_feed(path, dialect, limits) as feed:
        lines = iter(feed)
        names = _names(path.name, dialect, list(islice(lines, dialect.above)), places, limits)
        number = dialect.above
        for line in lines:
            number += 1
            feed.recent.clear()
            text = line.rstrip("\r\n")
            if not text.strip():
                continue
            problem = _problem(number, line, text, total, dialect)
            if problem:
                malformed.add(number, problem[0], text, *problem[1:])
                continue
            numbers.append(number)
            rows.append([text[start:end].strip(" ") for start, end in places])
            if len(rows) > limits.rows:
                raise refusals.too_big(path.name, "the number of rows", limits.rows)
        frame = frame_of(numbers, rows, names)
        count = _count(path, dialect, limits)
        feed.check_trailer(count)
    return Table(frame, Rejections(malformed.frame()), count)


def _problem(number: int, line: str, text: str, total: int, dialect: Dialect) -> tuple[str, str, str] | None:
    if MARK in text or "\0" in text:
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


def _names(
    where: str, dialect: Dialect, head: list[str], places: list[tuple[int, int]], limits: Limits
) -> tuple[str, ...]:
    if len(head) < dialect.above:
        raise refusals.no_header(where, dialect.above, len(head))
    if dialect.header == 0 and not dialect.columns:
        raise refusals.columns_missing(where)
    names = dialect.columns or [head[-1].rstrip("\r\n")[start:end].strip() for start, end in places]
    if len(names) != len(places):
        raise FileRefused(
            "columns-count",
            f"the mapping names {len(names)} columns and gives {len(places)} widths",
            where=where,
            hint="give `columns:` and `widths:` one entry per column",
        )
    return header.unique(names, where, dialect.header, limits.columns)


def _count(path: Path, dialect: Dialect, limits: Limits) -> int:
    with open_feed(path, dialect, limits) as feed:
        total = 0
        for line in islice(feed, dialect.above, None):
            feed.recent.clear()
            total += not line.isspace()
        return total
