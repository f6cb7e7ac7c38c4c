"""When a feed's file is expected, and whether it is late or has not changed for too long. Pure.

`every day by 06:00 Europe/Stockholm` sets times that have to be met, `every 2 hours` a longest pause. A file that comes
within half the span after a time that was missed is that one, late, and does not count for the next time as well.
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

#: How far back missed times are looked for; a feed that is later than that was late before.
_LOOK_BACK = timedelta(days=16)


class ExpectationError(Exception):
    """What is wrong with an expectation, and at which character of it."""

    def __init__(self, offset: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.offset, self.message, self.hint = offset, message, hint


@dataclass(frozen=True, slots=True)
class Expectation:
    """Times of days in a zone, or a longest pause."""

    text: str
    max_gap: timedelta | None = None
    days: frozenset[int] = frozenset()  #: 0 is Monday
    time_of_day: time = time()
    zone: str = "UTC"

    def deadlines(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The times to be met within (after, until], in UTC.

        Of a time that a clock change brings twice the later counts; one that it skips is as much later.
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
    """A file that should have been here."""

    due: datetime
    last_arrival: datetime | None  #: when the one before it came


def parse_expectation(text: str) -> Expectation:
    """`every day|weekday|monday, friday by 06:00 Europe/Stockholm`, or `every 2 hours`. Raises NotUnderstood."""
    words = [(found[0], found.start()) for found in re.finditer(r"[^\s,]+", text)]
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
    rest = words[by + 1 :]
    clock, at = rest[0] if rest else ("", len(text))
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", clock)
    if found is None:
        raise ExpectationError(at, f'"{clock}" is no time of day', "by 06:00")
    zone, at = rest[1] if len(rest) > 1 else ("", len(text))
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        message = f'"{zone}" is no time zone' if zone else "names no time zone"
        raise ExpectationError(at, message, "by 06:00 Europe/Stockholm") from None
    if len(rest) > 2:
        raise ExpectationError(rest[2][1], f'"{rest[2][0]}" is too much', "every day by 06:00 Europe/Stockholm")
    return Expectation(text, days=frozenset(days), time_of_day=time(int(found[1]), int(found[2])), zone=zone)


def parse_max_gap(text: str) -> timedelta:
    """`every 3 days`. Raises NotUnderstood."""
    found = parse_expectation(text).max_gap
    if found is None:
        raise ExpectationError(0, "is a time of day, not a span", "every 3 days")
    return found


def find_overdue(
    expectation: Expectation, since: datetime, arrivals: Sequence[datetime], now: datetime
) -> Overdue | None:
    """The newest time that was missed and is not made up for. `since`: from when on the file is expected."""
    came = sorted(moment for moment in arrivals if moment <= now)
    last = came[-1] if came else None
    if expectation.max_gap is not None:
        due = max(since, last or since) + expectation.max_gap
        return Overdue(due, last) if due <= now else None
    missed = None
    times = list(expectation.deadlines(max(since, now - _LOOK_BACK), now))
    before = since
    for number, due in enumerate(times):
        following = times[number + 1] if number + 1 < len(times) else next(expectation.deadlines(due, due + _LOOK_BACK))
        on_time = [moment for moment in came if before < moment <= due]
        grace = due + (following - due) / 2
        afterwards = [moment for moment in came if due < moment <= grace]
        before = due
        if on_time:
            missed = None
        elif afterwards:
            missed, before = None, afterwards[0]
        else:
            missed = due
    if missed is None:
        return None
    return Overdue(missed, last)


def unchanged_since(span: timedelta, files: Sequence[tuple[datetime, str]], now: datetime) -> datetime | None:
    """Since when the same content has come again and again, when that is longer than `span`. Digests with
    their time."""
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
