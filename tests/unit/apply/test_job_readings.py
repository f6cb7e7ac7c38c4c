"""When job and log are final: not before the end has been written down, and not never."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etl.apply.job_readings import READING_PAUSES, Finality, JobReadings, Reading, assess, has_finish_row
from etl.model.runs import Job, LogRow

JOB = Job(9, 2, True, total=4, failed=0)
START, FINISH = LogRow(1, "Job 9 started"), LogRow(1, "Job 9 finished")
READING = Reading(JOB, (START,), 100.0)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ((START, FINISH), True),
        ((FINISH, START), True),
        ((LogRow(1, "start"), LogRow(3, "AA bad"), LogRow(1, "Import completed.")), True),
        ((), False),
        ((START,), False),
        ((FINISH,), False),
        ((START, LogRow(3, "the import ended with errors")), False),
        ((START, LogRow(1, "Reading weekend.csv")), False),
    ],
)
def test_a_log_tells_its_end(log: tuple[LogRow, ...], expected: bool) -> None:
    """By an informational row besides that of the start."""
    assert has_finish_row(log, succeeded=True) is expected


def test_a_failed_job_may_tell_its_end_as_an_error() -> None:
    """Nothing of it is accepted, so the words may be those of an error."""
    log = (START, LogRow(3, "Import finished: 3 in total, 3 failed"))
    assert has_finish_row(log, succeeded=False)
    assert not has_finish_row(log, succeeded=True)


def test_a_log_with_its_end_is_final() -> None:
    """If nothing is missing that the outcome is decided by."""
    whole = replace(READING, log=(START, FINISH))
    assert assess([], whole) is Finality.FINAL
    for odd in (replace(JOB, total=None), replace(JOB, failed=None)):
        assert assess([], replace(whole, job=odd)) is Finality.READ_AGAIN
        assert assess([replace(whole, job=odd)], replace(whole, job=odd)) is Finality.READ_AGAIN


def test_two_readings_alike_are_final() -> None:
    """Job and log have to be the same; an unreadable log proves nothing."""
    assert assess([], READING) is Finality.READ_AGAIN
    assert assess([READING], replace(READING, at=105.0)) is Finality.FINAL
    assert assess([READING], replace(READING, job=replace(JOB, failed=1))) is Finality.READ_AGAIN
    assert assess([READING], replace(READING, log=(START, LogRow(3, "AA bad")))) is Finality.READ_AGAIN
    unreadable = replace(READING, log=None)
    assert assess([unreadable], unreadable) is Finality.READ_AGAIN


def test_six_readings_in_two_minutes_are_enough() -> None:
    """After them status and counts have to do."""
    readings, unreadable = JobReadings(), replace(READING, log=None)
    results = [readings.add(unreadable) for _ in range(6)]
    assert [finality for finality, _ in results] == [*[Finality.READ_AGAIN] * 5, Finality.FORCED]
    assert sum(pause for _, pause in results) == sum(READING_PAUSES) <= 120
    assert results[0][1] == 5.0
    assert readings.add(unreadable)[0] is Finality.READ_AGAIN  # what was decided is forgotten
