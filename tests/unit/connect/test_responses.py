"""The translation of everything HTTP can do into what has to happen next."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings
from etl.connect.client import ConnectClient
from etl.connect.http_exchange import HttpOptions, translate_http_error
from etl.connect.rate_limiter import RateLimiter, RateLimits
from etl.connect.responses import (
    DEFAULT_TOKEN_LIFETIME,
    MAX_TOKEN_LIFETIME,
    PayloadTooLargeError,
    ThrottledError,
    check_status,
    parse_event,
    parse_job,
    parse_jobs,
    parse_log,
    parse_restart,
    parse_retry_after,
    parse_submission,
    parse_token,
)
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, OutcomeUnknownError, StateError
from etl.model.runs import Chunk, Job, LogRow, Submission

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
        (503, "POST", OutcomeUnknownError),
        (500, "GET", ConnectUnreachableError),
        (599, "GET", ConnectUnreachableError),
    ],
)
def test_statuses_mean_what_they_ask_for(status: int, method: str, expected: type[ConnectError]) -> None:
    """Final, try again, find out first, or cut."""
    with pytest.raises(expected):
        check_status(status, 10, once_only=method == "POST")
    check_status(204, 10, once_only=method == "POST")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (300, "connect-moved"),
        (399, "connect-moved"),
        (400, "connect-refused"),
        (401, "connect-unauthorized"),
        (403, "connect-forbidden"),
        (404, "connect-not-found"),
        (408, "connect-unreachable"),
        (413, "connect-too-large"),
        (499, "connect-refused"),
        (500, "connect-unreachable"),
    ],
)
def test_each_status_has_its_code(status: int, code: str) -> None:
    """The code tells what to do; a request that may be repeated is the usual case."""
    with pytest.raises(ConnectError) as caught:
        check_status(status, 10)
    assert caught.value.code == code
    check_status(200, 10)
    check_status(299, 10)


def test_a_denied_request_shows_what_connect_says() -> None:
    """The text of the response goes to the hint in one line; without one the hint says so. A size is named."""
    with pytest.raises(ConnectHttpError) as caught:
        check_status(422, 10, "PartNo\n  is missing")
    assert "Connect says: PartNo is missing;" in str(caught.value.hint)
    with pytest.raises(ConnectHttpError) as silent:
        check_status(422, 10)
    assert "Connect says: nothing;" in str(silent.value.hint)
    with pytest.raises(PayloadTooLargeError, match="of 4711 bytes") as large:
        check_status(413, 4711)
    assert large.value.size == 4711
    assert ThrottledError(7.0).code == "connect-rate-limited"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:10 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:10 -0000", "Date": "Wed, 21 Oct 2026 09:28:00 +0200"}, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2026 09:28:10 +0200", "Date": "Wed, 21 Oct 2026 07:28:00 -0000"}, 10.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-4"}, 0.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], expected: float | None) -> None:
    """A date counts from the server's own clock where it tells it."""
    assert parse_retry_after(headers, 1.7e9) == expected


def test_a_date_without_a_server_time_counts_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone of this machine makes no difference."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert parse_retry_after({"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}, 1.7e9) == 10.0
    finally:
        monkeypatch.undo()
        time.tzset()


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


JOB = {"JobId": 7, "StatusId": 2, "IsFinished": True, "Totals": 3, "Fail": 1}


def test_a_job_is_decoded() -> None:
    """Both spellings of inserts, numbers as text, .NET's zero date as no start, absent numbers as None."""
    job = parse_job(encode({**JOB, "JobId": "7", "Inserts": 4, "Updates": 2, "Start": "2026-11-30T03:00:00"}), 7)
    assert job == Job(7, 2, True, total=3, failed=1, inserted=4, updated=2, started="2026-11-30T03:00:00")
    assert parse_job(encode({**JOB, "Insert": 5, "Start": "0001-01-01T00:00:00", "StorageName": "x"}), 7) == Job(
        7, 2, True, total=3, failed=1, inserted=5, storage_name="x"
    )
    assert parse_job(encode({"JobId": 7, "StatusId": 6, "IsFinished": False}), 7) == Job(7, 6, False)
    assert parse_job(b"null", 7) is None


ODD_VALUES: dict[str, list[object]] = {
    "JobId": [None, 0, -1, 2**63, 10**20, "x", 1.5, True, [7], {}],
    "StatusId": [None, -1, 2**31, 10**20, "done", [2]],
    "IsFinished": [None, "maybe", 2, [], {}],
    "Totals": [None, -1, 2**63, "many", 0.5, {}],
    "Fail": [None, -1, 2**63, "many", [1]],
    "Start": [None, 1732000000, {}],
    "StorageName": [5, {"a": 1}, ["a"]],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in ODD_VALUES for value in ODD_VALUES[field]])
def test_a_job_with_an_odd_value_is_an_odd_response(field: str, value: object) -> None:
    """Null where .NET has a plain value, another type, a number that no ledger can store: asked again."""
    with pytest.raises(ConnectUnreachableError) as caught:
        parse_job(encode({**JOB, field: value}), 7)
    assert caught.value.code == "connect-garbled"
    assert f"$.{field}" in str(caught.value)
    listed = parse_jobs(encode([{**JOB, "JobId": 8}, {**JOB, field: value}]))
    assert [job.id for job in listed.jobs] == [8]
    assert listed.odd_ids == ((None,) if field == "JobId" else (7,))


@pytest.mark.parametrize("field", ["JobId", "StatusId", "IsFinished"])
def test_a_job_needs_id_status_and_end(field: str) -> None:
    """What is absent of these makes the response odd."""
    with pytest.raises(ConnectUnreachableError):
        parse_job(encode({name: value for name, value in JOB.items() if name != field}), 7)


def test_the_job_of_another_is_not_believed() -> None:
    """Job/Get that answers for another job says nothing of ours."""
    with pytest.raises(ConnectUnreachableError):
        parse_job(encode(JOB), 8)


NO_JSON = [
    b"",
    b"<html>",
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b'{"JobId": NaN}',
    b'[{"Message": "x", "Elsewhere": NaN}]',
    b"\xff\xfe",
    b'{"JobId": 1',
    b"1" * 5000,
]


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_not_json_is_an_odd_response(body: bytes) -> None:
    """A web page, a cut answer, endless nesting, a constant that JSON does not have: never a defect."""
    parsers: list[Callable[[bytes], object]] = [lambda body: parse_job(body, 7), parse_jobs, parse_log, parse_token]
    for parse in parsers:
        with pytest.raises(ConnectUnreachableError):
            parse(body)
    with pytest.raises(OutcomeUnknownError):
        parse_submission(body)
    with pytest.raises(OutcomeUnknownError):
        parse_restart(body, 7)
    assert parse_event(body) is None


def test_an_import_answer_is_decoded() -> None:
    """The id as text or number; an odd summary leaves the job, which tells its numbers itself."""
    assert parse_submission(encode({"JobId": "12", "ValidationSummary": None})) == Submission(12)
    summary = {"NrOfItemsInTotal": 3, "NrOfValidationFailures": 1, "Messages": ["a", None]}
    assert parse_submission(encode({"JobId": 12, "ValidationSummary": summary})) == Submission(12, 1, ("a",))
    assert parse_submission(encode({"JobId": 12, "ValidationSummary": {"Messages": ["a"]}})) == Submission(
        12, 0, ("a",)
    )
    odd: list[object] = [
        "ok", [1], {"NrOfValidationFailures": 10**30}, {"Messages": "All is well"}, {"Messages": 5}, {"Messages": [5]}
    ]  # fmt: skip
    for summary_value in odd:
        assert parse_submission(encode({"JobId": 12, "ValidationSummary": summary_value})) == Submission(12)
    bodies: list[object] = [{}, None, [], {"JobId": "x"}, "1", {"JobId": 10**20}, {"JobId": None}, {"JobId": 0}]
    for raw in bodies:
        with pytest.raises(OutcomeUnknownError):
            parse_submission(encode(raw))


def test_half_a_character_is_replaced() -> None:
    """A server that cuts a text within a character sends valid JSON that nothing can store."""
    assert parse_log(b'[{"SeverityId": 3, "Message": "Sale \\ud83d", "ImportedRow": "\\udc00A"}]') == (
        LogRow(3, "Sale \ufffd", "\ufffdA"),
    )
    answer = b'{"JobId": 1, "ValidationSummary": {"NrOfValidationFailures": 1, "Messages": ["A \\ud800"]}}'
    assert parse_submission(answer).messages == ("A \ufffd",)
    job = parse_job(b'{"JobId": 7, "StatusId": 2, "IsFinished": true, "StorageName": "\\ud83d"}', 7)
    assert job is not None
    assert job.storage_name == "\ufffd"


def test_a_log_is_decoded() -> None:
    """An absent severity is information; one odd row makes the log odd, because it might be the one that matters."""
    rows: list[object] = [{"SeverityId": 2, "Message": None, "ImportedRow": ""}, {"Message": "start"}]
    assert parse_log(encode(rows)) == (LogRow(2, "", None), LogRow(1, "start", None))
    assert parse_log(b"null") is None
    odd: list[object] = [
        5,
        None,
        {"Message": 5},
        {"SeverityId": None},
        {"SeverityId": 10**20},
        {"ImportedRow": {"A": 1}},
    ]
    for row in odd:
        with pytest.raises(ConnectUnreachableError):
            parse_log(encode([{"SeverityId": 1, "Message": "start"}, row]))


def test_an_event_names_its_job() -> None:
    """The id of the job; None where there is none."""
    assert parse_event(b'{"JobId": "7", "StatusId": 2}') == 7
    assert parse_event(b'{"StatusId": 2}') is None


def test_a_token_is_decoded() -> None:
    """A token that no header can carry is odd; a life that makes no sense is replaced."""
    assert parse_token(b'{"access_token": "x", "expires_in": 300}') == ("x", 300.0)
    assert parse_token(b'{"access_token": "x", "expires_in": 0.5}') == ("x", 0.5)
    assert parse_token(b'{"access_token": "x", "expires_in": 1e999}') == ("x", DEFAULT_TOKEN_LIFETIME)
    for life in (None, 0, -5):
        assert parse_token(encode({"access_token": "x", "expires_in": life})) == ("x", DEFAULT_TOKEN_LIFETIME)
    assert parse_token(b'{"access_token": "x"}') == ("x", DEFAULT_TOKEN_LIFETIME)
    assert parse_token(b'{"access_token": "x", "expires_in": 1e308}') == ("x", MAX_TOKEN_LIFETIME)
    odd: list[object] = ["", "a\nb", "tökén", "a b", None, 5]
    for token in odd:
        with pytest.raises(ConnectUnreachableError):
            parse_token(encode({"access_token": token, "expires_in": 300}))


def test_the_answer_to_a_restart_is_decoded() -> None:
    """A job in an object or by itself; none means that the old id stays."""
    assert parse_restart(b'{"JobId": "9"}', 7) == 9
    assert parse_restart(b"9", 7) == 9
    assert parse_restart(b"{}", 7) == 7
    assert parse_restart(b"null", 7) == 7
    for body in (b'{"JobId": null}', b'"x"', b"[]"):
        with pytest.raises(OutcomeUnknownError):
            parse_restart(body, 7)


class Streamed(httpx.AsyncByteStream):
    """A body as the network brings it: read once."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class World:
    """A Connect over a server made of a function, with a real rate limiter and token store."""

    def __init__(self, state: Path, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        from etl.state.ledger.facade import Ledger

        self.seen: list[httpx.Request] = []
        self.tokens = 0
        self.ledger = Ledger.open(state)
        self._answer = answer
        gate = RateLimiter(self.ledger.database, limits=RateLimits(1000, 60.0, {"token": 100}), sleep=lambda _: None)
        http = HttpOptions(transport=httpx.MockTransport(self.respond))
        self.connect = ConnectClient(SETTINGS, Secret("s3cret"), gate, self.ledger.tokens, http=http)

    async def respond(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.seen.append(request)
        if request.url.path.endswith("connect/token"):
            self.tokens += 1
            response = httpx.Response(200, json={"access_token": f"t{self.tokens}", "expires_in": 100})
        else:
            response = self._answer(request)
        return httpx.Response(response.status_code, headers=response.headers, stream=Streamed(response.content))

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
    with World(tmp_path, lambda _: httpx.Response(200, json={"JobId": 5, "StatusId": 1, "IsFinished": False})) as world:
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


def test_a_429_pauses_the_rate_limiter(tmp_path: Path) -> None:
    """The named time comes back with the error and blocks the rate limiter."""
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


class DeniedWorld(World):
    """A token endpoint that denies the client."""

    status = 400

    async def respond(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return httpx.Response(self.status, stream=Streamed(b"{}"))


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_client_that_gets_no_token_has_wrong_credentials(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each status that a token endpoint denies a client with; no run can send anything until somebody acts."""
    monkeypatch.setattr(DeniedWorld, "status", status)
    with DeniedWorld(tmp_path, lambda _: httpx.Response(200)) as world:
        with pytest.raises(ConnectHttpError, match=f"HTTP {status}") as caught:
            world.connect.prepare()
        assert caught.value.code == "connect-credentials"
