"""Bodies: JSON types, required fields, keys, and what a failing item does to a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from etl.contract import spec
from etl.sandbox import payload_validation
from etl.sandbox.http import decode_json, encode_json
from tests.integration.sandbox.conftest import Client

CONTRACT = spec.load_contract()
STOCK = "Product/ImportOnhands"
PRICES = "Product/ImportSkuPriceLists"
ROW: dict[str, Any] = {"PartNo": "1", "WarehouseCode": "W", "LocationCode": "L", "OnhandValue": 1}
PRICE: dict[str, Any] = {"PartNo": "1", "PriceListCode": "A"}


def problems(operation: str, *items: Any, full: bool = False) -> list[str]:
    found = payload_validation.validate_items(
        decode_json(encode_json(list(items))), CONTRACT, CONTRACT.operations[operation], full, 3
    )
    return [message for messages in found.values() for message in messages]


@pytest.mark.parametrize(
    ("operation", "item", "message"),
    [
        (STOCK, {**ROW, "Onhand": 1}, "Onhand: unknown field"),
        (STOCK, {**ROW, "OnhandValue": "1"}, "not a number"),
        (STOCK, {**ROW, "OnhandValue": True}, "not a number"),
        (STOCK, {**ROW, "OnhandValue": None}, "must not be null"),
        (STOCK, {**ROW, "OnhandValue": 1.23456}, "more than 4 decimals"),
        (STOCK, {**ROW, "LeadTimeDayCount": 1.5}, "not an integer"),
        (STOCK, {**ROW, "LeadTimeDayCount": 3_000_000_000}, "out of range"),
        (STOCK, {**ROW, "IsActive": 1}, "not a boolean"),
        (STOCK, {**ROW, "NextDeliveryDate": "24.12.2025"}, "ISO 8601"),
        (STOCK, {**ROW, "NextDeliveryDate": "2025-13-01"}, "not a date"),
        (STOCK, {**ROW, "PartNo": 1}, "not a string"),
        (STOCK, {**ROW, "PartNo": ""}, "must not be empty"),
        (STOCK, {**ROW, "LocationCode": None}, "LocationCode: required"),
        (STOCK, {**ROW, "Infos": {}}, "not an array"),
        (STOCK, {**ROW, "Infos": [1]}, "not an object"),
        (STOCK, {**ROW, "Infos": [{"Code": "a"}]}, "Infos[0].Value: required"),
        (STOCK, [], "not a JSON object"),
        (PRICES, {**PRICE, "PriceRule": "FixedPrice"}, "not an integer of"),
        (PRICES, {**PRICE, "PriceRule": 99}, "not an integer of"),
        (PRICES, {"PartNo": "1"}, "PriceListCode: required"),
        ("Product/ImportPriceLists", {"Code": "A", "Name": "x" * 51}, "longer than 50"),
        ("Product/ImportPriceLists", {"Code": "A", "Warehouses": [{"Code": "W"}]}, "Locations: required"),
        ("Customer/ImportCompanies", {"Code": "A", "ApplicationKey": "1"}, "not a GUID"),
        ("Customer/ImportCustomers", {"FirstName": "A"}, "no key"),
        ("Product/ImportProducts", {"Code": "A"}, "no key"),
        ("Product/ImportProducts", {"Variants": [{"Skus": [{"PartNo": "1"}, {"PartNo": "2"}]}]}, "only one SKU"),
        (
            "Product/ImportProducts",
            {"Variants": [{"Skus": [{"PartNo": "1"}]}, {"Skus": [{"PartNo": "2"}]}]},
            "Code: required with several variants",
        ),
    ],
)
def test_a_wrong_item_says_what_is_wrong(operation: str, item: Any, message: str) -> None:
    """Each kind of mistake is found and placed."""
    assert any(message in problem for problem in problems(operation, item))


@pytest.mark.parametrize(
    "when", ["2025-01-02", "2025-01-02T03:04:05", "2025-01-02T03:04:05.1234567Z", "2025-01-02T03:04+01:00"]
)
def test_iso_dates_are_taken(when: str) -> None:
    """With and without time, fraction and offset."""
    assert problems(STOCK, {**ROW, "NextDeliveryDate": when}) == []


def test_sales_area_is_a_name_in_competitor_rows() -> None:
    """There the contract says name, elsewhere integer."""
    row = {
        "PartNo": "1", "Source": "s", "CompetitorCode": "c", "CompetitorPartNo": "p", "PriceSale": 1,
        "PriceSaleInclFreight": 1, "IsPricesInclVat": True, "IsInStock": True, "SalesArea": "Sweden",
    }  # fmt: skip
    assert problems("Product/ImportCompetitorSkus", row) == []
    assert problems("Product/ImportCompetitorSkus", {**row, "SalesArea": 1})
    del row["IsInStock"]
    assert problems("Product/ImportCompetitorSkus", row) == ["IsInStock: required"]


def test_the_manufacturers_number_may_stand_in_for_the_part_number() -> None:
    """On updates of products."""
    item = {"ManufacturerCode": "M", "Variants": [{"ManufacturerPartNo": "9"}]}
    assert problems("Product/ImportProducts", item) == []


def test_full_file_of_products_needs_the_code() -> None:
    """Without Code the cluster to clean is unknown."""
    item = {"Variants": [{"Skus": [{"PartNo": "1"}]}]}
    assert problems("Product/ImportProducts", item, full=True) == ["Code: required with FullFile"]


@pytest.mark.parametrize(
    ("operation", "item"),
    [
        (STOCK, ROW),
        (PRICES, PRICE),
        ("Supplier/ImportProducts", {"SupplierPartNo": "1"}),
        ("Customer/ImportCustomers", {"Code": "1"}),
        ("Product/ImportProducts", {"Variants": [{"Skus": [{"PartNo": "1"}]}]}),
    ],
)
def test_a_key_may_come_once(operation: str, item: dict[str, Any]) -> None:
    """The second row of a key fails."""
    assert len(problems(operation, item, item)) == 1


def test_the_quantity_break_is_part_of_the_key_and_defaults_to_zero() -> None:
    """None and 0 are the same row, 10 is another."""
    assert problems(PRICES, PRICE, {**PRICE, "QuantityBreak": 10}) == []
    assert len(problems(PRICES, PRICE, {**PRICE, "QuantityBreak": 0})) == 1


@pytest.mark.parametrize("body", [b"", b"[{]", b"{}", b'"x"', b"[NaN]", b'{"PartNo":"1"}\n{"PartNo":"2"}'])
def test_a_body_that_is_no_json_array_is_refused(client: Client, body: bytes) -> None:
    """Also bare objects one after the other."""
    header = encode_json(client.header(STOCK, {})).decode()
    assert client.call("POST", STOCK, body, {"x-stormconnect-header": header}).status == 400


def test_other_content_is_refused(client: Client) -> None:
    """XML and compressed bodies are not spoken here."""
    header = {"x-stormconnect-header": encode_json(client.header(STOCK, {})).decode()}
    assert client.call("POST", STOCK, b"[]", {**header, "content-type": "application/xml"}).status == 400
    assert client.call("POST", STOCK, b"[]", {**header, "content-encoding": "gzip"}).status == 400


def test_an_empty_full_file_is_refused(client: Client) -> None:
    """Nobody knows what it would do."""
    assert client.post(STOCK, client.header(STOCK, {}, full=True), []).status == 400
    assert client.post(STOCK, client.header(STOCK, {}), []).status == 200


def test_too_much_is_refused(make: Callable[..., Client]) -> None:
    """By items and by bytes."""
    rows = [{**ROW, "PartNo": str(number)} for number in range(3)]
    for limits in ({"max_items": 2}, {"max_bytes": 150}):
        client = make(**limits)
        assert client.post(STOCK, client.header(STOCK, {}), rows).status == 413
        assert client.post(STOCK, client.header(STOCK, {}), rows[:1]).status == 200


def test_one_bad_item_rejects_the_request(client: Client) -> None:
    """The answer is 200 with a summary, the job ends with status 4, nothing is imported."""
    flags = {"SkuOnhandFieldsThatAreSet": [3]}
    answer = client.post(STOCK, client.header(STOCK, flags), [ROW, {**ROW, "PartNo": "2", "OnhandValue": "x"}])
    given = decode_json(answer.body)
    assert answer.status == 200
    assert given["ValidationSummary"]["NrOfItemsInTotal"] == 2
    assert given["ValidationSummary"]["NrOfValidationFailures"] == 1
    assert given["ValidationSummary"]["Messages"] == ["Item 1: OnhandValue: not a number"]
    client.sandbox.finish_jobs()
    job = client.job(given["JobId"])
    assert (job["StatusId"], job["IsFinished"], job["Fail"]) == (4, True, 1)
    assert client.records(STOCK) == {}


def test_one_bad_item_may_reject_only_itself(make: Callable[..., Client]) -> None:
    """The other reading: the good ones go in, the bad one is in the log."""
    client = make(validation="item")
    rows = [ROW, {**ROW, "PartNo": "2", "OnhandValue": "x"}]
    job = client.send(STOCK, {"SkuOnhandFieldsThatAreSet": [3]}, rows)
    assert (job["StatusId"], job["Fail"], job["Totals"]) == (2, 1, 2)
    assert list(client.records(STOCK)) == ["1|W|L"]
    assert [row["SeverityId"] for row in client.log(1)] == [1, 3, 1]
