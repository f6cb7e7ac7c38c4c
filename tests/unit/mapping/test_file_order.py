"""Which files of a feed are worked, and which have been overtaken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etl.mapping.file_order import newest_of, problem_of, time_of
from etl.runs.queue import Candidate, queue

DAY = r"prices_(?P<time>\d{8})"


def waiting(*names: str, pattern: str | None = None) -> list[Candidate]:
    """Candidates in the order they arrived; the run has the name of its file."""
    return [Candidate(name, time_of(pattern, name), (float(number), name)) for number, name in enumerate(names)]


def test_only_the_newest_full_file_is_worked() -> None:
    """Of several waiting files that hold everything the others wait, and are overtaken once the newest has a plan."""
    a, b, c = waiting("a", "b", "c")
    assert queue([a, b, c], True, None).work == ("c",)
    assert queue([a, b, c], True, None).overtaken == ()
    found = queue([a, b, replace(c, begun=True)], True, None)
    assert found.work == ("c",)
    assert [run for run, _ in found.overtaken] == ["a", "b"]
    assert all("c, which holds everything" in reason for _, reason in found.overtaken)


def test_files_of_changes_are_worked_in_order() -> None:
    """None of them is overtaken; the name's time counts before the order of arrival."""
    names = ("prices_20260103", "prices_20260101", "prices_20260102")
    found = queue(waiting(*names, pattern=DAY), False, None)
    assert found.work == tuple(sorted(names))
    assert found.overtaken == ()
    assert queue(waiting(*names), False, None).work == names


@pytest.mark.parametrize("whole", [True, False])
def test_an_older_file_never_follows_a_newer_one(whole: bool) -> None:
    """A file whose name is older than one that was worked is overtaken, unless it was asked for; equal is not older."""
    newest = newest_of([(time_of(DAY, "prices_20260105"), "prices_20260105"), (None, "x")])
    old, same = waiting("prices_20260104", "prices_20260105", pattern=DAY)
    assert queue([old], whole, newest).work == ()
    assert "prices_20260105" in queue([old], whole, newest).overtaken[0][1]
    assert queue([same], whole, newest).work == ("prices_20260105",)
    asked = replace(old, kind="rerun")
    assert queue([asked], whole, newest).work == (asked.run,)


def test_what_has_begun_comes_to_its_end_first() -> None:
    """A run that was planned goes on before everything else and is never overtaken."""
    a, b = waiting("a", "b")
    assert queue([b, replace(a, begun=True)], True, None) == queue([replace(a, begun=True), b], True, None)
    assert queue([b, replace(a, begun=True)], True, None).work == ("a", "b")


def test_a_held_run_stops_what_comes_after_it() -> None:
    """Changes behind a held run wait; a held full file lets older ones wait and yields to a newer one with a plan."""
    a, b = waiting("a", "b")
    held = replace(a, held=True)
    assert queue([held, b], False, None) == queue([b, held], False, None)
    assert queue([held, b], False, None).work == ()
    assert queue([held, b], True, None) == queue([b, held], True, None)
    assert (queue([held, b], True, None).work, queue([held, b], True, None).overtaken) == (("b",), ())
    assert [run for run, _ in queue([held, replace(b, begun=True)], True, None).overtaken] == ["a"]
    found = queue([a, replace(b, held=True)], True, None)
    assert (found.work, found.overtaken) == ((), ())


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
    first, second = time_of(pattern, older), time_of(pattern, newer)
    assert first is not None
    assert second is not None
    assert first < second
    assert time_of(pattern, "letter") is None
    assert time_of(None, newer) is None


def test_patterns_are_checked() -> None:
    """A pattern that is none, names no group or an unknown one is refused in words."""
    assert problem_of(DAY) is None
    assert "regular expression" in str(problem_of("("))
    assert "names no group" in str(problem_of(r"\d+"))
    assert 'group "date"' in str(problem_of(r"(?P<date>\d+)"))
