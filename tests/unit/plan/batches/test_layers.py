"""Layers of a first load: each request of a record names it by the same key and has its lists whole."""

from __future__ import annotations

from itertools import product

from etl.plan.inputs import RequestLimits
from tests.support.builders import Outcome, complaints, mapping, nothing, run, table

FEW = RequestLimits(max_records=100, requests_per_minute=1)

PRICE_LISTS = """
feed: lists
operation: Product/ImportPriceLists
source: {files: '*.csv', content: full}
columns:
  cost: {type: decimal, optional: true}
  margin: {type: decimal, optional: true}
  maker: {optional: true}
  rival: {optional: true}
  parent: {optional: true}
record:
  Code: code
  Name: name
  Description: text
  TypeCode: kind
  ParentPriceListCode: parent
  PriceRules:
    - {Type: {value: CostPlus_PurchaseCost}, Value: cost, ManufacturerCode: maker}
    - {Type: {value: CostPlus_PurchaseCost}, Value: margin, ManufacturerCode: rival}
"""

COMPANIES = """
feed: companies
operation: Customer/ImportCompanies
source: {files: '*.csv', content: full}
record:
  ApplicationKey: {value: 6f9619ff-8b86-d011-b42d-00c04fc964ff}
  Code: code
  OrganizationNo: number
  Name: name
  EmailAddress: mail
  InvoiceAddress: {City: city}
"""


def first_load(text: str, always: dict[str, str], optional: dict[str, str]) -> Outcome:
    """The plan of a file with one row for each choice of the optional cells."""
    rows: list[dict[str, str | None]] = []
    for number, choice in enumerate(product((True, False), repeat=len(optional))):
        cells: dict[str, str | None] = {name: cell.format(number) for name, cell in always.items()}
        rows.append(
            cells
            | {
                name: cell.format(number) if on else None
                for on, (name, cell) in zip(choice, optional.items(), strict=True)
            }
        )
    return run(mapping(text), table(rows), nothing(), FEW)


def waves(outcome: Outcome) -> int:
    return len({sent.request.wave for sent in outcome.sent})


def test_elements_that_only_some_records_have_never_meet_their_like() -> None:
    """Two rules of one type, of which some price lists have one: no list is sent with two rules that are alike."""
    always = {"code": "L{}", "cost": "1", "margin": "2"}
    optional = {"name": "N{}", "text": "T{}", "kind": "K{}", "maker": "M{}", "rival": "R{}"}
    outcome = first_load(PRICE_LISTS, always, optional)
    assert complaints(outcome) == []
    assert waves(outcome) > 2
    rules = [
        (record["Code"], rule.get("ManufacturerCode"), rule["Value"])
        for record in outcome.records
        for rule in record.get("PriceRules", ())
    ]
    assert [code for _, code in outcome.codes] == ["twin-elements"] * 8  # where neither rule has a manufacturer
    assert len(rules) == len(set(rules)) == 24 * 2
    assert {("L0", "M0", 1), ("L0", "R0", 2), ("L1", None, 2)} <= set(rules)


def test_all_layers_of_a_record_name_it_by_one_key() -> None:
    """A company with a code is never named by its organisation number alone: Connect could make two of it."""
    optional = {"code": "C{}", "name": "N{}", "mail": "m{}@shop.example", "city": "Y{}"}
    outcome = first_load(COMPANIES, {"number": "5560-{}"}, optional)
    assert complaints(outcome) == []
    assert waves(outcome) > 2
    by_number = {record["OrganizationNo"] for record in outcome.records if "Code" not in record}
    assert by_number == {f"5560-{number}" for number in range(8, 16)}


def test_no_request_holds_nothing_but_keys() -> None:
    """Where records share nothing but their key, there is no request for what they share."""
    optional = {"name": "N{}", "text": "T{}", "kind": "K{}", "parent": "P{}"}
    outcome = first_load(PRICE_LISTS, {"code": "L{}"}, optional)
    assert waves(outcome) == len(optional)
    assert all(len(record) == 2 for record in outcome.records)
