"""Finds the records that the rows of a job log are about. Pure.

The log names a record in free text and in a copy of the row that may be missing or cut off
(https://docs.norce.io/solution-portal/functional-change-job-logs), so neither is parsed. Key values are searched as
whole tokens: `A-1` is not found in `A-10`. Two mistakes are possible. A missed record would count as accepted, so
whenever several records share the values found, all of them fail. A value found by accident (a supplier's number that
equals a part number) would fail the wrong record and accept the right one, so a number is a key only where the text
says so: behind the name of a key, or in a whole key of several parts.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etl.model.runs import LogRow, RecordError

#: From this severity on part of the record was dropped; from ERROR on all of it
#: (https://docs.norce.io/api-reference/schemas/connectjob).
WARNING, ERROR = 2, 3

#: Characters of the longest message in a record error.
MAX_MESSAGE_LENGTH = 500

# Characters of a key value; any other character ends it.
_TOKEN = re.compile(r"[\w\-./+#@&*%$~!?§°^]+")
_TRAILING_PUNCTUATION = ".!?"
_INNER_CHARACTERS = r"\w\-/+#@&*%$~§°^"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_OTHER_NAME = re.compile(r"\w\"?\s*[:=>]\s*\"?$")
_MARKER_LENGTH = 60
#: Words in a message that a part number follows, besides the names of keys.
_PART_WORDS = ("part", "part no", "part number", "sku", "product", "article")
_JSON_ESCAPES = re.compile(r'(?:\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))+')


@dataclass(frozen=True, slots=True)
class RecordIdentity:
    """A record as the log may name it."""

    key: str  #: as in the `_key` column of what was sent
    identifiers: tuple[str, ...]  #: the identifying values as text, the most specific first
    source_row: int | None = None
    source_file: str | None = None  #: as in `etl.model.runs.RecordError`
    source_run: str | None = None

    def make_error(self, severity: int, message: str) -> RecordError:
        """Return the record error of this record."""
        return RecordError(self.key, severity, message, self.source_row, self.source_file, self.source_run)


@dataclass(frozen=True, slots=True)
class LogMatches:
    """The record errors of a job log, and its rows that match no record."""

    record_errors: tuple[RecordError, ...] = ()  #: one per key, highest severity
    positions: frozenset[int] = frozenset()  #: of the failed records, in the order passed to `match_log`
    certain: int = 0  #: records that are the only match of an error
    unmatched_errors: int = 0  #: errors that name no record of ours
    unmatched_warnings: tuple[str, ...] = ()  #: messages of warnings that name no record of ours

    @property
    def error_count(self) -> int:
        """Number of records with an error, including those that could not be distinguished."""
        return sum(error.severity >= ERROR for error in self.record_errors)


def select_problems(rows: Iterable[LogRow]) -> tuple[LogRow, ...]:
    """Return the warnings and errors, without start, finish and other information."""
    return tuple(row for row in rows if row.severity >= WARNING)


def match_log(records: Sequence[RecordIdentity], rows: Iterable[LogRow], key_names: Sequence[str] = ()) -> LogMatches:
    """Return the failed records. `key_names`: the JSON names of the identifiers, where they have one each."""
    index = _RecordIndex(records, key_names)
    worst: dict[int, LogRow] = {}
    certain: set[int] = set()
    unmatched_errors = 0
    unmatched_warnings: list[str] = []
    for row in select_problems(rows):
        positions = index.find(row)
        if not positions and row.severity >= ERROR:
            unmatched_errors += 1
        elif not positions:
            unmatched_warnings.append(row.message)
        if len(positions) == 1 and row.severity >= ERROR:
            certain |= positions
        for position in positions:
            if position not in worst or row.severity > worst[position].severity:
                worst[position] = row
    return LogMatches(
        record_errors=tuple(
            records[position].make_error(row.severity, _shorten(row.message)) for position, row in sorted(worst.items())
        ),
        positions=frozenset(worst),
        certain=len(certain),
        unmatched_errors=unmatched_errors,
        unmatched_warnings=tuple(unmatched_warnings),
    )


class _RecordIndex:
    """The positions of records by their identifying values."""

    def __init__(self, records: Sequence[RecordIdentity], key_names: Sequence[str]) -> None:
        self._records = records
        self._key_names = tuple(name for name in key_names if name)
        self._number_marker = _number_marker(self._key_names)
        self._identifiers_by_whole_key = {
            whole_key: record.identifiers for record in records for whole_key in _whole_keys(record.identifiers)
        }
        self._positions_by_value: dict[str, set[int]] = defaultdict(set)
        for position, record in enumerate(records):
            for value in record.identifiers:
                if value.strip():
                    self._positions_by_value[value.strip()].add(position)
        # Values that are not one token (spaces, commas, quotes) are searched for one by one.
        self._composite_values = tuple(
            value
            for value in self._positions_by_value
            if not _TOKEN.fullmatch(value) or value[-1] in _TRAILING_PUNCTUATION
        )

    def find(self, row: LogRow) -> set[int]:
        """Return the positions of the records that fit a row best; several when they cannot be distinguished."""
        named = self._named_values(row.imported_row) if row.imported_row else set()
        seen = named | set(self._values_in(row.message))
        if row.imported_row and not named:
            seen |= set(self._values_in(row.imported_row, is_row=True))
        positions: set[int] = set()
        lead = self._leading_values(seen)
        for value in lead or seen:
            candidates = self._positions_by_value[value]
            scores = {position: self._score(position, seen) for position in candidates}
            best = max(scores.values())
            positions |= {position for position, score in scores.items() if score == best}
        return positions

    def _leading_values(self, mentioned_values: set[str]) -> set[str]:
        """Return the values that are the first identifier of a record; the others only choose between records."""
        return {
            value
            for value in mentioned_values
            if any(
                self._records[position].identifiers[0].strip() == value for position in self._positions_by_value[value]
            )
        }

    def _score(self, position: int, mentioned_values: set[str]) -> tuple[bool, int]:
        values = [value.strip() for value in self._records[position].identifiers]
        return values[0] in mentioned_values, sum(value in mentioned_values for value in values)

    def _named_values(self, text: str) -> set[str]:
        """Return the values behind the name of a key in a row that looks like JSON, XML or name=value."""
        values = set()
        for name in self._key_names:
            for quoted, bare in re.findall(
                rf'(?<!\w){re.escape(name)}"?\s*[:=>]\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;<>}}\]]+))', text
            ):
                value = (_unescape(quoted) if quoted else bare).strip()
                if value in self._positions_by_value:
                    values.add(value)
        return values

    def _values_in(self, text: str, *, is_row: bool = False) -> Iterable[str]:
        plain = _unescape(text)
        for reading in {text, plain}:
            for match in _TOKEN.finditer(reading):
                yield from self._values_of_token(match, reading, is_row=is_row)
            for value in self._composite_values:
                if value in reading and _stands_alone(value, reading):
                    yield value
            for whole_key, identifiers in self._identifiers_by_whole_key.items():
                if whole_key in reading and _stands_alone(whole_key, reading):
                    yield from (value for value in identifiers if value in self._positions_by_value)

    def _values_of_token(self, match: re.Match[str], text: str, *, is_row: bool) -> Iterable[str]:
        token = match[0]
        forms = [token, token.rstrip(_TRAILING_PUNCTUATION), token.strip("*!?~#")]
        before = text[max(0, match.start() - _MARKER_LENGTH) : match.start()]
        for form in forms:
            if form in self._positions_by_value:
                if not _NUMBER.fullmatch(form) or self._is_key(before, is_row=is_row):
                    yield form
                return
        if "/" in token:  # several values written as one: PartNo/Warehouse
            yield from (
                part
                for part in token.rstrip(_TRAILING_PUNCTUATION).split("/")
                if part in self._positions_by_value and not _NUMBER.fullmatch(part)
            )

    def _is_key(self, before: str, *, is_row: bool) -> bool:
        """Return whether a number behind this text is the value of a key.

        A message names the key before it; a copy of a row has the number by itself, or behind the name of a key.
        """
        if self._number_marker.search(before):
            return True
        return is_row and not _OTHER_NAME.search(before)


def _whole_keys(identifiers: Sequence[str]) -> tuple[str, ...]:
    """Return how a key of several parts may be written as one, if its first part is a number.

    Others are found by their parts.
    """
    if len(identifiers) < 2 or not _NUMBER.fullmatch(identifiers[0]):
        return ()
    return tuple(separator.join(identifiers) for separator in "|/")


def _number_marker(key_names: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of a text that ends with the name of a key."""
    words = {*key_names, *(_split_name(name) for name in key_names)}
    if not key_names or "PartNo" in words:
        words |= {"PartNo", "Code", *_PART_WORDS} if not key_names else set(_PART_WORDS)
    names = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{names})[\s\"'`´»“‘:=>#(\[]{{1,6}}$", re.IGNORECASE)


def _split_name(name: str) -> str:
    """Return the words of a name: `PartNo` is `Part No`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _stands_alone(value: str, text: str) -> bool:
    return re.search(rf"(?<![{_INNER_CHARACTERS}.]){re.escape(value)}(?![{_INNER_CHARACTERS}]|\.\w)", text) is not None


def _unescape(text: str) -> str:
    """Resolve JSON escapes, also in a text that was cut off."""
    if "\\" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        try:
            return str(json.loads(f'"{match[0]}"'))
        except ValueError:
            return match[0]

    return _JSON_ESCAPES.sub(plain, text)


def _shorten(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= MAX_MESSAGE_LENGTH else line[: MAX_MESSAGE_LENGTH - 1] + "…"
