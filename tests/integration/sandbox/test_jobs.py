"""Jobs: states by the clock, order, the Job service, logs, and a state folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl.contract import spec
from etl.errors import StateError
from etl.sandbox import Sandbox, SandboxSettings
from etl.sandbox.http import decode_json
from tests.integration.sandbox.conftest import Client, Clock

Make = Callable[..., Client]
STOCK = "Product/ImportOnhands"
FLAGS: dict[str, list[Any]] = {"SkuOnhandFieldsThatAreSet": ["OnhandValue"]}


def stock(part: str, value: int = 1) -> dict[str, Any]:
    return {"PartNo": part, "WarehouseCode": "W", "LocationCode": "L", "OnhandValue": value}


def submit(client: Client, *rows: dict[str, Any]) -> int:
    return int(decode_json(client.post(STOCK, client.header(STOCK, FLAGS), list(rows)).body)["JobId"])


def test_a_job_goes_through_its_states(make: Make, clock: Clock) -> None:
    """Queued, validating, initialized, succeeded; the catalogue changes at the end only."""
    client = make(queued_seconds=1, validating_seconds=1, running_seconds=1)
    job = submit(client, stock("1"))
    states = []
    for _ in range(4):
        states.append((client.job(job)["StatusId"], client.job(job)["IsFinished"], len(client.records(STOCK))))
        clock.now += 1
    assert states == [(6, False, 0), (5, False, 0), (1, False, 0), (2, True, 1)]


def test_a_job_is_shown_with_the_documented_fields(make: Make, clock: Clock) -> None:
    """Spelled as the contract spells them, with times that carry no zone."""
    client = make(queued_seconds=1, validating_seconds=1, running_seconds=1)
    job = submit(client, stock("1"))
    assert client.job(job)["Stop"] is None
    clock.now += 5
    shown = client.job(job)
    assert set(shown) == set(spec.load_contract().schemas["Job.JobDto"])
    assert (shown["Totals"], shown["Insert"], shown["Updates"], shown["Fail"]) == (1, 1, 0, 0)
    assert shown["Start"] == "2023-11-14T22:13:20.000"
    assert (shown["Stop"], shown["RunTime"]) == ("2023-11-14T22:13:23.000", "00:00:03.0000000")


def test_insert_and_updates_count_rows_of_all_tables(client: Client) -> None:
    """A record with a nested row is two."""
    row = {"PartNo": "1", "RelatedPartNo": "2", "RelationTypeCode": "r", "Cultures": [{"CultureCode": "sv-SE"}]}
    job = client.send("Product/ImportRelations", {"RelationFieldsThatAreSet": ["Cultures"]}, [row])
    assert (job["Totals"], job["Insert"]) == (1, 2)


def test_the_log_has_a_start_and_a_finish_row(client: Client) -> None:
    """In the fields of the contract."""
    client.send(STOCK, FLAGS, [stock("1")])
    rows = client.log(1)
    assert [set(row) for row in rows] == [set(spec.load_contract().schemas["Job.JobLogDto"])] * 2
    assert [row["SeverityId"] for row in rows] == [1, 1]


@pytest.mark.parametrize(("shown", "length"), [("null", None), ("cut", 60), ("full", 79)])
def test_the_imported_row_is_often_cut(make: Make, shown: str, length: int | None) -> None:
    """Nobody should read it as JSON."""
    client = make(imported_row=shown, validation="item")
    client.send(STOCK, FLAGS, [{**stock("1"), "OnhandValue": "many many"}])
    text = client.log(1)[1]["ImportedRow"]
    assert (text if text is None else len(text)) == length


def test_the_job_service_checks_the_id(client: Client) -> None:
    """Unknown ids get 404, anything else than a number 400."""
    assert client.call("GET", "Job/Get", id=99).status == 404
    assert client.call("GET", "Job/GetLog", id=99).status == 404
    assert client.call("GET", "Job/Get").status == 400
    assert client.call("GET", "Job/Get", id="x").status == 400


def test_the_list_shows_all_jobs_newest_first(client: Client) -> None:
    """With the same fields as Job/Get."""
    submit(client, stock("1"))
    submit(client, stock("2"))
    assert [job["JobId"] for job in decode_json(client.call("GET", "Job/List").body)] == [2, 1]


def test_a_restart_replays_the_old_payload(client: Client) -> None:
    """Over newer data, as a job of its own."""
    client.send(STOCK, FLAGS, [stock("1", 1)])
    client.send(STOCK, FLAGS, [stock("1", 2)])
    given = decode_json(client.call("POST", "Job/Restart", id=1).body)
    client.sandbox.finish_jobs()
    assert given["JobId"] == "3"
    assert client.records(STOCK)["1|W|L"]["OnhandValue"] == 1


def test_only_succeeded_and_failed_jobs_restart(client: Client, clock: Clock) -> None:
    """Not running ones, not those that failed validation, not old ones."""
    submit(client, stock("1"))
    assert client.call("POST", "Job/Restart", id=1).status == 400
    submit(client, {**stock("1"), "OnhandValue": "x"})
    client.sandbox.finish_jobs()
    assert client.call("POST", "Job/Restart", id=2).status == 400
    clock.now += 15 * 86400
    client.login()
    assert client.call("POST", "Job/Restart", id=1).status == 400


def test_jobs_may_overtake_each_other(make: Make, clock: Clock) -> None:
    """With a seed the last value sent is not always the last one applied; the same seed does the same."""

    def last(seed: int | None) -> int:
        client = make(shuffle_seed=seed)
        for value in range(1, 5):
            submit(client, stock("1", value))
        clock.now += 1
        return int(client.records(STOCK)["1|W|L"]["OnhandValue"])

    assert last(None) == 4
    found = [last(seed) for seed in range(8)]
    assert len(set(found)) > 1
    assert found == [last(seed) for seed in range(8)]


def test_the_state_folder_survives_a_restart(tmp_path: Path, make: Make, clock: Clock) -> None:
    """Catalogue, finished and unfinished jobs, tokens, hand edits and exact decimals."""
    first = make(state=tmp_path / "s")
    prices = {"SkuPriceListFieldsThatAreSet": ["PriceSale"]}
    first.send("Product/ImportSkuPriceLists", prices, [{"PartNo": "1", "PriceListCode": "A", "PriceSale": 19.9}])
    submit(first, stock("1"))
    second = make(state=tmp_path / "s")
    second.token = first.token
    assert second.records("Product/ImportSkuPriceLists") == first.records("Product/ImportSkuPriceLists")
    assert second.job(2)["IsFinished"] is False
    clock.now += 1
    assert second.job(2)["StatusId"] == 2
    assert list(second.records(STOCK)) == ["1|W|L"]
    assert submit(second, stock("2")) == 3
    second.sandbox.reset()
    assert make(state=tmp_path / "s").sandbox.jobs() == []


def test_a_state_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """With a hint."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot keep its state"):
        Sandbox(SandboxSettings(state=tmp_path / "file"))
