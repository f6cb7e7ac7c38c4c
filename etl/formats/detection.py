"""Guesses the dialect of a file from a sample, and says why: for drafting a mapping, never for production."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from clevercsv.detect import Detector
from clevercsv.exceptions import Error as CleverError

from etl.formats import charset, layout, refusals
from etl.formats.limits import Limits
from etl.formats.records import options
from etl.formats.text import bom_of
from etl.formats.workbook import BIFF, OLE, Request, ask
from etl.model import Dialect

SAMPLE = 1 << 18  #: bytes
TASTE = 12_000  #: characters that clevercsv is given: more costs seconds and changes nothing (docs/reading.md)
DELIMITERS = [",", ";", "\t", "|", "^", "~", "¦", "\x1f"]
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
    if sample.startswith((b"PK\x03\x04", OLE)) or sample[:4] in BIFF:
        return _workbook(path, limits)
    return text_dialect(path, sample, whole)


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
    dialect = Dialect(format="excel", header=plan.header, columns=plan.columns if plan.named else (), sheet=named)
    return Detection(dialect, (*why, *plan.why), plan.columns)


def text_dialect(path: Path, sample: bytes, whole: bool) -> Detection:
    """Encoding, delimiter, quote, escape and header of a delimited file."""
    if not sample:
        raise refusals.empty(path.name)
    found = charset.guess(sample, whole)
    mark = bom_of(sample)
    shown = sample[len(mark[0]) if mark else 0 :].decode(_with_order(found.encoding, sample), "replace")
    ended = shown.endswith(("\n", "\r", "\x1a"))
    if not whole:
        shown = shown[: max(shown.rfind("\n"), shown.rfind("\r")) + 1] or shown
    delimiter, quote, escape, why = _marks(shown)
    draft = Dialect(encoding=found.encoding, delimiter=delimiter, quote=quote, escape=escape)
    rows = list(_rows(shown, draft))
    plan = layout.find(rows)
    dialect = layout.apply(plan, draft)
    evidence = [found.why, why, *plan.why, _line_ends(shown)]
    if whole and not ended:
        evidence.append("the last line has no line end: taken as this source's habit (final_newline: false)")
        dialect = _unended(dialect)
    return Detection(dialect, tuple(evidence), plan.columns)


def _with_order(encoding: str, sample: bytes) -> str:
    """utf-16 of a file with a mark, as the codec that does not want one."""
    if encoding not in ("utf-16", "utf-32"):
        return encoding
    return encoding + ("-le" if sample.startswith(b"\xff\xfe") else "-be")


def _unended(dialect: Dialect) -> Dialect:
    return replace(dialect, final_newline=False)


def _marks(shown: str) -> tuple[str, str | None, str | None, str]:
    """Delimiter, quote and escape."""
    taste = shown[:TASTE]
    if len(shown) > TASTE:
        taste = taste[: taste.rfind("\n") + 1] or taste
    try:
        found = Detector().detect(taste, delimiters=DELIMITERS)
    except (CleverError, ValueError, IndexError, KeyError, re.error):
        found = None
    if found is None or not found.delimiter:
        delimiter = max(DELIMITERS, key=taste.count) if any(mark in taste for mark in DELIMITERS) else ","
        why = "it is the most frequent of the usual ones" if delimiter in taste else "none was seen: one column"
        return delimiter, '"', None, f"delimiter {NAMES.get(delimiter, repr(delimiter))}: {why}"
    quote, escape = _wrapping(taste, found.delimiter, found.quotechar or '"', found.escapechar or None)
    first = taste.split("\n", 1)[0].count(found.delimiter)
    why = f"delimiter {NAMES.get(found.delimiter, repr(found.delimiter))}: clevercsv, {first} in the first line"
    if quote is None:
        why += "; quotes are text here"
    elif quote in taste:
        why += f"; quote {quote}, seen {taste.count(quote)} times"
    if escape:
        why += f"; escape {escape}"
    return found.delimiter, quote, escape, why


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
        usual = widths.most_common(1)[0][1] if widths else 0
        return usual - 2 * (sum(widths.values()) - usual)

    return max(choices, key=merit)


def _rows(shown: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Records of the sample with their lines; loose quotes end a record and are left to the reader to refuse."""
    wanted = options(dialect, dialect.delimiter)
    lines = io.StringIO(shown, newline="")
    reader = csv.reader(lines, **wanted)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, [""]  # a record of no width


def _line_ends(shown: str) -> str:
    crlf = shown.count("\r\n")
    found = {"CRLF": crlf, "LF": shown.count("\n") - crlf, "CR": shown.count("\r") - crlf}
    seen = [name for name, count in found.items() if count]
    return f"line ends: {' and '.join(seen) or 'none'}"
