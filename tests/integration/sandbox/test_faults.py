"""Trouble on request."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from etl.sandbox import Fault
from etl.sandbox.http import decode_json
from tests.integration.sandbox.conftest import Client, Clock

STOCK = "Product/ImportOnhands"
FLAGS: dict[str, list[Any]] = {"SkuOnhandFieldsThatAreSet": ["OnhandValue", "LeadTimeDayCount"]}


def stock(part: str) -> dict[str, Any]:
    return {"PartNo": part, "WarehouseCode": "W", "LocationCode": "L", "OnhandValue": 1, "LeadTimeDayCount": 2}


def statuses(client: Client, count: int, path: str = "Job/List") -> list[int]:
    return [client.call("GET", path).status for _ in range(count)]


def test_a_fault_strikes_as_often_as_it_says(client: Client) -> None:
    """After those it spares, on its path only."""
    client.login()
    client.sandbox.inject(Fault(kind="status", status=503, path="Job/List", after=1, times=2))
    assert client.call("GET", "Job/Get", id=1).status == 404
    assert statuses(client, 4) == [200, 503, 503, 200]
    assert [seen.fault for seen in client.sandbox.requests()][-4:] == [None, "status", "status", None]


def test_a_fault_lasts_as_long_as_it_says(client: Client, clock: Clock) -> None:
    """Every request, until its seconds are over; or until it is cleared."""
    client.login()
    client.sandbox.inject(Fault(kind="status", status=502, seconds=5))
    assert statuses(client, 2) == [502, 502]
    clock.now += 5
    assert statuses(client, 1) == [200]
    client.sandbox.inject(Fault(kind="status", status=403, times=0))
    assert statuses(client, 3) == [403] * 3
    client.sandbox.faults.clear()
    assert statuses(client, 1) == [200]


def test_too_many_requests_in_each_form(client: Client, clock: Clock) -> None:
    """Retry-After as seconds, as a date, or not at all."""
    client.login()
    client.sandbox.inject(Fault(kind="rate_limit"))
    client.sandbox.inject(Fault(kind="rate_limit", retry_after=3))
    client.sandbox.inject(Fault(kind="rate_limit", retry_after=3, retry_after_date=True))
    answers = [client.call("GET", "Job/List") for _ in range(4)]
    assert [answer.status for answer in answers] == [429, 429, 429, 200]
    assert "Retry-After" not in answers[0].headers
    assert answers[1].headers["Retry-After"] == "3"
    assert parsedate_to_datetime(answers[2].headers["Retry-After"]).timestamp() == int(clock.now + 3)


def test_tokens_can_be_revoked_in_the_middle(client: Client) -> None:
    """401 until a new one is fetched."""
    client.login()
    client.sandbox.inject(Fault(kind="unauthorized"))
    assert statuses(client, 2) == [401, 401]
    client.login()
    assert statuses(client, 1) == [200]


def test_large_requests_can_be_refused(client: Client) -> None:
    """413 above a number of items, as long as it is there."""
    client.sandbox.inject(Fault(kind="too_large", above=1, times=0))
    header = client.header(STOCK, FLAGS)
    assert client.post(STOCK, header, [stock("1"), stock("2")]).status == 413
    assert client.post(STOCK, header, [stock("1")]).status == 200


def test_answers_can_be_nonsense(client: Client) -> None:
    """A web page with 200, and JSON cut in half while the job exists."""
    header = client.header(STOCK, FLAGS)
    client.sandbox.inject(Fault(kind="html", path=STOCK))
    page = client.post(STOCK, header, [stock("1")])
    assert (page.status, page.content_type) == (200, "text/html")
    assert client.sandbox.jobs() == []
    client.sandbox.inject(Fault(kind="truncated", path=STOCK))
    cut = client.post(STOCK, header, [stock("1")])
    assert cut.status == 200
    with pytest.raises(ValueError, match="truncated"):
        decode_json(cut.body)
    assert len(client.sandbox.jobs()) == 1


def test_a_job_can_fail_or_be_stuck_or_unknown_or_slow(client: Client, clock: Clock) -> None:
    """Each with the job that comes next."""
    for kind in ("job_failed", "job_stuck", "job_unknown", "job_slow"):
        client.sandbox.inject(Fault(kind=kind, delay=60))
        client.post(STOCK, client.header(STOCK, FLAGS), [stock(kind)])
    clock.now += 30
    assert [client.call("GET", "Job/Get", id=number).status for number in (1, 2, 3, 4)] == [200, 200, 404, 200]
    assert [client.job(number)["StatusId"] for number in (1, 2, 4)] == [3, 1, 1]
    assert client.job(1)["Fail"] == 1
    assert list(client.records(STOCK)) == ["job_unknown|W|L"]
    clock.now += 60
    assert [client.job(number)["StatusId"] for number in (2, 4)] == [1, 2]


@pytest.mark.parametrize("name_row", [True, False])
def test_records_can_be_refused(client: Client, name_row: bool) -> None:
    """With a row of severity 3 that names them, or does not."""
    client.sandbox.inject(Fault(kind="refuse", keys=("2",), message="no", name_row=name_row))
    job = client.send(STOCK, FLAGS, [stock("1"), stock("2")])
    assert (job["StatusId"], job["Fail"], list(client.records(STOCK))) == (2, 1, ["1|W|L"])
    row = client.log(1)[1]
    assert (row["SeverityId"], row["Message"]) == (3, "2|W|L: no" if name_row else "no")
    assert (row["ImportedRow"] is not None) is name_row


def test_part_of_a_record_can_be_dropped(client: Client) -> None:
    """With a row of severity 2; the record does not count as failed."""
    client.sandbox.inject(Fault(kind="warn", keys=("*",), drop=("OnhandValue", "PartNo")))
    client.send(STOCK, FLAGS, [stock("1")])
    assert client.records(STOCK)["1|W|L"] == {**stock("1"), "OnhandValue": 0}
    client.sandbox.inject(Fault(kind="warn", keys=("1|W|L",)))
    assert client.send(STOCK, FLAGS, [stock("1")])["Fail"] == 0
    assert [row["SeverityId"] for row in client.log(2)] == [1, 2, 1]


def test_records_can_fail_validation(client: Client) -> None:
    """They show in the summary, and the job ends with status 4."""
    client.sandbox.inject(Fault(kind="invalid", keys=("2",), message="odd"))
    answer = client.post(STOCK, client.header(STOCK, FLAGS), [stock("1"), stock("2")])
    assert decode_json(answer.body)["ValidationSummary"]["Messages"] == ["Item 1: odd"]
    client.sandbox.finish_jobs()
    assert client.job(1)["StatusId"] == 4


def test_logs_can_be_empty_or_shuffled(client: Client) -> None:
    """Rows in another order are still all there."""
    client.sandbox.inject(Fault(kind="empty_log"))
    client.send(STOCK, FLAGS, [stock("1")])
    assert client.log(1) == []
    client.sandbox.inject(Fault(kind="refuse", keys=("*",)))
    client.sandbox.inject(Fault(kind="shuffled_log"))
    client.send(STOCK, FLAGS, [stock(str(number)) for number in range(9)])
    rows = client.log(2)
    assert len(rows) == 11
    assert not rows[0]["Message"].endswith("started")
    assert client.log(2) == rows


def test_unknown_faults_are_refused() -> None:
    """Before anything waits for them."""
    with pytest.raises(ValueError, match="weather"):
        Fault(kind="weather")  # type: ignore[arg-type]
