"""Which files of a feed are worked, and which have been overtaken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etl.mapping.file_times import find_newest, find_order_problem, parse_file_time
from etl.runs.file_order import QueueEntry, order_runs

DAY = r"prices_(?P<time>\d{8})"


def waiting(*names: str, pattern: str | None = None) -> list[QueueEntry]:
    """Candidates in the order they arrived; the run has the name of its file."""
    return [
        QueueEntry(name, parse_file_time(pattern, name), (float(number), name)) for number, name in enumerate(names)
    ]


def test_only_the_newest_full_file_is_worked() -> None:
    """Of several waiting files that hold everything the others wait, and are overtaken once the newest has a plan."""
    a, b, c = waiting("a", "b", "c")
    assert order_runs([a, b, c], True, None).run_ids == ("c",)
    assert order_runs([a, b, c], True, None).superseded == ()
    found = order_runs([a, b, replace(c, has_started=True)], True, None)
    assert found.run_ids == ("c",)
    assert [run for run, _ in found.superseded] == ["a", "b"]
    assert all("c, a newer full file" in reason for _, reason in found.superseded)


def test_files_of_changes_are_worked_in_order() -> None:
    """None of them is overtaken; the name's time counts before the order of arrival."""
    names = ("prices_20260103", "prices_20260101", "prices_20260102")
    found = order_runs(waiting(*names, pattern=DAY), False, None)
    assert found.run_ids == tuple(sorted(names))
    assert found.superseded == ()
    assert order_runs(waiting(*names), False, None).run_ids == names


@pytest.mark.parametrize("whole", [True, False])
def test_an_older_file_never_follows_a_newer_one(whole: bool) -> None:
    """A file whose name is older than one that was worked is overtaken, unless it was asked for; equal is not older."""
    newest = find_newest([(parse_file_time(DAY, "prices_20260105"), "prices_20260105"), (None, "x")])
    old, same = waiting("prices_20260104", "prices_20260105", pattern=DAY)
    assert order_runs([old], whole, newest).run_ids == ()
    assert "prices_20260105" in order_runs([old], whole, newest).superseded[0][1]
    assert order_runs([same], whole, newest).run_ids == ("prices_20260105",)
    asked = replace(old, kind="rerun")
    assert order_runs([asked], whole, newest).run_ids == (asked.run_id,)


def test_what_has_begun_comes_to_its_end_first() -> None:
    """A run that was planned goes on before everything else and is never overtaken."""
    a, b = waiting("a", "b")
    assert order_runs([b, replace(a, has_started=True)], True, None) == order_runs(
        [replace(a, has_started=True), b], True, None
    )
    assert order_runs([b, replace(a, has_started=True)], True, None).run_ids == ("a", "b")


def test_a_held_run_stops_what_comes_after_it() -> None:
    """Changes behind a held run wait; a held full file lets older ones wait and yields to a newer one with a plan."""
    a, b = waiting("a", "b")
    held = replace(a, is_held=True)
    assert order_runs([held, b], False, None) == order_runs([b, held], False, None)
    assert order_runs([held, b], False, None).run_ids == ()
    assert order_runs([held, b], True, None) == order_runs([b, held], True, None)
    assert (order_runs([held, b], True, None).run_ids, order_runs([held, b], True, None).superseded) == (("b",), ())
    assert [run for run, _ in order_runs([held, replace(b, has_started=True)], True, None).superseded] == ["a"]
    found = order_runs([a, replace(b, is_held=True)], True, None)
    assert (found.run_ids, found.superseded) == ((), ())


@pytest.mark.parametrize(
    ("pattern", "older", "newer"),
    [
        (DAY, "prices_20260131", "prices_20260201"),
        (r"(?P<time>[\dT:-]+)\.csv", "2026-01-31.csv", "2026-01-31T08:00.csv"),
        (r"(?P<day>\d+)\.(?P<month>\d+)\.(?P<year>\d+)", "31.1.2026", "1.2.2026"),
        (r"_(?P<number>\d+)", "x_9", "x_10"),
    ],
)
def test_names_tell_their_age(pattern: str, older: str, newer: str) -> None:
    """Times compare from the left, numbers as numbers, dates by year, month and day wherever they stand."""
    first, second = parse_file_time(pattern, older), parse_file_time(pattern, newer)
    assert first is not None
    assert second is not None
    assert first < second
    assert parse_file_time(pattern, "letter") is None
    assert parse_file_time(None, newer) is None


def test_patterns_are_checked() -> None:
    """A pattern that is none, names no group or an unknown one is refused in words."""
    assert find_order_problem(DAY) is None
    assert "regular expression" in str(find_order_problem("("))
    assert "names no group" in str(find_order_problem(r"\d+"))
    assert 'group "date"' in str(find_order_problem(r"(?P<date>\d+)"))
