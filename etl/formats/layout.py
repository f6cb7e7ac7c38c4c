"""Where the header of a sample stands, judged by widths and by what cells look like; says why in sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etl.model import Dialect

#: Looks like a value and not like a name: numbers, dates, times, amounts.
VALUE = re.compile(r"[-+]?[\d][\d\s.,:/%T+-]*(?:[eE][-+]?\d+)?[A-Z€$%]{0,3}")
WITHIN = 30  #: records in which a header is looked for


@dataclass(frozen=True, slots=True)
class Layout:
    """The part of a dialect that is about rows."""

    header: int
    columns: tuple[str, ...]  #: names; those of the header when there is one
    named: bool  #: the mapping has to name the columns: there is no header, or it repeats itself
    short_rows: bool
    long_rows: bool
    why: tuple[str, ...]


def find(rows: Sequence[tuple[int, Sequence[str]]]) -> Layout:
    """Header and width of a sample of (line, cells); blank rows are not among them."""
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        return Layout(1, (), False, False, False, ("no rows to look at",))
    width = _width(rows)
    at = next((place for place, (_, cells) in enumerate(rows[:WITHIN]) if _is_full(cells, width)), 0)
    line, cells = rows[at]
    why = []
    below = [row for _, row in rows[at + 1 :]]
    data = _looks_like_data(cells, below)
    if data:
        at, line = at - 1, 0
        below = [row for _, row in rows]
        wide = max(len(row) for row in below)
        names = tuple(f"column {place}" for place in range(1, wide + 1))
        why.append(f"no header: the first full row already holds values ({data})")
    else:
        names = _names(cells)
        why.append(f"header in line {line}: the first row with {len(cells)} names")
        if at:
            why.append(f"{at} line(s) of preamble before it")
    repeated = len(set(names)) < len(names)
    if repeated:
        twice = [name for name, count in Counter(names).items() if count > 1]
        why.append(f"repeated names: {', '.join(twice)}; they were told apart by a number")
        names = _told_apart(names)
    short, long_ = _ragged(below, len(names), why)
    return Layout(line, names, repeated or bool(data), short, long_, tuple(why))


def _width(rows: Sequence[tuple[int, Sequence[str]]]) -> int:
    """The most frequent width; of equally frequent ones the greatest."""
    widths = Counter(len(cells) for _, cells in rows)
    return max(widths, key=lambda width: (widths[width] * (width > 1), width))


def _is_full(cells: Sequence[str], width: int) -> bool:
    filled = sum(1 for cell in cells if cell.strip())
    return len(cells) >= width * 0.8 and filled >= max(min(width, 2), width * 0.5)


def _looks_like_data(cells: Sequence[str], below: Sequence[Sequence[str]]) -> str:
    """The cell that gives a row of values away: a value above other values."""
    for place, cell in enumerate(cells):
        if VALUE.fullmatch(cell.strip()):
            under = [row[place].strip() for row in below if place < len(row) and row[place].strip()]
            if not under or sum(bool(VALUE.fullmatch(value)) for value in under) * 2 > len(under):
                return f"{cell.strip()!r} in column {place + 1}"
    return ""


def _names(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell or f"column {place}" for place, cell in enumerate(cells, 1))


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
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


def _ragged(below: Sequence[Sequence[str]], width: int, why: list[str]) -> tuple[bool, bool]:
    short = sum(1 for row in below if len(row) < width)
    surplus = [row for row in below if len(row) > width]
    empty = [row for row in surplus if not any(row[width:])]
    is_short, is_long = short * 5 > len(below), bool(empty) and len(empty) == len(surplus)
    if short:
        taken = "cells missing at the end are taken as empty" if is_short else "they will be rejected"
        why.append(f"{short} of {len(below)} rows have fewer than {width} cells: {taken}")
    if surplus:
        taken = "surplus empty cells are left out" if is_long else "they will be rejected"
        why.append(f"{len(surplus)} of {len(below)} rows have more than {width} cells: {taken}")
    return is_short, is_long


def apply(layout: Layout, dialect: Dialect) -> Dialect:
    """The dialect with the layout in it."""
    return replace(
        dialect,
        header=layout.header,
        columns=layout.columns if layout.named else (),
        short_rows="empty" if layout.short_rows else "reject",
        long_rows="empty" if layout.long_rows else "reject",
    )
