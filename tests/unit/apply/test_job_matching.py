"""Settling an unknown outcome: adopt only what certainly is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl.apply.job_matching import candidate_jobs, match_job, may_be_running, parse_epoch, zone_offset
from etl.model.runs import Chunk, Job, JobList

SENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()
CHUNK = Chunk("r", 1, 1, "op", {}, Path("p"), "d", 10, 10, sent_at=SENT)
JOB = Job(5, 1, False, total=10, started="2026-03-01T12:00:01.5")


def listed(jobs: Sequence[Job], *odd_ids: int | None) -> JobList:
    return JobList(tuple(jobs), odd_ids)


def test_the_only_fitting_job_is_adopted() -> None:
    """Right count, right time, unknown id."""
    assert match_job(CHUNK, [JOB, replace(JOB, id=6, total=11)], {}) == JOB


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, total=9),
        replace(JOB, total=None),
        replace(JOB, started="2026-03-01T11:59:00"),
        replace(JOB, started="2026-03-01T12:30:00"),
        replace(JOB, started=None),
        replace(JOB, started="yesterday"),
    ],
)
def test_a_job_that_does_not_fit_is_left_alone(job: Job) -> None:
    """Another count, another time or no time: not ours."""
    assert match_job(CHUNK, [job], {}) is None


def test_all_that_may_be_ours_are_known() -> None:
    """While one of them runs, nothing is sent again: it might come last."""
    twin = replace(JOB, id=6)
    assert candidate_jobs(CHUNK, [JOB, replace(JOB, id=7, total=11), twin], {}) == (JOB, twin)
    assert candidate_jobs(CHUNK, [JOB, twin], {5: SENT}) == (twin,)
    assert candidate_jobs(replace(CHUNK, sent_at=None), [JOB], {}) == ()


def test_a_job_of_before_the_clock_was_set_may_be_ours() -> None:
    """Our stamps of two hours ago are told from those of today by the jobs that go with them."""
    hours = 7200.0
    older = replace(JOB, id=1, finished=True, started="2026-03-01T11:00:00")
    newer = replace(JOB, id=2, finished=True, started="2026-03-01T11:58:00")
    known = {1: SENT - 3600, 2: SENT - 120 + hours, 3: SENT - 3500}
    jobs = [older, newer, replace(older, id=3, started="2026-03-01T11:01:40"), JOB]
    late = replace(CHUNK, sent_at=SENT + hours)
    assert candidate_jobs(late, jobs, known) == ()
    assert may_be_running(late, listed(jobs), known)
    assert not may_be_running(late, listed([*jobs[:3], replace(JOB, finished=True)]), known)
    assert not may_be_running(late, listed([*jobs[:3], replace(JOB, total=11)]), known)
    assert not may_be_running(late, listed(jobs[2:]), {3: SENT - 3500})


OURS = Job(4, 2, True, total=3, started="2026-03-01T11:50:02")
KNOWN = {4: SENT - 600}


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, started=None),
        replace(JOB, started="some day"),
        replace(JOB, total=None),
        replace(JOB, total=0),
        replace(JOB, total=9),  # one item may have failed validation
        replace(JOB, started="2026-03-01T12:30:00"),  # it may have been queued for long
        replace(JOB, status=6, started=None, total=0),
        replace(JOB, storage_name=None),
    ],
)
def test_what_a_job_does_not_say_counts_for_it(job: Job) -> None:
    """While such a job has not ended, the request is not sent again; once it has, it does not matter."""
    assert may_be_running(CHUNK, listed([OURS, job]), KNOWN)
    assert may_be_running(CHUNK, listed([job]), {})
    assert not may_be_running(CHUNK, listed([OURS, replace(job, finished=True)]), KNOWN)
    assert not may_be_running(CHUNK, listed([job]), {job.id: SENT})


def test_a_job_that_cannot_be_ours_bars_nothing() -> None:
    """One that began long before, has more items, or bears another name."""
    for job in (replace(JOB, started="2026-03-01T11:50:00"), replace(JOB, total=11)):
        assert not may_be_running(CHUNK, listed([OURS, job]), KNOWN)
    named = replace(CHUNK, header={"StorageName": "a"})
    assert not may_be_running(named, listed([OURS, replace(JOB, storage_name="b")]), KNOWN)
    assert may_be_running(named, listed([OURS, replace(JOB, storage_name="a")]), KNOWN)


def test_without_a_job_of_ours_the_zone_is_not_known() -> None:
    """A start that looks earlier by hours may be that of a server far in the west."""
    assert may_be_running(CHUNK, listed([replace(JOB, started="2026-03-01T02:00:00")]), {})
    assert not may_be_running(CHUNK, listed([replace(JOB, started="2026-02-28T20:00:00")]), {})


def test_an_entry_that_cannot_be_read_may_be_ours() -> None:
    """Unless its id is known to be another's."""
    assert may_be_running(CHUNK, listed([OURS], None), KNOWN)
    assert may_be_running(CHUNK, listed([OURS], 77), KNOWN)
    assert not may_be_running(CHUNK, listed([OURS], 4), KNOWN)


def test_a_queue_of_ours_does_not_shift_the_zone() -> None:
    """When our listed jobs waited for long, a fresh job is still waited for."""
    queued = Job(4, 2, True, total=3, started="2026-03-01T11:58:20")
    assert may_be_running(CHUNK, listed([queued, JOB]), {4: SENT - 600})


def test_known_jobs_and_pairs_are_not_adopted() -> None:
    """A job of another chunk is never taken, and of two that fit neither is."""
    assert match_job(CHUNK, [JOB], {5: SENT}) is None
    assert match_job(CHUNK, [JOB, replace(JOB, id=6)], {}) is None
    assert match_job(replace(CHUNK, sent_at=None), [JOB], {}) is None


def test_the_zone_is_learnt_from_our_own_jobs() -> None:
    """Times without a zone are read in the zone our known jobs show."""
    local = replace(JOB, started="2026-03-01T13:00:01")
    ours = Job(4, 2, True, total=3, started="2026-03-01T12:50:02")
    assert match_job(CHUNK, [local], {}) is None
    assert match_job(CHUNK, [local, ours], {4: SENT - 600}) == local


def test_times_are_read_with_and_without_zone() -> None:
    """A zone in the text is believed; seven digits of a second are cut."""
    assert parse_epoch("2026-03-01T13:00:00+01:00") == SENT
    assert parse_epoch("2026-03-01T12:00:00Z") == SENT
    assert parse_epoch("2026-03-01T12:00:00.1234567") == pytest.approx(SENT + 0.123456, abs=1e-5)


@pytest.mark.parametrize(("seconds", "fits"), [(-5.5, False), (-5.0, True), (0.0, True), (300.0, True), (300.5, False)])
def test_a_job_may_start_a_little_before_its_request_and_some_minutes_after(seconds: float, fits: bool) -> None:
    """Clocks differ by five seconds at most, and a queue holds a job up for five minutes at most."""
    job = replace(JOB, started=datetime.fromtimestamp(SENT + seconds, UTC).isoformat())
    assert (match_job(CHUNK, [job], {}) == job) is fits


def test_a_job_of_another_storage_is_left_alone() -> None:
    """A job without a storage name, and a request without one, say nothing about it."""
    ours = replace(CHUNK, header={"StorageName": "ours"})
    assert match_job(ours, [replace(JOB, storage_name="theirs")], {}) is None
    for chunk, name in ((ours, "ours"), (ours, None), (CHUNK, "theirs")):
        job = replace(JOB, storage_name=name)
        assert match_job(chunk, [job], {}) == job


def test_a_finished_or_known_job_does_not_run() -> None:
    """Only an unknown job that has not ended holds a request back."""
    assert may_be_running(CHUNK, listed([JOB]), {})
    assert not may_be_running(CHUNK, listed([replace(JOB, finished=True)]), {})
    assert not may_be_running(CHUNK, listed([JOB]), {5: SENT})


def test_the_zone_is_the_middle_of_what_our_jobs_show() -> None:
    """One job that waited long does not move it, and jobs without times say nothing."""
    hour, second = 3600.0, "2026-03-01T13:00:0"
    jobs = [Job(number, 2, True, total=1, started=f"{second}{number}") for number in (1, 2)]
    late = Job(3, 2, True, total=1, started="2026-03-01T15:00:00")
    own: dict[int, float | None] = {1: SENT, 2: SENT, 3: SENT, 4: None}
    assert zone_offset([*jobs, late, replace(late, id=4), replace(late, id=3, started=None)], own) == hour
    assert zone_offset([late], {}) == 0.0
    assert zone_offset([Job(1, 2, True, total=1, started="2026-03-01T11:30:01")], own) == -1800.0
