"""Several runs under way at once, over real HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from etl.apply import sender
from etl.apply.job_judge import LOG_NOT_FINAL
from etl.apply.sender import Sender, SendResult
from etl.config.secrets import Secret
from etl.connect.client import ConnectClient
from etl.connect.http_exchange import HttpOptions
from etl.errors import ConnectHttpError, ConnectUnreachableError, StateError
from etl.sandbox import Fault, SandboxSettings
from tests.support.stage import PRICES, RESPONSE_TIMEOUT, STOCK, Stage, parts, stage


def land(on: Stage, flight: Sender, count: int) -> list[SendResult]:
    """The next landings, in their order."""
    found: list[SendResult] = []
    while len(found) < count:
        assert flight.result_ready.wait(20), "nothing landed"
        flight.result_ready.clear()
        found += flight.take_finished()
    return found


def jobs_asked(on: Stage) -> tuple[int, int]:
    """Questions for one job, and for all of them."""
    seen = [request.path for request in on.sandbox.requests()]
    return sum(path.endswith("Job/Get") for path in seen), sum(path.endswith("Job/List") for path in seen)


def test_a_stuck_job_does_not_stop_another_import(tmp_path: Path) -> None:
    """While the job of one run does not end, the other run is sent, followed and closed."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_stuck", path=STOCK))
        on.plan(parts(1, 4), parts(5, 4))
        on.plan(parts(1, 4), parts(5, 4), run="p1", feed="prices", operation=PRICES)
        with on.flight() as flight:
            flight.add("r1")
            flight.add("p1")
            assert land(on, flight, 1) == [SendResult("p1")]
            assert flight.active_runs() == {"r1"}
            on.stop.set()
        assert on.stored(PRICES) == on.accepted("prices") == set(parts(1, 8))
        assert sorted(on.states()) == ["accepted", "submitted"]


def test_a_request_leaves_while_another_one_awaits_its_response(tmp_path: Path) -> None:
    """The first import is never answered; the second one arrives before the client gives the first one up."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="hang", path=STOCK))
        on.plan(parts(1, 2), parts(3, 2))
        assert on.go(patience=30)
        first, second, *_ = [request.time for request in on.sandbox.requests() if request.path.endswith(STOCK)]
        assert second - first < RESPONSE_TIMEOUT


def test_a_stuck_run_takes_all_room_only_for_a_while(tmp_path: Path) -> None:
    """Jobs that take all room and do not end make room for other runs after some questions."""
    with stage(tmp_path, unfinished=2) as on:
        on.sandbox.inject(Fault(kind="job_stuck", path=STOCK, times=0))
        on.plan(parts(1, 2), parts(3, 2), parts(5, 2))
        on.plan(parts(1, 4), run="p1", feed="prices", operation=PRICES)
        with on.flight() as flight:
            flight.add("r1")
            while sum(state == "submitted" for state in on.states()) < 2:
                flight.result_ready.wait(0.01)
            flight.add("p1")
            assert land(on, flight, 1) == [SendResult("p1")]
            on.stop.set()
        assert on.states() == ["submitted", "submitted", "ready"]


def test_a_refused_import_lands_alone(tmp_path: Path) -> None:
    """403 for one import stops its run, which stays open; the other one goes through, and later both are done."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="status", status=403, path=STOCK))
        on.plan(parts(1, 4))
        on.plan(parts(1, 4), run="p1", feed="prices", operation=PRICES)
        with on.flight() as flight:
            flight.add("r1")
            flight.add("p1")
            found = {landing.run_id: landing for landing in land(on, flight, 2)}
            assert isinstance(found["r1"].error, ConnectHttpError)
            assert not found["r1"].affects_all_runs
            assert found["p1"].error is None
            flight.add("r1")
            assert land(on, flight, 1) == [SendResult("r1")]
        assert on.accepted() == on.stored() == set(parts(1, 4))


def test_a_wrong_secret_lands_everybody(tmp_path: Path) -> None:
    """What concerns every request lands all runs with the same refusal; nothing is sent."""
    with stage(tmp_path, secret="wrong") as on:
        on.plan(parts(1, 4))
        on.plan(parts(1, 4), run="p1", feed="prices", operation=PRICES)
        with on.flight() as flight:
            flight.add("r1")
            flight.add("p1")
            found = land(on, flight, 2)
        assert {landing.run_id for landing in found} == {"r1", "p1"}
        assert all(landing.affects_all_runs for landing in found)
        assert on.posts() == 0


def test_several_jobs_are_asked_for_with_one_request(tmp_path: Path) -> None:
    """Eight slow jobs of two runs cost fewer questions than jobs, and every one is judged by its own log."""
    with stage(tmp_path, in_flight=8) as on:
        on.sandbox.inject(Fault(kind="job_slow", delay=0.3, times=0))
        on.plan(*(parts(1 + 2 * n, 2) for n in range(4)))
        on.plan(*(parts(1 + 2 * n, 2) for n in range(4)), run="p1", feed="prices", operation=PRICES)
        on.poll_scale = 0.2
        assert on.go("r1", "p1")
        single, common = jobs_asked(on)
        logs = sum(seen.path.endswith("Job/GetLog") for seen in on.sandbox.requests())
        assert common > 0
        assert logs == 8
        assert single + common < 8 * 3
        assert on.accepted() == on.accepted("prices") == set(parts(1, 8))


def test_a_list_that_is_refused_changes_nothing_but_the_way_of_asking(tmp_path: Path) -> None:
    """Where Job/List is not offered, jobs are asked for one by one, and the list no more after a few attempts."""
    with stage(tmp_path, in_flight=8) as on:
        on.sandbox.inject(Fault(kind="status", status=404, path="Job/List", times=0))
        on.sandbox.inject(Fault(kind="job_slow", delay=0.2, times=0))
        on.plan(*(parts(1 + 2 * n, 2) for n in range(8)))
        assert on.go()
        assert jobs_asked(on)[1] <= 6  # three, and what was on its way by then
        assert on.accepted() == on.stored() == set(parts(1, 16))


def test_the_breaker_says_so_and_work_resumes_by_itself(tmp_path: Path) -> None:
    """While nothing is answered all runs pause together; with the first answer they go on to their ends."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="status", status=503, times=3))
        on.plan(parts(1, 4))
        on.plan(parts(1, 4), run="p1", feed="prices", operation=PRICES)
        assert on.go("r1", "p1", patience=60)
        named = [name for name, _ in on.events if name.startswith("connect_")]
        assert named.count("connect_paused") == 3
        assert named[-1] == "connect_resumed"
        assert on.accepted() == on.accepted("prices") == set(parts(1, 4))


def test_processes_of_one_customer_share_the_token(tmp_path: Path) -> None:
    """Two ledgers opened on one state folder, as two processes do, get along with one token."""
    with stage(tmp_path) as on:
        other = Stage(tmp_path, on.sandbox, on.settings.base_url)
        try:
            on.plan(parts(1, 4))
            assert on.go()
            assert len(other.connect.list_jobs().jobs) == 1
        finally:
            other.close()
        assert sum("token" in seen.path for seen in on.sandbox.requests()) == 1


LIST_FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 404},
    {"kind": "status", "status": 200, "body": ""},
    {"kind": "status", "status": 200, "body": '{"Jobs": []}'},
    {"kind": "status", "status": 200, "body": "[]"},
    {"kind": "html"},
    {"kind": "truncated"},
    {"kind": "hang"},
    {"kind": "odd", "values": {"Totals": None}},
    {"kind": "odd_entry", "values": {"JobId": None, "StatusId": 2, "IsFinished": True}},
]


@pytest.mark.parametrize("fault", LIST_FAULTS, ids=str)
def test_progress_depends_on_single_jobs_alone(tmp_path: Path, fault: dict[str, Any]) -> None:
    """Whatever the list of jobs does, for ever: each job is polled, and the run ends."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(path="Job/List", times=0, **fault))
        on.plan(*(parts(1 + 2 * n, 2) for n in range(4)))
        assert on.go()
        assert on.stored() == on.accepted() == set(parts(1, 8))
        single, _ = jobs_asked(on)
        assert single >= (0 if fault["kind"] == "odd_entry" else 4)
        assert on.posts() == 4


ODD_ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("Job/Get", {"StatusId": 10**20}),
    ("Job/Get", {"Totals": None}),
    ("Job/Get", {"Start": 1732000000}),
    ("Job/Get", {"JobId": 424242}),
    ("Job/GetLog", {"SeverityId": 10**20}),
    ("Job/GetLog", {"ImportedRow": {"PartNo": "A"}}),
    (STOCK, {"ValidationSummary": "ok"}),
    (STOCK, {"ValidationSummary": {"NrOfValidationFailures": 0, "Messages": "All is well"}}),
]


@pytest.mark.parametrize(("path", "values"), ODD_ANSWERS, ids=str)
def test_an_odd_answer_costs_only_itself(tmp_path: Path, path: str, values: dict[str, Any]) -> None:
    """It is asked for again; nothing is concluded from it, and nothing breaks."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="odd", path=path, times=2, values=values))
        on.plan(parts(1, 2))
        assert on.go()
        assert on.stored() == on.accepted() == set(parts(1, 2))
        assert on.posts() == 1


def test_the_end_waits_only_so_long_for_requests_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not come back has an unknown outcome; its chunk stays as it is."""
    monkeypatch.setattr(sender, "CLOSING_SECONDS", 0.1)
    with stage(tmp_path) as on:
        patient = HttpOptions(timeout=httpx.Timeout(60))
        on.connect.close()
        on.connect = ConnectClient(on.settings, Secret("sandbox"), on.gate, on.ledger.tokens, http=patient)
        on.sandbox.inject(Fault(kind="hang", path=STOCK, accept=True))
        on.plan(parts(1, 2))
        with on.flight() as flight:
            flight.add("r1")
            while on.posts() < 1:
                flight.result_ready.wait(0.01)
            begun = time.monotonic()
            on.stop.set()
        assert time.monotonic() - begun < 30
        assert on.states() == ["sending"]


def test_a_job_that_counts_too_few_items_is_looked_into(tmp_path: Path) -> None:
    """A job that lost records says so by its count alone; halves whose counts agree are accepted."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="odd", path="Job/Get", times=0, values={"Totals": 1}))
        on.sandbox.inject(Fault(kind="status", path="Job/List", times=0, status=404))
        on.plan(parts(1, 3))
        assert on.go()
        assert on.accepted() == set(parts(1, 3))
        assert sorted(on.states()) == ["accepted"] * 3 + ["split"] * 2


def test_an_import_that_counts_nothing_is_believed_after_three_jobs(tmp_path: Path) -> None:
    """The count is what Norce gives; the ledger keeps it, so that somebody is told."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="odd", path="Job/", times=0, values={"Totals": 0}))
        on.plan(parts(1, 8))
        assert on.go()
        assert on.accepted() == set(parts(1, 8))
        accepted = [chunk for chunk in on.ledger.chunks.list_by_run("r1") if chunk.state.value == "accepted"]
        assert {chunk.job_total for chunk in accepted} == {0}
        assert on.posts() <= 5


def test_a_log_without_an_end_is_read_twice(tmp_path: Path) -> None:
    """Only then is the outcome decided."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="no_finish", path=STOCK))
        on.plan(parts(1, 2))
        assert on.go()
        assert on.accepted() == set(parts(1, 2))
        logs = sum(request.path.endswith("Job/GetLog") for request in on.sandbox.requests())
        assert logs == 2


def test_a_log_that_is_never_readable_does_not_stop_a_run(tmp_path: Path) -> None:
    """After six readings the counts decide, and the report says so."""
    with stage(tmp_path) as on:
        on.poll_scale = 0.002
        on.sandbox.inject(Fault(kind="odd", path="Job/GetLog", times=0, values={"Message": 5}))
        on.plan(parts(1, 2))
        assert on.go()
        assert on.accepted() == set(parts(1, 2))
        (chunk,) = on.ledger.chunks.list_by_run("r1")
        assert chunk.warnings == (LOG_NOT_FINAL,)


def test_a_warning_without_a_record_finds_its_record(tmp_path: Path) -> None:
    """The request is halved until the record stands alone; the others are accepted."""
    with stage(tmp_path) as on:
        on.sandbox.inject(
            Fault(kind="warn", path=STOCK, times=0, keys=("P-0002",), drop=("OnhandValue",), name_row=False)
        )
        on.plan(parts(1, 4))
        assert on.go()
        assert on.accepted() == {"P-0001", "P-0003", "P-0004"}
        (refused,) = on.ledger.record_errors.list_by_run("r1")
        assert refused.key == "P-0002"


def test_a_lost_answer_bars_its_keys_until_two_lists_lack_its_job(tmp_path: Path) -> None:
    """A request that left no job goes again only after `lost_answer_seconds`; other requests of the run go on."""
    with stage(tmp_path, lost_answer_seconds=1.0) as on:
        on.sandbox.inject(Fault(kind="reset_before", path=STOCK))
        on.plan(parts(1, 2), parts(3, 2))
        assert on.go()
        assert on.accepted() == set(parts(1, 4))
        first, second, again = [request for request in on.sandbox.requests() if request.path.endswith(STOCK)]
        assert first.digest == again.digest != second.digest
        assert again.time - first.time >= 1.0
        assert second.time - first.time < 1.0


def test_a_gateway_that_gives_up_may_have_handed_the_request_over(tmp_path: Path) -> None:
    """503 after Connect has taken an import: its job is found, and nothing is sent twice."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="status", status=503, path=STOCK, accept=True))
        on.plan(parts(1, 2))
        assert on.go()
        assert on.accepted() == set(parts(1, 2))
        assert on.posts() == 1
        assert on.ledger.chunks.list_by_run("r1")[0].resolution == "adopted"


def test_while_a_job_without_a_start_may_be_ours_nothing_is_sent_again(tmp_path: Path) -> None:
    """A queued job says nothing of itself yet; once it has ended it is adopted."""
    settings = SandboxSettings(requests=1000, queued_seconds=1.5)
    with stage(tmp_path, settings, lost_answer_seconds=0.5) as on:
        on.sandbox.inject(Fault(kind="reset_after", path=STOCK))
        on.plan(parts(1, 2))
        assert on.go()
        assert on.accepted() == set(parts(1, 2))
        assert on.posts() == 1


def test_an_outcome_that_nobody_can_tell_is_a_persons_decision(tmp_path: Path) -> None:
    """Without a list of jobs the request is not sent again by itself."""
    with stage(tmp_path, lost_answer_seconds=0.1) as on:
        on.sandbox.inject(Fault(kind="reset_after", path=STOCK))
        on.sandbox.inject(Fault(kind="status", path="Job/List", times=0, status=500))
        on.plan(parts(1, 2))
        with pytest.raises(StateError, match="outcome") as caught:
            on.go()
        assert caught.value.code == "outcome-unknown"
        assert on.posts() == 1
        assert on.states() == ["sending"]


@pytest.mark.parametrize("delay", [0.5, 1.5])
def test_a_job_that_is_not_visible_yet_is_waited_for(tmp_path: Path, delay: float) -> None:
    """Connect may not know a job at once whose id it has given: it is sent again only after a while."""
    with stage(tmp_path, lost_answer_seconds=30.0) as on:
        on.sandbox.inject(Fault(kind="job_unknown", path=STOCK, delay=delay))
        on.plan(parts(1, 2))
        assert on.go()
        assert on.accepted() == set(parts(1, 2))
        assert on.posts() == 1


def test_runs_end_when_nothing_changes(tmp_path: Path) -> None:
    """A job that stays as it is for as long as the caller waits: the rest is left for the next start."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_stuck", path=STOCK))
        on.plan(parts(1, 2))
        with pytest.raises(ConnectUnreachableError) as caught:
            on.go(patience=0.5)
        assert caught.value.code == "connect-no-progress"
        assert on.states() == ["submitted"]
