"""The webhook over real HTTP on this machine: who may say what, and what it does."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from etl.config.secrets import Secret
from etl.config.settings import WebhookSettings
from etl.connect import webhook
from etl.connect.job_events import MAX_REMEMBERED_JOBS, POLL_FACTOR, JobEvents
from etl.errors import StateError
from etl.sandbox import EventSettings, SandboxSettings
from tests.support.shop import until
from tests.support.stage import parts, stage

TOKEN = "correct-horse-battery-staple"
SETTINGS = WebhookSettings(port=0)
EVENT = {"ClientId": 1, "ApplicationId": 7, "JobId": 4711, "StatusId": 2}


@contextmanager
def listening(tidings: JobEvents | None = None) -> Iterator[str]:
    with webhook.listen(SETTINGS, Secret(TOKEN), tidings or JobEvents()) as address:
        yield address


def post(
    address: str, body: bytes, token: str | None = TOKEN, method: str = "POST", path: str | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    try:
        headers = {} if token is None else {SETTINGS.header: token}
        connection.request(method, path or place.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def event(**changed: object) -> bytes:
    return json.dumps({**EVENT, **changed}).encode()


def test_a_notice_arrives() -> None:
    """An event with the token is taken with 204 and no body, and its job is to be asked for."""
    news = threading.Event()
    tidings = JobEvents()
    tidings.set_wake(news.set)
    with listening(tidings) as address:
        assert post(address, event()) == (204, b"")
    assert news.is_set()
    assert tidings.unpolled_jobs([4711])
    assert not tidings.unpolled_jobs([4712])


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "å" * 40])
def test_a_caller_without_the_token_can_do_nothing(token: str | None) -> None:
    """Every wrong token gets the same 401, whatever comes with it; the body is not even read."""
    tidings = JobEvents()
    with listening(tidings) as address:
        said = None if token is None else token.encode().decode("latin-1")
        assert post(address, event(), said) == (401, b"")
        assert post(address, b"x" * 100_000, said)[0] == 401
    assert not tidings.unpolled_jobs([4711])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"4711",
        b"\xff\xfe",
        b"[" * 4000,
        event(JobId=None),
        event(JobId=True),
        event(JobId=-1),
        event(JobId="4711; drop"),
        event(JobId=10**30),
        event(JobId={"JobId": 4711}),
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    """400 without a word about why, and nothing is asked for."""
    tidings = JobEvents()
    with listening(tidings) as address:
        assert post(address, body) == (400, b"")
        assert post(address, event(JobId="4711"))[0] == 204  # Connect itself writes job ids as text at times
    assert tidings.unpolled_jobs([4711])


def test_long_bodies_are_not_read() -> None:
    """More than 4 KiB is refused, announced or not."""
    with listening() as address:
        assert post(address, b" " * (webhook.MAX_BODY_BYTES + 1))[0] == 413
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=20) as raw:
            raw.sendall(
                f"POST {place.path} HTTP/1.1\r\nHost: x\r\n{SETTINGS.header}: {TOKEN}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode()
            )
            raw.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n" + b"1000\r\n" + b" " * 4096 + b"\r\n")
            assert b" 413 " in raw.recv(4096)


def test_other_paths_and_methods_are_none() -> None:
    """One path, one method."""
    with listening() as address:
        assert post(address, b"", method="GET")[0] == 405
        assert post(address, event(), path="/")[0] == 404
        assert post(address, event(), path="/../etc/passwd")[0] == 404


def test_foreign_and_repeated_jobs_are_harmless() -> None:
    """A job counts once however often it is named; of foreign ones only so many are remembered."""
    tidings = JobEvents()
    assert tidings.add(1)
    assert not tidings.add(1)
    tidings.mark_polled([1])
    assert not tidings.add(1)
    assert not tidings.unpolled_jobs([1])
    for foreign in range(10, 10 + MAX_REMEMBERED_JOBS):
        tidings.add(foreign)
    assert len(tidings._polled_by_job) == MAX_REMEMBERED_JOBS
    tidings.mark_polled([999_999_999])


def test_polls_are_rarer_only_while_notices_arrive() -> None:
    """The first job that ended with its notice stretches the pauses, the first without brings them back."""
    tidings = JobEvents()
    assert tidings.poll_factor == 1.0
    tidings.add(1)
    tidings.observe_finished(1)
    assert tidings.poll_factor == POLL_FACTOR
    tidings.observe_finished(2)
    assert tidings.poll_factor == 1.0


def test_a_flood_leaves_one_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Calls that are turned away are counted, and named once a minute."""
    now = [0.0]
    turn_away = webhook._ErrorResponder(lambda: now[0])
    for _ in range(1000):
        assert turn_away(401, "the token is missing or wrong").status_code == 401
    now[0] = 61.0
    turn_away(401, "the token is missing or wrong")
    said = capsys.readouterr().out
    assert said.count("webhook_denied") == 2
    assert "999" in said


def test_a_port_that_is_taken_is_an_error_with_a_hint() -> None:
    """Somebody else listens there: nothing starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = WebhookSettings(port=taken.getsockname()[1])
        with pytest.raises(StateError, match="cannot listen"), webhook.listen(settings, Secret(TOKEN), JobEvents()):
            pass


def test_the_sandbox_says_when_jobs_end_until_it_is_heard(tmp_path: Path) -> None:
    """Each ended job is posted with the static header, and again after a pause when nobody took it."""
    tidings = JobEvents()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    address = f"http://127.0.0.1:{port}{SETTINGS.path}"
    events = EventSettings(url=address, headers={SETTINGS.header: TOKEN}, pause_factor=0.01)
    with stage(tmp_path / "var", SandboxSettings(requests=1000, events=events)) as built:
        built.plan(parts(1, 3))
        assert built.go()
        settings = WebhookSettings(port=port)
        with webhook.listen(settings, Secret(TOKEN), tidings):
            until(lambda: tidings.unpolled_jobs([1]))


def test_word_from_norce_is_enough(tmp_path: Path) -> None:
    """Jobs are closed as soon as their events have come, although by themselves they would be asked for much later."""
    tidings = JobEvents()
    with webhook.listen(SETTINGS, Secret(TOKEN), tidings) as address:
        events = EventSettings(url=address, headers={SETTINGS.header: TOKEN})
        with stage(tmp_path / "var", SandboxSettings(requests=1000, events=events), unfinished=2) as built:
            built.plan(*(parts(10 * number, 5) for number in range(1, 7)))
            built.tidings, built.poll_scale = tidings, 1000.0
            assert built.go()
            assert len(built.accepted()) == 30
            asked = [seen for seen in built.sandbox.requests() if seen.path.endswith(("Job/Get", "Job/List"))]
            assert len(asked) <= 6
    assert tidings.poll_factor == POLL_FACTOR


def test_without_word_from_norce_nothing_is_lost(tmp_path: Path) -> None:
    """Events that never arrive, here for a wrong token: polling closes every job, at its usual pace."""
    tidings = JobEvents()
    with webhook.listen(SETTINGS, Secret(TOKEN), tidings) as address:
        events = EventSettings(url=address, headers={SETTINGS.header: "wrong"}, pause_factor=0.001)
        with stage(tmp_path / "var", SandboxSettings(requests=1000, events=events)) as built:
            built.plan(parts(1, 5), parts(11, 5))
            built.tidings = tidings
            assert built.go()
            assert len(built.accepted()) == 10
    assert tidings.poll_factor == 1.0


def test_a_false_word_costs_one_question(tmp_path: Path) -> None:
    """Somebody says that running jobs have ended, ours and others: each is asked for once more, no harm."""
    tidings = JobEvents()
    with stage(tmp_path / "var", SandboxSettings(requests=1000, running_seconds=0.3)) as built:
        built.plan(parts(1, 3))
        built.tidings = tidings
        for job in range(1, 50):
            tidings.add(job)
        assert built.go()
        assert built.stored() == set(parts(1, 3))
        assert not tidings.unpolled_jobs([1])
