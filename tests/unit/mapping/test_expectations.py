"""Expectations: read completely, right over clock changes, late once and not again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping import expectations
from etl.mapping.expectations import Overdue

STOCKHOLM = ZoneInfo("Europe/Stockholm")
DAILY = expectations.parse_expectation("every day by 06:00 Europe/Stockholm")


def at(text: str, zone: ZoneInfo = STOCKHOLM) -> datetime:
    """`2026-03-02 06:00` there, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("every day by 06:00 Europe/Stockholm", set(range(7))),
        ("Every weekday by 6:00 Europe/Stockholm", set(range(5))),
        ("every monday, thursday by 06:00 Europe/Stockholm", {0, 3}),
        ("every Monday and Sunday by 06:00 Europe/Stockholm", {0, 6}),
    ],
)
def test_days_and_times_are_read(text: str, days: set[int]) -> None:
    """Names of days in any case, the hour with one digit or two."""
    found = expectations.parse_expectation(text)
    assert found.days == days
    assert (found.time_of_day.hour, found.time_of_day.minute, found.zone) == (6, 0, "Europe/Stockholm")


@pytest.mark.parametrize(
    ("text", "span"),
    [("every hour", 60), ("every 2 hours", 120), ("every 15 minutes", 15), ("every 3 days", 3 * 24 * 60)],
)
def test_pauses_are_read(text: str, span: int) -> None:
    """A longest time without a file."""
    assert expectations.parse_expectation(text).max_gap == expectations.parse_max_gap(text) == timedelta(minutes=span)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("daily", "daily"), ("", ""), ("every", ""), ("every mornig by 06:00 UTC", "mornig"),
        ("every day by 25:00 UTC", "25:00"), ("every day by 06:00 Stockholm", "Stockholm"), ("every day by 06:00", ""),
        ("every day by 06:00 UTC sharp", "sharp"), ("every by 06:00 UTC", "by"), ("every 3 fortnights", "fortnights"),
        ("every 2 hours UTC", "UTC"), ("every 0 hours", "0"), ("every day by", ""), ("every 5", ""),
        ("every day by 06:00 ../etc/passwd", "../etc/passwd"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_pointed_at(text: str, word: str) -> None:
    """The first character of the word that is wrong, or the end where something is missing."""
    with pytest.raises(expectations.ExpectationError) as caught:
        expectations.parse_expectation(text)
    assert text[caught.value.offset :].startswith(word)
    assert caught.value.hint


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Nothing else comes of it."""
    at = 0
    try:
        expectations.parse_expectation(f"every {text}")
    except expectations.ExpectationError as error:
        at = error.offset
    assert 0 <= at <= len(text) + 6


def test_a_file_in_time_is_not_late() -> None:
    """One each day before the hour."""
    came = [at("2026-03-01 05:00"), at("2026-03-02 05:59")]
    assert expectations.find_overdue(DAILY, at("2026-02-28 12:00"), came, at("2026-03-02 23:00")) is None
    assert expectations.find_overdue(DAILY, at("2026-02-28 12:00"), came, at("2026-03-03 05:59")) is None


def test_a_missing_file_is_late_from_its_time_on() -> None:
    """Until it comes; then it is that one, and the next one is expected all the same."""
    since, came = at("2026-02-28 12:00"), [at("2026-03-01 05:00")]
    missed = Overdue(at("2026-03-02 06:00"), came[0])
    assert expectations.find_overdue(DAILY, since, came, at("2026-03-02 06:00")) == missed
    assert expectations.find_overdue(DAILY, since, came, at("2026-03-02 11:00")) == missed
    came.append(at("2026-03-02 07:30"))
    assert expectations.find_overdue(DAILY, since, came, at("2026-03-02 07:30")) is None
    assert expectations.find_overdue(DAILY, since, came, at("2026-03-03 06:00")) == Overdue(
        at("2026-03-03 06:00"), came[1]
    )


def test_a_file_nearer_to_the_next_time_counts_for_that() -> None:
    """Monday's never came; what comes on Tuesday before the hour is Tuesday's."""
    came = [at("2026-03-01 05:00"), at("2026-03-03 05:00")]
    assert expectations.find_overdue(DAILY, at("2026-02-28 12:00"), came, at("2026-03-03 06:00")) is None


def test_nothing_is_late_before_it_was_expected() -> None:
    """A new mapping has no past."""
    assert expectations.find_overdue(DAILY, at("2026-03-02 06:01"), [], at("2026-03-03 05:00")) is None
    assert expectations.find_overdue(DAILY, at("2026-03-02 06:01"), [], at("2026-03-03 06:00")) == Overdue(
        at("2026-03-03 06:00"), None
    )


def test_days_off_are_days_off() -> None:
    """From Friday to Monday nothing is expected on weekdays only."""
    weekdays = expectations.parse_expectation("every weekday by 06:00 Europe/Stockholm")
    came = [at("2026-03-06 05:00")]
    assert expectations.find_overdue(weekdays, at("2026-03-05 12:00"), came, at("2026-03-08 23:00")) is None
    assert expectations.find_overdue(weekdays, at("2026-03-05 12:00"), came, at("2026-03-09 06:00")) is not None


@pytest.mark.parametrize(
    ("clock", "day", "moment"),
    [
        ("06:00", "2026-03-29", "2026-03-29T04:00Z"),  # the first day of summer time
        ("02:30", "2026-03-29", "2026-03-29T01:30Z"),  # the hour that is left out
        ("06:00", "2026-10-25", "2026-10-25T05:00Z"),
        ("02:30", "2026-10-25", "2026-10-25T01:30Z"),  # the hour that comes twice: its second time
        ("06:00", "2026-10-24", "2026-10-24T04:00Z"),
    ],
)
def test_clock_changes(clock: str, day: str, moment: str) -> None:
    """Local times, whatever the clock does to them, and one each day."""
    found = expectations.parse_expectation(f"every day by {clock} Europe/Stockholm")
    noon = at(f"{day} 12:00")
    times = list(found.deadlines(noon - timedelta(hours=24), noon))
    assert times == [datetime.fromisoformat(moment)]


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(1, 20))
def test_every_day_has_one_time(day: int, hour: int, minute: int, length: int) -> None:
    """Over any span there is one time for each day, and they grow."""
    start = at("2026-01-01 00:00") + timedelta(days=day)
    times = list(
        expectations.parse_expectation(f"every day by {hour}:{minute:02} Europe/Stockholm").deadlines(
            start, start + timedelta(length)
        )
    )
    assert times == sorted(set(times))
    assert length - 1 <= len(times) <= length + 1


def test_a_pause_that_is_too_long() -> None:
    """Counted from the last file, or from when it was first expected."""
    hourly = expectations.parse_expectation("every 2 hours")
    start = at("2026-03-02 06:00")
    assert expectations.find_overdue(hourly, start, [], start + timedelta(minutes=119)) is None
    assert expectations.find_overdue(hourly, start, [], start + timedelta(minutes=120)) is not None
    assert (
        expectations.find_overdue(hourly, start, [start + timedelta(hours=1)], start + timedelta(hours=2, minutes=59))
        is None
    )


def test_the_same_content_again_and_again() -> None:
    """Days without a change are counted from the first file of that content to its last."""
    day = [at(f"2026-03-0{n} 05:00") for n in range(1, 8)]
    files = list(zip(day, "aabbbbb", strict=True))
    span = timedelta(days=3)
    assert expectations.unchanged_since(span, files[:2], day[1]) is None
    assert expectations.unchanged_since(span, files[:5], day[4]) is None
    assert expectations.unchanged_since(span, files[:6], day[5]) == day[2]
    assert (
        expectations.unchanged_since(span, files[:3], day[6] + timedelta(days=9)) is None
    )  # nothing comes: that is `arrives`
    assert expectations.unchanged_since(span, [], day[0]) is None
