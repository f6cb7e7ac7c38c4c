"""Tokens, the application id, the two request limits and the record of requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest

from etl.sandbox.http import ApiRequest, decode_json
from tests.integration.sandbox.conftest import Client, Clock

Make = Callable[..., Client]


def test_a_token_is_given_for_the_right_secret(client: Client) -> None:
    """The answer has the four OAuth2 members."""
    given = decode_json(client.login().body)
    assert set(given) == {"access_token", "token_type", "expires_in", "scope"}
    assert (given["token_type"], given["expires_in"]) == ("Bearer", 3600)


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ({"secret": "wrong"}, 401, "invalid_client"),
        ({"grant": "password"}, 400, "unsupported_grant_type"),
        ({"scope": ""}, 400, "invalid_scope"),
    ],
)
def test_a_wrong_token_request_is_refused(client: Client, words: dict[str, str], status: int, error: str) -> None:
    """As OAuth2 says, with its error words."""
    answer = client.login(**words)
    assert (answer.status, decode_json(answer.body)["error"]) == (status, error)


def test_a_token_request_must_be_a_form(client: Client) -> None:
    """JSON is refused."""
    call = ApiRequest("POST", client.sandbox.contract.token_path, headers={"content-type": "application/json"})
    assert client.sandbox.respond(call).status == 400


def test_only_the_configured_scope_is_granted(make: Make) -> None:
    """Another scope is invalid."""
    client = make(scope="stage")
    assert client.login(scope="playground").status == 400
    assert client.login(scope="stage").status == 200


def test_the_token_endpoint_allows_a_burst_and_then_three_a_minute(client: Client, clock: Clock) -> None:
    """20 at once, then one every 20 seconds."""
    assert [client.login().status for _ in range(21)] == [200] * 20 + [429]
    clock.now += 20
    assert [client.login().status for _ in range(2)] == [200, 429]


def test_calls_without_a_live_token_are_refused(client: Client, clock: Clock) -> None:
    """Missing, unknown and expired tokens all get 401."""
    assert client.call("GET", "Job/List", headers={"authorization": ""}).status == 401
    assert client.call("GET", "Job/List", headers={"authorization": "Bearer other"}).status == 401
    assert client.call("GET", "Job/List").status == 200
    clock.now += 3600
    assert client.call("GET", "Job/List").status == 401


def test_calls_without_application_id_are_refused(client: Client) -> None:
    """400 without it."""
    assert client.call("GET", "Job/List", headers={"application-id": ""}).status == 400


def test_paths_and_methods_are_checked(client: Client) -> None:
    """Names are plural and methods as documented."""
    assert client.call("POST", "Product/ImportOnhand").status == 404
    assert client.call("GET", "Product/ImportOnhands").status == 405
    assert client.call("GET", "Job/Restart", id=1).status == 405
    assert client.sandbox.respond(ApiRequest("GET", "/elsewhere")).status == 404


def test_sixty_in_any_sixty_seconds_over_all_calls(make: Make, clock: Clock) -> None:
    """The window rolls: it frees as the oldest request leaves it, and refused ones do not count."""
    client = make(requests=60)
    for _ in range(30):
        assert client.call("GET", "Job/List").status == 200
    clock.now += 30
    for _ in range(30):
        assert client.call("POST", "Product/ImportOnhands").status == 400
    assert client.call("GET", "Job/List").status == 429
    clock.now += 30
    assert [client.call("GET", "Job/List").status for _ in range(31)] == [200] * 30 + [429]
    assert client.sandbox.max_requests_in_window(60) == 62


@pytest.mark.parametrize("form", ["none", "seconds", "date"])
def test_retry_after_takes_the_configured_form(make: Make, clock: Clock, form: str) -> None:
    """Nothing, seconds or an HTTP date."""
    client = make(requests=1, retry_after=form)
    client.call("GET", "Job/List")
    clock.now += 10
    given = client.call("GET", "Job/List").headers.get("Retry-After")
    if form == "none":
        assert given is None
    elif form == "seconds":
        assert given == "51"
    else:
        assert given is not None
        assert parsedate_to_datetime(given).timestamp() == pytest.approx(clock.now + 51, abs=1)


def test_every_request_is_recorded(client: Client, clock: Clock) -> None:
    """Time, path, status, header object, digest, size, items and job."""
    header = client.header("Product/ImportOnhands", {"SkuOnhandFieldsThatAreSet": [3]})
    row = {"PartNo": "1", "WarehouseCode": "W", "LocationCode": "L", "OnhandValue": 1}
    client.post("Product/ImportOnhands", header, [row])
    seen = client.sandbox.requests()[-1]
    assert (seen.time, seen.status, seen.header, seen.items, seen.job) == (clock.now, 200, header, 1, 1)
    assert len(seen.digest) == 64
    assert seen.size == len(json.dumps([row], separators=(",", ":")))
