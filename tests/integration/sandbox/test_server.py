"""The real server over a real socket."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from etl.sandbox import Fault, RunningSandbox, Sandbox, SandboxSettings, make_app, run_in_thread
from tests.support.shop import until

STOCK = "/commerce/connect/4.0/Product/ImportOnhands"
HEADER = {"AccountId": 1, "FullFile": False, "SkuOnhandFieldsThatAreSet": [3]}
ROW = {"PartNo": "00123", "WarehouseCode": "W", "LocationCode": "L", "OnhandValue": 5}


def log_in(server: RunningSandbox) -> dict[str, str]:
    form = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox", "scope": "x"}
    token = httpx.post(server.token_url, data=form).json()["access_token"]
    return {"Authorization": f"Bearer {token}", "application-id": "1", "X-StormConnect-Header": json.dumps(HEADER)}


def test_an_import_over_http_ends_in_the_catalogue() -> None:
    """Token, import, poll, catalogue: the whole way through uvicorn."""
    with run_in_thread(SandboxSettings(queued_seconds=0, validating_seconds=0, running_seconds=0)) as server:
        headers = log_in(server)
        answer = httpx.post(server.url + STOCK, json=[ROW], headers=headers)
        assert answer.json()["ValidationSummary"]["NrOfValidationFailures"] == 0
        job = httpx.get(server.url + "/commerce/connect/4.0/Job/Get", params={"id": 1}, headers=headers).json()
        assert (job["StatusId"], job["IsFinished"]) == (2, True)
        assert httpx.get(server.url + "/_sandbox/catalogue").json() == {"Product/ImportOnhands": {"00123|W|L": ROW}}
        assert server.sandbox.max_requests_in_window() == 2


def test_a_reset_after_acceptance_leaves_a_job() -> None:
    """The client gets a connection error, the server has the job."""
    with run_in_thread() as server, httpx.Client() as http:
        headers = log_in(server)
        server.sandbox.inject(Fault(kind="reset_after", path="ImportOnhands"))
        with pytest.raises(httpx.TransportError):
            http.post(server.url + STOCK, json=[ROW], headers=headers)
        assert len(server.sandbox.jobs()) == 1


def test_a_reset_before_acceptance_leaves_none() -> None:
    """The client gets a connection error, and nothing was taken in."""
    with run_in_thread() as server, httpx.Client() as http:
        headers = log_in(server)
        server.sandbox.inject(Fault(kind="reset_before", path="ImportOnhands"))
        with pytest.raises(httpx.TransportError):
            http.post(server.url + STOCK, json=[ROW], headers=headers)
        assert server.sandbox.jobs() == []


@pytest.mark.parametrize("accept", [False, True])
def test_a_silent_server_never_answers(accept: bool) -> None:
    """The client's own patience ends it; whether the request was taken in is the fault's choice."""
    with run_in_thread() as server, httpx.Client() as http:
        headers = log_in(server)
        server.sandbox.inject(Fault(kind="hang", path="ImportOnhands", accept=accept))
        with pytest.raises(httpx.ReadTimeout):
            http.post(server.url + STOCK, json=[ROW], headers=headers, timeout=0.1)
        until(lambda: not server.sandbox.faults.all() and len(server.sandbox.jobs()) == int(accept))


def test_a_slow_answer_comes_late_but_comes() -> None:
    """The answer is whole after the delay."""
    with run_in_thread() as server:
        headers = log_in(server)
        server.sandbox.inject(Fault(kind="slow", path="ImportOnhands", delay=0.05))
        answer = httpx.post(server.url + STOCK, json=[ROW], headers=headers)
        assert answer.json()["JobId"] == "1"
        assert answer.elapsed.total_seconds() >= 0.05


def test_faults_are_injected_and_cleared_over_http() -> None:
    """POST adds a fault, GET lists it, DELETE clears all, and unknown words are refused."""
    with run_in_thread() as server:
        faults = server.url + "/_sandbox/faults"
        assert httpx.post(faults, json={"kind": "status", "status": 503, "times": 2}).json()["id"] == 1
        assert httpx.get(server.url + STOCK).status_code == 503
        assert len(httpx.get(faults).json()) == 1
        assert httpx.delete(faults).json() == []
        assert httpx.post(faults, json={"kind": "weather"}).status_code == 400
        assert httpx.post(faults, json={"kind": "slow", "minutes": 1}).status_code == 400


def test_reset_forgets_everything_over_http() -> None:
    """Catalogue, jobs and records of requests are empty afterwards."""
    with run_in_thread() as server:
        httpx.post(server.url + STOCK, json=[ROW], headers=log_in(server))
        assert httpx.post(server.url + "/_sandbox/settle").json() == {}
        assert len(httpx.get(server.url + "/_sandbox/requests").json()) == 2
        httpx.post(server.url + "/_sandbox/reset")
        assert httpx.get(server.url + "/_sandbox/jobs").json() == []
        assert httpx.get(server.url + "/_sandbox/catalogue").json() == {}


def test_control_is_for_this_machine_only() -> None:
    """Another address gets 403."""

    async def ask(address: str) -> int:
        transport = httpx.ASGITransport(make_app(Sandbox()), client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            return (await http.get("/_sandbox/jobs")).status_code

    assert asyncio.run(ask("10.0.0.1")) == 403
    assert asyncio.run(ask("127.0.0.1")) == 200


def test_many_clients_at_once_get_a_job_each() -> None:
    """No request is lost, and no two share a job."""
    with run_in_thread() as server, ThreadPoolExecutor(8) as pool:
        headers = log_in(server)

        def send(number: int) -> str:
            row = {**ROW, "PartNo": str(number)}
            return str(httpx.post(server.url + STOCK, json=[row], headers=headers).json()["JobId"])

        assert len(set(pool.map(send, range(24)))) == 24
        server.sandbox.finish_jobs()
        assert len(server.sandbox.records("Product/ImportOnhands")) == 24


def test_a_value_is_edited_by_hand_over_http() -> None:
    """As a person in Admin would; unknown records are refused."""
    with run_in_thread() as server:
        httpx.post(server.url + STOCK, json=[ROW], headers=log_in(server))
        server.sandbox.finish_jobs()
        words = {"operation": "Product/ImportOnhands", "key": "00123|W|L", "path": "OnhandValue", "value": 9}
        assert httpx.post(server.url + "/_sandbox/edit", json=words).status_code == 200
        assert server.sandbox.records("Product/ImportOnhands")["00123|W|L"]["OnhandValue"] == 9
        assert httpx.post(server.url + "/_sandbox/edit", json={**words, "key": "no"}).status_code == 400
