"""The translation of everything HTTP can do into what has to happen next."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings
from etl.connect.client import ConnectClient, HttpOptions, translate_http_error
from etl.connect.rate_limiter import RateLimiter, RateLimits
from etl.connect.responses import (
    PayloadTooLargeError,
    ThrottledError,
    check_status,
    parse_job,
    parse_log,
    parse_retry_after,
    parse_submission,
)
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, OutcomeUnknownError, StateError
from etl.model.runs import Chunk, LogRow

SETTINGS = ConnectSettings(
    base_url="https://norce.test", scope="stage", application_id=12, account_id=3, client_id="c", job_prefix="/jobs/"
)
BEFORE = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "LocalProtocolError"}
FINAL = {"UnsupportedProtocol", "TooManyRedirects"}


def concrete(kind: type[httpx.HTTPError]) -> list[type[httpx.HTTPError]]:
    """A class of httpx errors and all below it."""
    return [kind, *(found for below in kind.__subclasses__() for found in concrete(below))]


@pytest.mark.parametrize("kind", concrete(httpx.RequestError), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("once_only", [True, False])
def test_every_httpx_error_is_mapped(kind: type[httpx.RequestError], once_only: bool) -> None:
    """What certainly did not leave can go again; what may have left, for an import, is an unknown outcome."""
    made = translate_http_error(kind("boom"), once_only=once_only)
    if kind.__name__ in FINAL:
        assert isinstance(made, ConnectHttpError)
    elif once_only and kind.__name__ not in BEFORE:
        assert isinstance(made, OutcomeUnknownError)
    else:
        assert isinstance(made, ConnectUnreachableError)


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (400, "POST", ConnectHttpError),
        (401, "GET", ConnectHttpError),
        (403, "POST", ConnectHttpError),
        (404, "GET", ConnectHttpError),
        (302, "POST", ConnectHttpError),
        (422, "POST", ConnectHttpError),
        (408, "POST", OutcomeUnknownError),
        (408, "GET", ConnectUnreachableError),
        (413, "POST", PayloadTooLargeError),
        (500, "POST", OutcomeUnknownError),
        (502, "POST", OutcomeUnknownError),
        (504, "POST", OutcomeUnknownError),
        (503, "POST", ConnectUnreachableError),
        (500, "GET", ConnectUnreachableError),
        (599, "GET", ConnectUnreachableError),
    ],
)
def test_statuses_mean_what_they_ask_for(status: int, method: str, expected: type[ConnectError]) -> None:
    """Final, try again, find out first, or cut."""
    with pytest.raises(expected):
        check_status(status, method, 10)
    check_status(204, method, 10)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:10 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-4"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], expected: float | None) -> None:
    """A date counts from the server's own clock where it tells it."""
    assert parse_retry_after(headers, 1.7e9) == expected


def test_answers_are_read_tolerantly() -> None:
    """Both spellings of inserts, ids as text, unknown statuses as unfinished."""
    assert parse_submission({"JobId": "12", "ValidationSummary": None}).job_id == 12
    summary = {"NrOfItemsInTotal": 3, "NrOfValidationFailures": 1, "Messages": ["a", None]}
    assert parse_submission({"JobId": 12, "ValidationSummary": summary}).messages == ("a",)
    assert parse_job({"JobId": 1, "StatusId": 6}).finished is False
    assert parse_job({"JobId": 1, "StatusId": 3}).finished is True
    assert parse_job({"JobId": 1, "StatusId": 2, "IsFinished": False, "Inserts": 4}).inserted == 4
    assert parse_log([{"SeverityId": 2, "Message": None, "ImportedRow": ""}, 5]) == (LogRow(2, "", None),)
    bodies: tuple[object, ...] = ({}, None, [], {"JobId": "x"}, "1")
    for raw in bodies:
        with pytest.raises(OutcomeUnknownError):
            parse_submission(raw)
    for read in (parse_log, parse_job):
        with pytest.raises(ConnectUnreachableError):
            read("html")


class World:
    """A Connect over a server made of a function, with a real gate and token store."""

    def __init__(self, state: Path, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        from etl.state.ledger.facade import Ledger

        self.seen: list[httpx.Request] = []
        self.tokens = 0
        self.ledger = Ledger.open(state)
        self._answer = answer
        gate = RateLimiter(self.ledger.database, limits=RateLimits(1000, 60.0, {"token": 100}), sleep=lambda _: None)
        http = HttpOptions(transport=httpx.MockTransport(self.respond))
        self.connect = ConnectClient(SETTINGS, Secret("s3cret"), gate, self.ledger, http=http)

    def respond(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        if request.url.path.endswith("connect/token"):
            self.tokens += 1
            return httpx.Response(200, json={"access_token": f"t{self.tokens}", "expires_in": 100})
        return self._answer(request)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.connect.close()
        self.ledger.close()


def chunk(folder: Path, data: bytes = b'[{"PartNo":"\xc3\xa5"}]') -> Chunk:
    path = folder / "payload.json"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Chunk("r", 1, 1, "Product/ImportOnhands", {"FullFile": False, "Note": "å"}, path, digest, 1, 1)


def test_an_import_carries_what_connect_asks_for(tmp_path: Path) -> None:
    """Path, headers, one-line ASCII header object, body byte for byte, no compression; the token is got before."""
    with World(tmp_path, lambda _: httpx.Response(200, json={"JobId": "5"})) as world:
        world.connect.prepare(chunk(tmp_path))
        assert len(world.seen) == 1
        assert world.connect.submit(chunk(tmp_path)).job_id == 5
        token, sent = world.seen
        assert b"grant_type=client_credentials" in token.content
        assert sent.url == "https://norce.test/commerce/connect/4.0/Product/ImportOnhands"
        assert sent.content == b'[{"PartNo":"\xc3\xa5"}]'
        assert sent.headers["authorization"] == "Bearer t1"
        assert sent.headers["application-id"] == "12"
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["content-length"] == str(len(sent.content))
        assert "content-encoding" not in sent.headers
        assert "transfer-encoding" not in sent.headers
        header = sent.headers["x-stormconnect-header"]
        assert header.isascii()
        assert "\n" not in header
        assert json.loads(header) == {"AccountId": 3, "FullFile": False, "Note": "å"}


def test_the_job_prefix_is_a_setting(tmp_path: Path) -> None:
    """Job calls go where the settings say."""
    with World(tmp_path, lambda _: httpx.Response(200, json={"JobId": 5, "StatusId": 1})) as world:
        world.connect.get_job(5)
        assert world.seen[-1].url == "https://norce.test/jobs/Job/Get?id=5"


def test_a_token_is_shared_and_renewed_once(tmp_path: Path) -> None:
    """One token for all; after a 401 one new one; a second 401 is final."""
    fine = httpx.Response(200, json=[])
    answers = {"Bearer t1": 401, "Bearer t2": 200}
    with World(tmp_path, lambda r: httpx.Response(answers[r.headers["authorization"]], json=[])) as world:
        world.connect.list_jobs()
        world.connect.list_jobs()
        assert world.tokens == 2
    with World(tmp_path, lambda _: fine) as other:
        other.connect.list_jobs()
        assert other.tokens == 0
    with World(tmp_path, lambda _: httpx.Response(401)) as third, pytest.raises(ConnectHttpError) as caught:
        third.connect.list_jobs()
    assert caught.value.code == "connect-unauthorized"
    assert third.tokens == 1


def test_a_429_tells_the_gate(tmp_path: Path) -> None:
    """The named time comes back with the error and blocks the gate."""
    with World(tmp_path, lambda _: httpx.Response(429, headers={"Retry-After": "7"})) as world:
        with pytest.raises(ThrottledError) as caught:
            world.connect.list_jobs()
        assert caught.value.delay == 7
        with world.ledger.database.read() as db:
            assert db.scalar("select seconds from pauses") == 7


def test_a_changed_payload_never_leaves(tmp_path: Path) -> None:
    """What was planned is sent, or nothing."""
    with World(tmp_path, lambda _: httpx.Response(200, json={"JobId": 1})) as world:
        planned = chunk(tmp_path)
        planned.payload.write_bytes(b"[]")
        with pytest.raises(StateError, match="not as it was planned"):
            world.connect.prepare(planned)
        assert world.seen == []


def test_an_unknown_job_is_told_apart_from_a_wrong_address(tmp_path: Path) -> None:
    """404 or null for a job id means that Connect does not know the job."""
    for answer in (httpx.Response(404), httpx.Response(200, text="null")):
        with World(tmp_path, lambda _, given=answer: given) as world:  # type: ignore[misc]
            with pytest.raises(ConnectHttpError) as caught:
                world.connect.get_job(5)
            assert caught.value.code == "connect-job-unknown"


def test_restart_follows_the_id_in_the_answer(tmp_path: Path) -> None:
    """Whether Restart keeps the id is not documented: the answer decides."""
    new = random.Random(3).randrange(100)
    with World(tmp_path, lambda _: httpx.Response(200, json={"JobId": str(new)})) as world:
        assert world.connect.restart_job(5) == new
