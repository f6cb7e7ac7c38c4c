"""Which of our records a job's log complains about. Pure.

The log names a record in free text and in a copy of the row that may be missing or cut off
(https://docs.norce.io/solution-portal/functional-change-job-logs), so neither is parsed. Key values are looked for
as whole tokens: `A-1` is not found in `A-10`. Two mistakes are possible, and both are leant against: a record
missed would count as accepted, so whenever several records share what was found, all of them are refused; a value
found by accident (a count that looks like a part number) would hold back an innocent one, so short numbers must
stand where a value stands.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etl.model.runs import LogRow, Refusal

#: From this severity on part of the record was dropped; from ERROR on all of it
#: (https://docs.norce.io/api-reference/schemas/connectjob).
WARNING, ERROR = 2, 3

#: Longest message kept with a refusal.
LONGEST_MESSAGE = 500

# What may stand inside a key value without ending it; everything else is a border.
_TOKEN = re.compile(r"[\w\-./+#@&*%$~!?§°^]+")
_TRAILING = ".!?"
_INNER = r"\w\-/+#@&*%$~§°^"
_UNQUOTED_SHORT = re.compile(r"\d{1,2}")
_ESCAPED = re.compile(r'(?:\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))+')


@dataclass(frozen=True, slots=True)
class TracedRecord:
    """A record as the log may name it."""

    key: str  #: as in the `_key` column of what was sent
    values: tuple[str, ...]  #: the identifying values as text, the most telling first
    source_row: int | None = None
    source_file: str | None = None  #: as in `etl.model.runs.Refusal`
    source_run: str | None = None

    def refusal(self, severity: int, message: str) -> Refusal:
        """That Connect did not take it."""
        return Refusal(self.key, severity, message, self.source_row, self.source_file, self.source_run)


@dataclass(frozen=True, slots=True)
class Traced:
    """What could be made of a log."""

    refusals: tuple[Refusal, ...] = ()  #: one per key, highest severity
    positions: frozenset[int] = frozenset()  #: of the refused records among those given
    sure: int = 0  #: records that an error names beyond doubt
    untraced_errors: int = 0  #: errors that name no record of ours
    untraced_warnings: int = 0

    @property
    def errors(self) -> int:
        """Records refused with an error, for certain or because they could not be told apart."""
        return sum(refusal.severity >= ERROR for refusal in self.refusals)


def complaints(rows: Iterable[LogRow]) -> tuple[LogRow, ...]:
    """The rows that say something went wrong: start, finish and other information left out."""
    return tuple(row for row in rows if row.severity >= WARNING)


def trace(records: Sequence[TracedRecord], rows: Iterable[LogRow], names: Sequence[str] = ()) -> Traced:
    """The refused records. `names` are the JSON names of the values, where they have one each."""
    index = _Index(records, names)
    worst: dict[int, LogRow] = {}
    sure: set[int] = set()
    untraced = {True: 0, False: 0}
    for row in complaints(rows):
        found = index.find(row)
        if not found:
            untraced[row.severity >= ERROR] += 1
            continue
        if len(found) == 1 and row.severity >= ERROR:
            sure |= found
        for position in found:
            if position not in worst or row.severity > worst[position].severity:
                worst[position] = row
    return Traced(
        refusals=tuple(
            records[position].refusal(row.severity, _short(row.message)) for position, row in sorted(worst.items())
        ),
        positions=frozenset(worst),
        sure=len(sure),
        untraced_errors=untraced[True],
        untraced_warnings=untraced[False],
    )


class _Index:
    """Values to the records that carry them."""

    def __init__(self, records: Sequence[TracedRecord], names: Sequence[str]) -> None:
        self._records = records
        self._names = tuple(name for name in names if name)
        self._having: dict[str, set[int]] = defaultdict(set)
        for position, record in enumerate(records):
            for value in record.values:
                if value.strip():
                    self._having[value.strip()].add(position)
        # Values that are not one token (spaces, commas, quotes) are searched for one by one.
        self._composed = tuple(value for value in self._having if not _TOKEN.fullmatch(value) or value[-1] in _TRAILING)

    def find(self, row: LogRow) -> set[int]:
        """Positions of the records this row is about; all that cannot be told apart, none when nothing fits."""
        named = self._named_values(row.imported_row) if row.imported_row else set()
        texts = [row.message] if named else [row.message, row.imported_row or ""]
        seen = named | {value for text in texts for value in self._values_in(text)}
        found: set[int] = set()
        lead = self._leading(seen)
        for value in lead or seen:
            candidates = self._having[value]
            scores = {position: self._score(position, seen) for position in candidates}
            best = max(scores.values())
            found |= {position for position, score in scores.items() if score == best}
        return found

    def _leading(self, seen: set[str]) -> set[str]:
        """Of the values seen, those that are some record's most telling one: the others only narrow down."""
        return {
            value
            for value in seen
            if any(self._records[position].values[0].strip() == value for position in self._having[value])
        }

    def _score(self, position: int, seen: set[str]) -> tuple[bool, int]:
        values = [value.strip() for value in self._records[position].values]
        return values[0] in seen, sum(value in seen for value in values)

    def _named_values(self, text: str) -> set[str]:
        """Values that stand behind one of the key's own names in a row that looks like JSON, XML or name=value."""
        found = set()
        for name in self._names:
            for quoted, bare in re.findall(
                rf'(?<!\w){re.escape(name)}"?\s*[:=>]\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;<>}}\]]+))', text
            ):
                value = (_unescaped(quoted) if quoted else bare).strip()
                if value in self._having:
                    found.add(value)
        return found

    def _values_in(self, text: str) -> Iterable[str]:
        plain = _unescaped(text)
        for reading in {text, plain}:
            for match in _TOKEN.finditer(reading):
                yield from self._tokens(match, reading)
            for value in self._composed:
                if value in reading and _stands_alone(value, reading):
                    yield value

    def _tokens(self, match: re.Match[str], text: str) -> Iterable[str]:
        token = match[0]
        forms = [token, token.rstrip(_TRAILING), token.strip("*!?~#")]
        for form in forms:
            if form in self._having:
                if not _UNQUOTED_SHORT.fullmatch(form) or _is_a_value(match, text):
                    yield form
                return
        if "/" in token:  # several values written as one: PartNo/Warehouse
            yield from (
                part
                for part in token.rstrip(_TRAILING).split("/")
                if part in self._having and not _UNQUOTED_SHORT.fullmatch(part)
            )


def _stands_alone(value: str, text: str) -> bool:
    return re.search(rf"(?<![{_INNER}.]){re.escape(value)}(?![{_INNER}]|\.\w)", text) is not None


def _is_a_value(match: re.Match[str], text: str) -> bool:
    """Whether a short number stands quoted or behind a colon, equals sign or number sign."""
    before = text[: match.start()].rstrip(" ")
    return before.endswith(('"', "'", ":", "=", "#", ">", "»", "“", "‘", "´", "`"))


def _unescaped(text: str) -> str:
    """JSON escapes resolved, also in a text that was cut off."""
    if "\\" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        try:
            return str(json.loads(f'"{match[0]}"'))
        except ValueError:
            return match[0]

    return _ESCAPED.sub(plain, text)


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"
