"""Guesses the dialect of a file from a sample, and says why: for drafting a mapping, never for production."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from clevercsv.detect import Detector
from clevercsv.exceptions import Error as CleverError

from etl.formats import errors as refusals
from etl.formats.detect import encoding as charset
from etl.formats.detect import header_row as layout
from etl.formats.excel.workbook import BIFF, OLE, Request, ask
from etl.formats.limits import Limits
from etl.formats.text import lines as text
from etl.formats.text.csv_reader import options, unpadded
from etl.model.tables import Dialect

SAMPLE = 1 << 18  #: bytes
TASTE = 12_000  #: characters that clevercsv is given: more costs seconds and changes nothing (docs/reading.md)
DELIMITERS = [",", ";", "\t", "|", "^", "~", "¦", "\x1f"]
SEP = re.compile(r"sep=(.)(?:\r|\n)", re.IGNORECASE)  #: how Excel is told a delimiter
EVEN, UNEVEN = 0.9, 0.6  #: share of records of one width that makes a delimiter likely, or unlikely
NAMES = {",": "comma", ";": "semicolon", "\t": "TAB", "|": "bar"}


@dataclass(frozen=True, slots=True)
class Detection:
    """A dialect with its evidence, one sentence each."""

    dialect: Dialect
    evidence: tuple[str, ...]
    columns: tuple[str, ...]  #: the names that a read with this dialect gives


def dialect_of(path: Path, limits: Limits) -> Detection:
    """Of a file that is not packed."""
    with path.open("rb") as raw:
        sample = raw.read(SAMPLE)
        whole = not raw.read(1)
        raw.seek(max(path.stat().st_size - 4, 0))
        last = raw.read()
    if sample.startswith((b"PK\x03\x04", OLE)) or sample[:4] in BIFF:
        return _workbook(path, limits)
    return text_dialect(path, sample, last, whole=whole)


def _workbook(path: Path, limits: Limits) -> Detection:
    """Sheet and header row."""
    draft = Dialect(format="excel")
    answer = ask(Request(str(path.absolute()), path.name, "", draft, limits, tabs=True))
    if not answer.sample:
        raise refusals.empty(path.name)
    plan = layout.find(answer.sample)
    others = [name for name in answer.tabs if name != answer.sheet]
    why = [f"workbook, sheet {answer.sheet!r}: the first visible one that holds something"]
    if others:
        why.append(f"other sheets: {', '.join(others)}")
    named = answer.sheet if others else None
    dialect = replace(layout.apply(plan, draft), sheet=named, short_rows="reject", long_rows="reject")
    return Detection(dialect, (*why, *plan.why), plan.columns)


def text_dialect(path: Path, sample: bytes, last: bytes, *, whole: bool) -> Detection:
    """Encoding, delimiter, quote, escape and header of a delimited file."""
    if not sample:
        raise refusals.empty(path.name)
    found = charset.guess(sample, whole)
    mark = text.bom_of(sample)
    codec = found.encoding
    if codec in ("utf-16", "utf-32"):  # told by the mark, which also tells the order of bytes
        codec += "-le" if sample.startswith(b"\xff\xfe") else "-be"
    shown = _decoded(sample[len(mark[0]) if mark else 0 :], codec)
    ended = _decoded(last, codec).endswith(("\n", "\r", "\x1a"))
    if not whole:
        shown = shown[: max(shown.rfind("\n"), shown.rfind("\r")) + 1] or shown
    delimiter, quote, escape, why = _marks(shown)
    draft = Dialect(encoding=found.encoding, delimiter=delimiter, quote=quote, escape=escape)
    rows = list(_rows(shown, draft))
    plan = layout.find(rows[1:] if SEP.match(shown) else rows)
    dialect = layout.apply(plan, draft)
    evidence = [found.why, why, *plan.why, _line_ends(shown)]
    if not ended:
        evidence.append("the last line has no line end: taken as this source's habit (final_newline: false)")
        dialect = replace(dialect, final_newline=False)
    return Detection(dialect, tuple(evidence), plan.columns)


def _decoded(data: bytes, encoding: str) -> str:
    """Text without a byte order mark, whatever cannot be read replaced."""
    return "".join(text.lines(io.BytesIO(data), text.codecs_of(encoding, ""))).replace(text.MARK, "\ufffd")


def _marks(shown: str) -> tuple[str, str | None, str | None, str]:
    """Delimiter, quote and escape."""
    taste = shown[:TASTE]
    if len(shown) > TASTE:
        taste = taste[: taste.rfind("\n") + 1] or taste
    said = SEP.match(taste)
    if said:
        delimiter, clever_quote, clever_escape = said[1], '"', None
        why = f"the first line says so (sep={said[1]})"
    else:
        delimiter, clever_quote, clever_escape, why = _delimiter(taste)
    quote, escape = _wrapping(taste, delimiter, clever_quote, clever_escape)
    why = f"delimiter {NAMES.get(delimiter, repr(delimiter))}: {why}"
    if quote is None:
        why += "; quotes are text here"
    elif quote in taste:
        why += f"; quote {quote}, seen {taste.count(quote)} times"
    if escape:
        why += f"; escape {escape}"
    return delimiter, quote, escape, why


def _delimiter(taste: str) -> tuple[str, str, str | None, str]:
    """clevercsv's choice, unless its records are uneven and another delimiter's are not."""
    try:
        found = Detector().detect(taste, delimiters=DELIMITERS)
    except (CleverError, ValueError, IndexError, KeyError, re.error):
        found = None
    evenness = {mark: _evenness(taste, mark) for mark in DELIMITERS if mark in taste}
    even = max(evenness, key=lambda mark: evenness[mark], default=None)
    if found is None or not found.delimiter:
        if even is None:
            return ",", '"', None, "none was seen: one column"
        return even, '"', None, f"of the usual ones it makes the most even records ({evenness[even]:.0%} of one width)"
    own = evenness.get(found.delimiter, 0.0)
    if even is not None and evenness[even] > EVEN and own < UNEVEN:
        return even, '"', None, f"{evenness[even]:.0%} of the records have one width then"
    seen = taste.split("\n", 1)[0].count(found.delimiter)
    return found.delimiter, found.quotechar or '"', found.escapechar or None, f"clevercsv, {seen} in the first line"


def _evenness(taste: str, delimiter: str) -> float:
    """Share of the records that have the most frequent width, when that is more than one cell."""
    widths = Counter(len(cells) for _, cells in _rows(taste, Dialect(delimiter=delimiter)) if cells)
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    return count / sum(widths.values()) if width > 1 else 0.0


def _wrapping(taste: str, delimiter: str, quote: str, escape: str | None) -> tuple[str | None, str | None]:
    """Quote and escape with which most records come out equally wide; clevercsv's own on a tie."""
    first = quote if quote in ('"', "'") else '"'
    choices: list[tuple[str | None, str | None]] = [(first, escape if escape == "\\" else None), (first, None)]
    if "\\" in taste:
        choices += [(first, "\\"), (None, "\\")]
    if first in taste:
        choices.append((None, None))

    def merit(choice: tuple[str | None, str | None]) -> int:
        draft = Dialect(delimiter=delimiter, quote=choice[0], escape=choice[1])
        widths = Counter(len(cells) for _, cells in _rows(taste, draft) if cells)
        usual = max(widths, key=lambda width: widths[width] * (width > 1) * width, default=0)
        return widths[usual] - 2 * (widths.total() - widths[usual])

    return max(choices, key=merit)


def _rows(shown: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Records of the sample with their lines; loose quotes end a record and are left to the reader to refuse."""
    recent: list[str] = []
    reader = csv.reader(_kept(io.StringIO(shown, newline=""), recent), **options(dialect, dialect.delimiter))
    while True:
        line = reader.line_num + 1
        recent.clear()
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, unpadded("".join(recent), dialect, dialect.delimiter, error) or [""]  # a record of no width


def _kept(lines: Iterable[str], recent: list[str]) -> Iterator[str]:
    for line in lines:
        recent.append(line)
        yield line


def _line_ends(shown: str) -> str:
    crlf = shown.count("\r\n")
    found = {"CRLF": crlf, "LF": shown.count("\n") - crlf, "CR": shown.count("\r") - crlf}
    seen = [name for name, count in found.items() if count]
    return f"line ends: {' and '.join(seen) or 'none'}"
