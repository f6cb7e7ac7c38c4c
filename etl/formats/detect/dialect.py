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

from etl.formats import errors
from etl.formats.detect import header_row
from etl.formats.detect.encoding import guess_encoding
from etl.formats.excel.workbook import BIFF_SIGNATURES, OLE_SIGNATURE, WorkbookRequest, run_worker
from etl.formats.limits import ReadLimits
from etl.formats.text.byte_order_mark import find_bom
from etl.formats.text.csv_reader import csv_options, parse_padded
from etl.formats.text.lines import BAD_BYTE, codec_names, read_lines
from etl.model.tables import Dialect

SAMPLE_BYTES = 1 << 18  #: bytes
DETECTOR_CHARACTERS = (
    12_000  #: characters that clevercsv is given: more costs seconds and changes nothing (docs/reading.md)
)
CANDIDATE_DELIMITERS = [",", ";", "\t", "|", "^", "~", "¦", "\x1f"]
SEP_LINE = re.compile(r"sep=(.)(?:\r|\n)", re.IGNORECASE)  #: how Excel is told a delimiter
LIKELY_SHARE, UNLIKELY_SHARE = 0.9, 0.6  #: share of records of one width that makes a delimiter likely, or unlikely
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "TAB", "|": "bar"}


@dataclass(frozen=True, slots=True)
class Detection:
    """A dialect with its evidence, one sentence each."""

    dialect: Dialect
    evidence: tuple[str, ...]
    columns: tuple[str, ...]  #: the names that a read with this dialect gives


def detect_file(path: Path, limits: ReadLimits) -> Detection:
    """Detect the dialect of a file that is not packed."""
    with path.open("rb") as raw:
        sample = raw.read(SAMPLE_BYTES)
        whole = not raw.read(1)
        raw.seek(max(path.stat().st_size - 4, 0))
        last = raw.read()
    if sample.startswith((b"PK\x03\x04", OLE_SIGNATURE)) or sample[:4] in BIFF_SIGNATURES:
        return _detect_workbook(path, limits)
    return detect_text(path, sample, last, is_complete=whole)


def _detect_workbook(path: Path, limits: ReadLimits) -> Detection:
    """Detect the sheet and the header row."""
    draft = Dialect(format="excel")
    answer = run_worker(WorkbookRequest(str(path.absolute()), path.name, "", draft, limits, only_sample=True))
    if not answer.sample:
        raise errors.empty_file(path.name)
    plan = header_row.find_header(answer.sample)
    others = [name for name in answer.sheet_names if name != answer.sheet]
    why = [f"workbook, sheet {answer.sheet!r}: the first visible one that holds something"]
    if others:
        why.append(f"other sheets: {', '.join(others)}")
    named = answer.sheet if others else None
    dialect = replace(header_row.apply_layout(plan, draft), sheet=named, short_rows="reject", long_rows="reject")
    return Detection(dialect, (*why, *plan.reasons), plan.columns)


def detect_text(path: Path, sample: bytes, tail: bytes, *, is_complete: bool) -> Detection:
    """Detect encoding, delimiter, quote, escape and header of a delimited file."""
    if not sample:
        raise errors.empty_file(path.name)
    found = guess_encoding(sample, is_complete)
    mark = find_bom(sample)
    codec = found.encoding
    if codec in ("utf-16", "utf-32"):  # told by the mark, which also tells the order of bytes
        codec += "-le" if sample.startswith(b"\xff\xfe") else "-be"
    shown = _decode_sample(sample[len(mark[0]) if mark else 0 :], codec)
    ended = _decode_sample(tail, codec).endswith(("\n", "\r", "\x1a"))
    if not is_complete:
        shown = shown[: max(shown.rfind("\n"), shown.rfind("\r")) + 1] or shown
    delimiter, quote, escape, why = _detect_delimiter_and_quotes(shown)
    draft = Dialect(encoding=found.encoding, delimiter=delimiter, quote=quote, escape=escape)
    rows = list(_sample_records(shown, draft))
    plan = header_row.find_header(rows[1:] if SEP_LINE.match(shown) else rows)
    dialect = header_row.apply_layout(plan, draft)
    evidence = [found.reason, why, *plan.reasons, _describe_line_ends(shown)]
    if not ended:
        evidence.append("the last line has no line end: taken as this source's habit (final_newline: false)")
        dialect = replace(dialect, final_newline=False)
    return Detection(dialect, tuple(evidence), plan.columns)


def _decode_sample(data: bytes, encoding: str) -> str:
    """Decode a sample without its byte order mark; undecodable bytes are replaced."""
    return "".join(read_lines(io.BytesIO(data), codec_names(encoding, ""))).replace(BAD_BYTE, "\ufffd")


def _detect_delimiter_and_quotes(text_sample: str) -> tuple[str, str | None, str | None, str]:
    """Return delimiter, quote and escape."""
    taste = text_sample[:DETECTOR_CHARACTERS]
    if len(text_sample) > DETECTOR_CHARACTERS:
        taste = taste[: taste.rfind("\n") + 1] or taste
    said = SEP_LINE.match(taste)
    if said:
        delimiter, clever_quote, clever_escape = said[1], '"', None
        why = f"the first line says so (sep={said[1]})"
    else:
        delimiter, clever_quote, clever_escape, why = _choose_delimiter(taste)
    quote, escape = _choose_quote(taste, delimiter, clever_quote, clever_escape)
    why = f"delimiter {DELIMITER_NAMES.get(delimiter, repr(delimiter))}: {why}"
    if quote is None:
        why += "; quotes are text here"
    elif quote in taste:
        why += f"; quote {quote}, seen {taste.count(quote)} times"
    if escape:
        why += f"; escape {escape}"
    return delimiter, quote, escape, why


def _choose_delimiter(text_sample: str) -> tuple[str, str, str | None, str]:
    """Return clevercsv's choice, unless its records are uneven and those of another delimiter are not."""
    try:
        found = Detector().detect(text_sample, delimiters=CANDIDATE_DELIMITERS)
    except (CleverError, ValueError, IndexError, KeyError, re.error):
        found = None
    evenness = {mark: _share_of_main_width(text_sample, mark) for mark in CANDIDATE_DELIMITERS if mark in text_sample}
    even = max(evenness, key=lambda mark: evenness[mark], default=None)
    if found is None or not found.delimiter:
        if even is None:
            return ",", '"', None, "none was seen: one column"
        return even, '"', None, f"of the usual ones it makes the most even records ({evenness[even]:.0%} of one width)"
    own = evenness.get(found.delimiter, 0.0)
    if even is not None and evenness[even] > LIKELY_SHARE and own < UNLIKELY_SHARE:
        return even, '"', None, f"{evenness[even]:.0%} of the records have one width then"
    seen = text_sample.split("\n", 1)[0].count(found.delimiter)
    return found.delimiter, found.quotechar or '"', found.escapechar or None, f"clevercsv, {seen} in the first line"


def _share_of_main_width(text_sample: str, delimiter: str) -> float:
    """Return the share of the records that have the most frequent width, when that is more than one cell."""
    widths = Counter(len(cells) for _, cells in _sample_records(text_sample, Dialect(delimiter=delimiter)) if cells)
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    return count / sum(widths.values()) if width > 1 else 0.0


def _choose_quote(text_sample: str, delimiter: str, quote: str, escape: str | None) -> tuple[str | None, str | None]:
    """Quote and escape with which most records come out equally wide; clevercsv's own on a tie."""
    first = quote if quote in ('"', "'") else '"'
    choices: list[tuple[str | None, str | None]] = [(first, escape if escape == "\\" else None), (first, None)]
    if "\\" in text_sample:
        choices += [(first, "\\"), (None, "\\")]
    if first in text_sample:
        choices.append((None, None))

    def merit(choice: tuple[str | None, str | None]) -> int:
        draft = Dialect(delimiter=delimiter, quote=choice[0], escape=choice[1])
        widths = Counter(len(cells) for _, cells in _sample_records(text_sample, draft) if cells)
        usual = max(widths, key=lambda width: widths[width] * (width > 1) * width, default=0)
        return widths[usual] - 2 * (widths.total() - widths[usual])

    return max(choices, key=merit)


def _sample_records(text_sample: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Return the records of the sample with their lines; a loose quote ends a record, which the reader rejects."""
    recent: list[str] = []
    reader = csv.reader(
        _with_history(io.StringIO(text_sample, newline=""), recent), **csv_options(dialect, dialect.delimiter)
    )
    while True:
        line = reader.line_num + 1
        recent.clear()
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, parse_padded("".join(recent), dialect, dialect.delimiter, error) or [""]  # a record of no width


def _with_history(lines: Iterable[str], recent: list[str]) -> Iterator[str]:
    for line in lines:
        recent.append(line)
        yield line


def _describe_line_ends(text_sample: str) -> str:
    crlf = text_sample.count("\r\n")
    found = {"CRLF": crlf, "LF": text_sample.count("\n") - crlf, "CR": text_sample.count("\r") - crlf}
    seen = [name for name, count in found.items() if count]
    return f"line ends: {' and '.join(seen) or 'none'}"
