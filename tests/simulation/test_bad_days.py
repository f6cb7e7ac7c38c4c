"""Connect's bad days, each to its end: the real defaults, hours of told time, and what Norce and we agree on after."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl.errors import ExitStatus
from etl.model.runs import RunState
from etl.sandbox import Fault
from tests.simulation.simulator import World

HOUR = 3600.0
FIRST = {f"P{number}": "1" for number in range(5)}


def day(root: Path, *faults: Fault, **settings: object) -> World:
    """A stock file of three requests is about to be worked on such a day."""
    world = World(root / "shop", **settings)
    for fault in faults:
        world.sandbox.inject(fault)
    world.drop(world.file("stock", dict(FIRST)))
    return world


def agreed(world: World, expected: dict[str, str] | None = None) -> None:
    """Nothing is open, and file, Norce and accepted say the same."""
    wanted = FIRST if expected is None else expected
    with world.ledger() as ledger:
        assert ledger.runs.list_open() == (), world.said
        assert world.accepted(ledger, "stock") == world.stored("stock") == wanted
    assert world.sandbox.max_requests_in_window(60) <= 60


def took(world: World, life: Callable[[], object]) -> float:
    """Told seconds that something takes."""
    before = world.clock.passed
    life()
    return world.clock.passed - before


IMPORT = "ImportOnhands"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="rate_limit", path=IMPORT),
        Fault(kind="rate_limit", path=IMPORT, retry_after=45),
        Fault(kind="rate_limit", path=IMPORT, retry_after=45, retry_after_date=True),
        Fault(kind="rate_limit", path="Job/", retry_after=45),
        Fault(kind="rate_limit", path="token", retry_after=45),
        Fault(kind="unauthorized", path=IMPORT, after=1),
        Fault(kind="unauthorized", path="Job/"),
        Fault(kind="too_large", path=IMPORT, above=1, times=0),
        Fault(kind="reset_before", path=IMPORT),
        Fault(kind="reset_after", path=IMPORT),
        Fault(kind="slow", path=IMPORT, delay=100),
        Fault(kind="hang", path=IMPORT),
        Fault(kind="hang", path=IMPORT, accept=True),
        Fault(kind="html", path=IMPORT),
        Fault(kind="html", path="Job/", times=2),
        Fault(kind="html", path="token"),
        Fault(kind="truncated", path=IMPORT),
        Fault(kind="truncated", path="Job/"),
        Fault(kind="job_failed"),
        Fault(kind="job_slow", delay=6 * HOUR),
        Fault(kind="job_unknown"),
        Fault(kind="empty_log"),
        Fault(kind="shuffled_log"),
        *(Fault(kind="status", status=status, path=IMPORT, times=2) for status in (408, 500, 502, 503, 504)),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.path.strip('/')}-{fault.status if fault.kind == 'status' else ''}",
)
def test_one_life_is_enough(tmp_path: Path, fault: Fault) -> None:
    """What passes by itself is waited for: the command ends well, and everything agrees."""
    world = day(tmp_path, fault)
    assert world.live(patience=7 * HOUR) is ExitStatus.OK, world.said
    agreed(world)


@pytest.mark.parametrize(("dated", "least"), [(False, 45.0), (True, 44.0)])
def test_retry_after_is_kept_to_the_second(tmp_path: Path, dated: bool, least: float) -> None:
    """Nothing is asked of Connect before the named time, given in seconds or as a date, and little time is lost."""
    world = day(tmp_path, Fault(kind="rate_limit", path=IMPORT, retry_after=45, retry_after_date=dated))
    world.settings(unfinished=1)  # what is on its way already cannot be called back
    assert world.live() is ExitStatus.OK
    seen = [one for one in world.sandbox.requests() if "token" not in one.path]
    limited = next(number for number, one in enumerate(seen) if one.status == 429)
    pause = seen[limited + 1].time - seen[limited].time
    assert least <= pause <= 50
    agreed(world)


def test_429_without_a_time_waits_longer_each_time(tmp_path: Path) -> None:
    """Ten seconds, then twenty, then forty, and the first answer forgets them."""
    world = day(tmp_path, Fault(kind="rate_limit", path=IMPORT, times=3))
    world.settings(unfinished=1)
    assert world.live() is ExitStatus.OK
    times = [one.time for one in world.sandbox.requests() if one.status == 429]
    after = next(one.time for one in world.sandbox.requests() if one.time > times[-1])
    assert times[1] - times[0] >= 10
    assert times[2] - times[1] >= 20
    assert after - times[2] >= 40
    agreed(world)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_minutes_of_errors_leave_the_run_open_and_the_next_start_goes_on(tmp_path: Path, status: int) -> None:
    """`once` gives up after its patience, says so, and loses nothing; ten minutes later the next one ends it."""
    world = day(tmp_path, Fault(kind="status", status=status, seconds=600))
    passed = took(world, lambda: world.live())
    assert 100 <= passed <= 400
    assert "error[" in world.said
    with world.ledger() as ledger:
        assert len(ledger.runs.list_open()) == 1
    asked = len(world.asked)
    assert asked < 40  # the breaker: not a request for each second
    world.clock.advance(600)
    assert world.live() is ExitStatus.OK, world.said
    agreed(world)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="job_slow", delay=60),
        Fault(kind="status", status=503, path=IMPORT, times=4),
        Fault(kind="status", status=503, path="Job/", times=4),
        Fault(kind="rate_limit", path=IMPORT, retry_after=20),
        Fault(kind="hang", path=IMPORT),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.path.strip('/')}",
)
def test_nothing_stands_still_when_the_clock_is_set_back(tmp_path: Path, fault: Fault) -> None:
    """While a job runs, while Connect is silent, and between two lives: it takes as long as on any other day."""
    world = day(tmp_path, fault)
    undisturbed = took(world, lambda: world.live())
    for moment in (4.0, 9.0):
        world = day(tmp_path / f"in at {moment}", fault)
        world.clock.at(moment, lambda world=world: world.step(-2 * HOUR))  # type: ignore[misc]
        assert took(world, lambda world=world: world.live()) <= undisturbed + 150, world.said  # type: ignore[misc]
        agreed(world)
        world = day(tmp_path / f"after {moment}", fault)
        world.live(stop_after=moment)
        world.step(-2 * HOUR)
        assert took(world, lambda world=world: world.live()) <= undisturbed + 150, world.said  # type: ignore[misc]
        agreed(world)


def test_forbidden_stops_before_everything_and_goes_on_once_allowed(tmp_path: Path) -> None:
    """403 concerns every request: one is enough to know, nothing is lost, and the file stays claimed."""
    world = day(tmp_path, Fault(kind="status", status=403, path=IMPORT, times=0))
    assert world.live() is ExitStatus.CONNECT_ERROR
    assert "connect-forbidden" in world.said
    assert world.stored("stock") == {}
    world.unstick()
    assert world.live() is ExitStatus.OK
    agreed(world)


def test_413_is_cut_and_not_met_again(tmp_path: Path) -> None:
    """The chunk is halved, the size is remembered, and the next file is planned below it."""
    world = day(tmp_path, max_bytes=160)  # one record fits, two do not
    assert world.live() is ExitStatus.OK
    agreed(world)
    refused = sum(one.status == 413 for one in world.sandbox.requests())
    assert refused > 0
    more = {**FIRST, **{f"P{number}": "2" for number in range(5, 9)}}
    world.drop(world.file("stock", dict(more)))
    assert world.live() is ExitStatus.OK
    agreed(world, more)
    assert sum(one.status == 413 for one in world.sandbox.requests()) == refused


def test_a_job_that_is_stuck_is_left_when_stopped_and_found_again(tmp_path: Path) -> None:
    """A day long it is asked for seldom; stopped, the run stays open, and ends with the job."""
    world = day(tmp_path, Fault(kind="job_stuck"))
    assert world.live(stop_after=20 * HOUR, patience=24 * HOUR) is ExitStatus.INTERRUPTED
    polls = sum("Job/" in one.path for one in world.sandbox.requests())
    assert polls < 20 * 60 / 2  # not each second of it
    with world.ledger() as ledger:
        assert [run.state for run in ledger.runs.list_open()] == [RunState.SENDING]
    world.unstick()
    assert world.live() is ExitStatus.OK
    agreed(world)


def test_statuses_five_and_six_are_not_an_end(tmp_path: Path) -> None:
    """A job that is queued and validated for minutes is waited for, not judged."""
    world = day(tmp_path)
    settings = world.sandbox.settings
    object.__setattr__(settings, "queued_seconds", 90.0)
    object.__setattr__(settings, "validating_seconds", 90.0)
    assert world.live(patience=HOUR) is ExitStatus.OK, world.said
    agreed(world)


@pytest.mark.parametrize("name_row", [True, False])
@pytest.mark.parametrize("imported_row", ["null", "cut", "full"])
@pytest.mark.parametrize("kind", ["refuse", "invalid"])
def test_a_bad_record_stands_alone_in_the_end(tmp_path: Path, kind: str, imported_row: str, name_row: bool) -> None:
    """Named or not, with its row cut off or missing, in the log or in the validation: it alone is not accepted."""
    fault = Fault(kind=kind, keys=("P3",), times=0, name_row=name_row)  # type: ignore[arg-type]
    world = day(tmp_path, fault, Fault(kind="shuffled_log", times=0), imported_row=imported_row)
    assert world.live() is ExitStatus.CONNECT_ERROR
    agreed(world, {part: value for part, value in FIRST.items() if part != "P3"})
    with world.ledger() as ledger:
        (run,) = ledger.runs.list_recent()
        assert [refusal.key.split("\x1f")[0] for refusal in ledger.record_errors.list_by_run(run.id)] == ["P3"]
    assert run.archive is not None
    report = json.loads((run.archive / "report.json").read_bytes())
    assert report["failed"] == 1
    world.unstick()
    world.drop(world.file("stock", dict(FIRST)))
    assert world.live() is ExitStatus.OK
    agreed(world)


def test_a_validation_failure_without_a_word_is_halved(tmp_path: Path) -> None:
    """An empty log and a job that failed validation: halves, until the bad record stands alone."""
    world = day(tmp_path, Fault(kind="invalid", keys=("P3",), times=0, message="x"), Fault(kind="empty_log", times=0))
    assert world.live() is ExitStatus.CONNECT_ERROR
    agreed(world, {part: value for part, value in FIRST.items() if part != "P3"})


def test_a_job_that_always_fails_is_given_up_and_comes_again(tmp_path: Path) -> None:
    """Repeated once, then failed: nothing of it is accepted, and the same file later brings it."""
    world = day(tmp_path, Fault(kind="job_failed", times=0))
    assert world.live() is ExitStatus.CONNECT_ERROR
    agreed(world, {})
    world.unstick()
    world.drop(world.file("stock", dict(FIRST)))
    assert world.live() is ExitStatus.OK
    agreed(world)


def test_a_lost_response_is_resolved_before_newer_values_of_its_keys(tmp_path: Path) -> None:
    """The answer is lost, the program stopped, and a newer file comes: the unknown outcome is resolved first."""
    world = day(tmp_path, Fault(kind="hang", path=IMPORT, accept=True))
    world.live(stop_after=60)
    world.drop(world.file("stock", dict.fromkeys(FIRST, "7")))
    world.live()
    asked = [one.path.rpartition("/")[2] for one in world.asked]
    lost = next(number for number, one in enumerate(world.asked) if one.keys and not one.known)
    later = next(number for number, one in enumerate(world.asked[lost + 1 :], lost + 1) if one.keys & world.asked[lost].keys)  # fmt: skip # noqa: E501
    assert "List" in asked[lost:later]
    agreed(world, dict.fromkeys(FIRST, "7"))


def test_a_job_that_may_be_ours_has_to_end_before_anything_is_sent_again(tmp_path: Path) -> None:
    """Two answers are lost, the jobs take hours: nothing is repeated while one runs, or it could undo newer values."""
    world = day(
        tmp_path,
        Fault(kind="reset_after", path=IMPORT, times=2),
        Fault(kind="job_slow", path=IMPORT, times=2, delay=2 * HOUR),
    )
    world.settings(unfinished=2, lost_answer_seconds=HOUR / 2)  # so that the two requests of two records are the first
    assert world.live(stop_after=HOUR, patience=2 * HOUR) is ExitStatus.INTERRUPTED
    world.drop(world.file("stock", dict.fromkeys(FIRST, "9")))
    assert world.live(patience=3 * HOUR) is ExitStatus.OK, world.said
    agreed(world, dict.fromkeys(FIRST, "9"))
    jobs = [job for job in world.sandbox.jobs() if job["Operation"].endswith(IMPORT)]
    began = min(datetime.fromisoformat(job["Start"]) for job in jobs)
    first = [job for job in jobs if datetime.fromisoformat(job["Start"]) - began < timedelta(hours=1)]
    later = [job for job in jobs if job not in first]
    assert later
    assert all(max(job["Stop"] for job in first) <= job["Start"] for job in later)


def test_a_record_that_was_taken_in_part_goes_again_whatever_comes_next(tmp_path: Path) -> None:
    """A warning leaves open which values Norce has: the old value is sent again, and what has gone is switched off."""
    world = day(tmp_path)
    assert world.live() is ExitStatus.OK
    warned = Fault(kind="warn", keys=("P1", "P9"), message="part of the record was dropped")
    world.sandbox.inject(warned)
    world.drop(world.file("stock", {**FIRST, "P1": "2", "P9": "2"}))
    assert world.live() is ExitStatus.CONNECT_ERROR
    assert world.stored("stock") == {**FIRST, "P1": "2", "P9": "2"}
    world.drop(world.file("stock", dict(FIRST)))
    assert world.live() is ExitStatus.OK
    agreed(world, {**FIRST, "P9": "gone"})
    world.drop(world.file("stock", dict(FIRST)))
    asked = len(world.asked)
    assert world.live() is ExitStatus.OK
    assert len(world.asked) == asked
