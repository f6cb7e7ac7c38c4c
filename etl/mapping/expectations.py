"""Decides when a feed's file is expected, and whether it is late or has not changed for too long. Pure.

`every day by 06:00 Europe/Stockholm` sets deadlines, `every 2 hours` a longest gap between files. A file that comes in
the first half of the time between a missed deadline and the next one is the late file, and does not count for the next
deadline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
UNITS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}

#: How far back missed deadlines are searched; a feed that is later than that was late before.
_LOOK_BACK = timedelta(days=16)


class ExpectationError(Exception):
    """A problem of an expectation, and the character where it is."""

    def __init__(self, offset: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.offset, self.message, self.hint = offset, message, hint


@dataclass(frozen=True, slots=True)
class Expectation:
    """Deadlines on days of the week in a zone, or a longest gap."""

    text: str
    max_gap: timedelta | None = None
    days: frozenset[int] = frozenset()  #: 0 is Monday
    time_of_day: time = time()
    zone: str = "UTC"

    def deadlines(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the deadlines within (after, until], in UTC.

        Of a time that a clock change repeats the later one counts; one that it skips is moved by the change.
        """
        zone = ZoneInfo(self.zone)
        day, last = after.astimezone(zone).date() - timedelta(days=1), until.astimezone(zone).date()
        while day <= last:
            moment = max(_deadline_utc(day, self.time_of_day, zone, fold) for fold in (0, 1))
            if day.weekday() in self.days and after < moment <= until:
                yield moment
            day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A deadline that was missed."""

    due: datetime
    last_arrival: datetime | None  #: when the newest file came


def parse_expectation(text: str) -> Expectation:
    """Parse `every day|weekday|monday, friday by 06:00 Europe/Stockholm`, or `every 2 hours`.

    Raises ExpectationError.
    """
    words = [(match[0], match.start()) for match in re.finditer(r"[^\s,]+", text)]
    if not words or words[0][0].lower() != "every":
        raise ExpectationError(0, "does not begin with `every`", "every day by 06:00 Europe/Stockholm")
    names = [word.lower() for word, _ in words]
    if "by" not in names:
        return Expectation(text, max_gap=_parse_gap(text, words[1:]))
    by = names.index("by")
    days: set[int] = set()
    for word, at in words[1:by]:
        days |= _parse_days(word, at)
    if not days:
        raise ExpectationError(
            words[by][1], "names no day before `by`", "day, weekday, or names such as monday, friday"
        )
    time_words = words[by + 1 :]
    clock, at = time_words[0] if time_words else ("", len(text))
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", clock)
    if match is None:
        raise ExpectationError(at, f'"{clock}" is no time of day', "by 06:00")
    zone, at = time_words[1] if len(time_words) > 1 else ("", len(text))
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        message = f'"{zone}" is no time zone' if zone else "names no time zone"
        raise ExpectationError(at, message, "by 06:00 Europe/Stockholm") from None
    if len(time_words) > 2:
        raise ExpectationError(
            time_words[2][1], f'"{time_words[2][0]}" is too much', "every day by 06:00 Europe/Stockholm"
        )
    return Expectation(text, days=frozenset(days), time_of_day=time(int(match[1]), int(match[2])), zone=zone)


def parse_max_gap(text: str) -> timedelta:
    """Parse `every 3 days`. Raises ExpectationError."""
    max_gap = parse_expectation(text).max_gap
    if max_gap is None:
        raise ExpectationError(0, "is a time of day, not a span", "every 3 days")
    return max_gap


def find_overdue(
    expectation: Expectation, since: datetime, arrivals: Sequence[datetime], now: datetime
) -> Overdue | None:
    """Find the newest missed deadline after which no file came. `since` is when the expectation began."""
    past_arrivals = sorted(moment for moment in arrivals if moment <= now)
    last = past_arrivals[-1] if past_arrivals else None
    if expectation.max_gap is not None:
        due = max(since, last or since) + expectation.max_gap
        return Overdue(due, last) if due <= now else None
    missed = None
    deadlines = list(expectation.deadlines(max(since, now - _LOOK_BACK), now))
    window_start = since
    for number, due in enumerate(deadlines):
        next_deadline = (
            deadlines[number + 1] if number + 1 < len(deadlines) else next(expectation.deadlines(due, due + _LOOK_BACK))
        )
        on_time = [moment for moment in past_arrivals if window_start < moment <= due]
        grace = due + (next_deadline - due) / 2
        late = [moment for moment in past_arrivals if due < moment <= grace]
        window_start = due
        if on_time:
            missed = None
        elif late:
            missed, window_start = None, late[0]
        else:
            missed = due
    if missed is None:
        return None
    return Overdue(missed, last)


def unchanged_since(span: timedelta, files: Sequence[tuple[datetime, str]], now: datetime) -> datetime | None:
    """Return since when every file has had the same content, if that is longer than `span`.

    `files` are times of arrival with the digests of the contents.
    """
    newest = sorted((file for file in files if file[0] <= now), reverse=True)
    same = [moment for moment, digest in newest if digest == newest[0][1]]
    differing = next((moment for moment, digest in newest if digest != newest[0][1]), None)
    same = [moment for moment in same if differing is None or moment > differing]
    if len(same) < 2 or same[0] - same[-1] < span:
        return None
    return same[-1]


def _deadline_utc(day: date, time_of_day: time, zone: ZoneInfo, fold: int) -> datetime:
    return datetime.combine(day, time_of_day, zone).replace(fold=fold).astimezone(UTC)


def _parse_days(word: str, offset: int) -> set[int]:
    name = word.lower().removesuffix("s")
    if name == "day":
        return set(range(7))
    if name in ("weekday", "workday"):
        return set(range(5))
    if name == "and":
        return set()
    if name not in DAYS:
        raise ExpectationError(offset, f'"{word}" is no day', "day, weekday, or names such as monday, friday")
    return {DAYS.index(name)}


def _parse_gap(text: str, words: Sequence[tuple[str, int]]) -> timedelta:
    number, unit = 1, words
    if words and words[0][0].isdecimal():
        number, unit = int(words[0][0]), words[1:]
    word, at = unit[0] if unit else ("", len(text))
    step = UNITS.get(word.lower().removesuffix("s"))
    if step is None:
        raise ExpectationError(
            at,
            f'"{word}" is no span of time' if word else "is not finished",
            "every 2 hours, or every day by 06:00 Europe/Stockholm",
        )
    if len(unit) > 1:
        raise ExpectationError(unit[1][1], f'"{unit[1][0]}" is too much', "every 2 hours")
    if not 0 < number <= 1000:
        raise ExpectationError(words[0][1], f"{number} is out of reach", "every 2 hours")
    return number * step
