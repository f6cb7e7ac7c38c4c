"""Finds the header of a sample by widths and by the content of cells, and says why in sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etl.model.tables import Dialect

#: Looks like a value and not like a name: numbers, dates, times, amounts.
VALUE_PATTERN = re.compile(r"[-+]?[\d][\d\s.,:/%T+-]*(?:[eE][-+]?\d+)?[A-Z€$%]{0,3}")
YEAR_PATTERN = re.compile(r"(?:19|20)\d\d")
RARE_RATIO = 12  #: one in so many rows is too few to be a kind of record
HEADER_SEARCH_ROWS = 30  #: records in which a header is looked for


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The part of a dialect that is about rows."""

    header: int  #: line; 0: none
    skip: int  #: lines before the data where there is no header
    columns: tuple[str, ...]  #: names; those of the header when there is one
    needs_names: bool  #: the mapping has to name the columns: there is no header, or it repeats itself
    allows_short_rows: bool
    allows_long_rows: bool
    reasons: tuple[str, ...]


def find_header(rows: Sequence[tuple[int, Sequence[str]]]) -> RowLayout:
    """Find the header and the width of a sample of (line, cells) without blank rows."""
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        return RowLayout(1, 0, (), False, False, False, ("no rows to look at",))
    width = _main_width(rows)
    at = next((place for place, (_, cells) in enumerate(rows[:HEADER_SEARCH_ROWS]) if _is_full(cells, width)), 0)
    at -= at > 0 and _is_header_of_wider_rows(rows[at - 1][1], [row for _, row in rows[at:]], width)
    line, cells = rows[at]
    why = []
    below = [row for _, row in rows[at + 1 :]]
    data = _find_data_cell(cells, below, narrow=len(cells) < width - 1)
    skip = 0
    if data:
        at = min(at, next(place for place, (_, row) in enumerate(rows) if len(row) > 1 or place == at))
        if _is_mostly_short([row for _, row in rows[at:]], width):
            at = 0
        skip, line = rows[at][0] - 1, 0  # lines of one cell are prose; others may be records of another kind
        below = [row for _, row in rows[at:]]
        wide = _widest_common(below)
        names = tuple(f"column {place}" for place in range(1, wide + 1))
        why.append(f"no header: the first full row already holds values ({data})")
    else:
        names = _fill_names(cells)
        why.append(f"header in line {line}: the first row with {len(cells)} names")
    if at:
        why.append(f"{at} line(s) of preamble before that, which are not read")
    repeated = len(set(names)) < len(names)
    if repeated:
        twice = [name for name, count in Counter(names).items() if count > 1]
        why.append(f"repeated names: {', '.join(twice)}; they were told apart by a number")
        names = _number_duplicates(names)
    short, long_ = _check_row_lengths(below, len(names), why)
    return RowLayout(line, skip, names, repeated or bool(data), short, long_, tuple(why))


def _main_width(rows: Sequence[tuple[int, Sequence[str]]]) -> int:
    """Return the width that most cells have: many wide rows weigh more than a few more lines of prose above them."""
    widths = Counter(len(cells) for _, cells in rows)
    common = [width for width, count in widths.items() if count * 5 >= len(rows)] or list(widths)
    return max(common, key=lambda width: (widths[width] * width * (width > 1), width))


def _widest_common(rows: Sequence[Sequence[str]]) -> int:
    """Return the width of the widest kind of record; single wider rows count as damage."""
    widths = Counter(len(row) for row in rows)
    return max(width for width, count in widths.items() if count * RARE_RATIO >= len(rows))


def _is_full(cells: Sequence[str], width: int) -> bool:
    filled = sum(1 for cell in cells if cell.strip())
    return len(cells) >= width * 0.8 and filled >= max(min(width, 2), width * 0.5)


def _is_header_of_wider_rows(cells: Sequence[str], below: Sequence[Sequence[str]], width: int) -> bool:
    """Return whether names lack the delimiter with which every row below ends."""
    filled = sum(1 for row in below if any(row[width - 1 :]))
    return len(cells) == width - 1 and all(cells) and filled * RARE_RATIO < len(below)


def _find_data_cell(cells: Sequence[str], below: Sequence[Sequence[str]], *, narrow: bool) -> str:
    """Find the cell that shows that a row holds values: a value above other values, with no words above values.

    In a row that is narrower than those below it words prove nothing: it is a record of another kind.
    """
    found, words, values = "", 0, 0
    for place, cell in enumerate(cells):
        under = [row[place].strip() for row in below if place < len(row) and row[place].strip()]
        alike = sum(bool(VALUE_PATTERN.fullmatch(value)) for value in under)
        if VALUE_PATTERN.fullmatch(cell.strip()):
            if (
                YEAR_PATTERN.fullmatch(cell.strip())
                and under
                and not any(YEAR_PATTERN.fullmatch(value) for value in under)
            ):
                words += 1  # sales of 2025 are no year
            elif not under or alike * 2 > len(under):
                values += 1
                found = found or f"{cell.strip()!r} in column {place + 1}"
        elif cell.strip() and len(under) > 1 and alike == len(under):
            words += 1
    return found if values > words * (not narrow) else ""


def _fill_names(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell or f"column {place}" for place, cell in enumerate(cells, 1))


def _number_duplicates(names: Sequence[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    told: list[str] = []
    for name in names:
        seen[name] += 1
        other = name
        while other in told:
            other = f"{name} {seen[name]}" if seen[name] > 1 else f"{name} 2"
            seen[name] += other in told
        told.append(other)
    return tuple(told)


def _check_row_lengths(below: Sequence[Sequence[str]], width: int, reasons: list[str]) -> tuple[bool, bool]:
    short = sum(1 for row in below if len(row) < width)
    surplus = [row for row in below if len(row) > width]
    empty = [row for row in surplus if not any(row[width:])]
    is_short, is_long = _is_mostly_short(below, width), len(empty) * 2 > len(surplus)
    if short:
        taken = "cells missing at the end are taken as empty" if is_short else "they will be rejected"
        reasons.append(f"{short} of {len(below)} rows have fewer than {width} cells: {taken}")
    if surplus:
        taken = "surplus empty cells are left out" if is_long else "they will be rejected"
        reasons.append(f"{len(surplus)} of {len(below)} rows have more than {width} cells: {taken}")
    return is_short, is_long


def _is_mostly_short(rows: Sequence[Sequence[str]], width: int) -> bool:
    short = sum(1 for row in rows if len(row) < width)
    return short > 1 and short * 2 > len(rows)


def apply_layout(layout: RowLayout, dialect: Dialect) -> Dialect:
    """Return the dialect with the layout in it."""
    return replace(
        dialect,
        header=layout.header,
        skip=layout.skip,
        columns=layout.columns if layout.needs_names else (),
        short_rows="empty" if layout.allows_short_rows else "reject",
        long_rows="empty" if layout.allows_long_rows else "reject",
    )
