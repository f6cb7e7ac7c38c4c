"""Lists and objects that Connect takes as a whole, and what stands twice or unevenly in them."""

from __future__ import annotations

from typing import Any

import pytest

from etl.plan.inputs import RequestLimits
from tests.contract import coverage
from tests.contract.every import CONTRACT
from tests.support.builders import Outcome, days, mapping

COMPANY = """
feed: companies
operation: Customer/ImportCompanies
source: {files: "*.csv", content: full}
columns: {discount_*: decimal}
record:
  ApplicationKey: {value: 5f0c41d6-8d3c-4a51-9a55-0c2f6de01a77}
  Code: code
  OrganizationNo: code
  Name: code
"""
DISCOUNTS = """
  Discounts:
    columns: "discount_*"
    each: {Type: {value: ProductDiscountClass}, ValueCode: "{1}", DiscountPercentage: "{cell}"}
"""
ADDRESSES = """
  DeliveryAddresses:
    - {Code: {value: A}, City: city_a, ZipCode: zip_a}
    - {Code: {value: B}, City: city_b}
"""
RULES = """
feed: lists
operation: Product/ImportPriceLists
source: {files: "*.csv", content: full}
columns: {value: decimal}
record:
  Code: code
  PriceRules:
    rows: {Type: {value: CostPlus_PurchaseCost}, Value: value, ManufacturerCode: maker, CategoryCode: category}
"""
PRICES = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "*.csv", content: full}
columns: {price: decimal}
record:
  PartNo: part
  PriceListCode: {value: B2C}
  PriceSale: price
  PriceRule: rule
"""


def catalogue(outcomes: list[Outcome]) -> Any:
    """What the sandbox holds of the only record after all days, numbers as text."""
    (record,) = records(outcomes)
    return record


def records(outcomes: list[Outcome]) -> list[Any]:
    """What the sandbox holds after all days."""
    client = coverage.Client()
    operation = outcomes[0].plan.mapping.operation
    for outcome in outcomes:
        for sent in outcome.sent:
            assert client.send(CONTRACT.operations[operation.id], sent.request.header, sent.request.payload) == []
    return list(client.sandbox.records(operation.id).values())


def test_a_list_stays_whole_where_its_record_shares_a_request() -> None:
    """Of two records in one request the list of one changes; the other's has more in it, and is not cut short."""
    head = "code,name,discount_a,discount_b\n"
    feed = mapping((COMPANY + DISCOUNTS).replace("Name: code", "Name: name"))
    limits = RequestLimits(max_records=10, requests_per_minute=1)
    outcomes = days(feed, head + "F,x,1,2\nG,x,1,\n", head + "F,y,1,2\nG,x,5,\n", limits=limits)
    lists = {record["OrganizationNo"]: percentages(record) for record in records(outcomes)}
    assert lists == {"F": {"a": 1, "b": 2}, "G": {"a": 5}}


def test_a_variants_list_stays_whole_where_it_goes_with_the_others_of_its_product() -> None:
    """The same where two rows of one product are one record: each variant keeps all of its delivery methods."""
    feed = mapping(
        """
        feed: products
        operation: Product/ImportProducts
        source: {files: "*.csv", content: full}
        columns: {place: integer}
        record:
          Code: code
          ManufacturerCode: {value: M}
          Variants:
            rows:
              ManufacturerPartNo: part
              SortOrderValue: place
              DeliveryMethods: [{Code: one}, {Code: two}]
              Skus: [{PartNo: part, Status: {value: Active}, Type: {value: ErpStandard}}]
        """
    )
    head = "code,part,place,one,two\n"
    outcomes = days(feed, head + "C,1,1,a,\nC,2,1,a,b\n", head + "C,1,1,c,\nC,2,2,a,b\n")
    variants = [variant for product in records(outcomes) for variant in product["Variants"]]
    methods = {one["ManufacturerPartNo"]: [method["Code"] for method in one["DeliveryMethods"]] for one in variants}
    assert methods == {"1": ["c"], "2": ["a", "b"]}


def percentages(record: Any) -> dict[str, int]:
    return {row["ValueCode"]: int(row["DiscountPercentage"]) for row in record["Discounts"]}


def test_an_element_comes_and_goes_and_comes() -> None:
    """A, B, A ends as A: an emptied cell takes its element out of a list that is sent whole, and a filled one back."""
    head = "code,discount_a,discount_b\n"
    outcomes = days(mapping(COMPANY + DISCOUNTS), head + "F,1,2\n", head + "F,,2\n", head + "F,1,2\n")
    assert [len(outcome.sent) for outcome in outcomes] == [1, 1, 1]
    assert percentages(catalogue(outcomes[:2])) == {"b": 2}
    assert percentages(catalogue(outcomes)) == {"a": 1, "b": 2}


def test_nothing_given_leaves_the_list() -> None:
    """When all of its elements are empty, nothing is said about the list."""
    head = "code,discount_a,discount_b\n"
    _, second = days(mapping(COMPANY + DISCOUNTS), head + "F,1,2\n", head + "F,,\n")
    assert second.sent == []


def test_an_empty_cell_keeps_its_value_where_the_element_is_sent() -> None:
    """An address goes with the post code that Norce has, because the whole list replaces the old one."""
    head = "code,city_a,zip_a,city_b\n"
    outcomes = days(mapping(COMPANY + ADDRESSES), head + "F,Oslo,0150,Bergen\n", head + "F,Moss,,Bergen\n")
    assert catalogue(outcomes)["DeliveryAddresses"] == [
        {"Code": "A", "City": "Moss", "ZipCode": "0150"},
        {"Code": "B", "City": "Bergen"},
    ]


def test_rows_of_a_list_may_give_different_fields() -> None:
    """Only what has a flag of its own is asked of every row: one rule names a manufacturer, the other a category."""
    (outcome,) = days(mapping(RULES), "code,value,maker,category\nL,1,M,\nL,2,,C\n")
    assert outcome.codes == []
    assert sorted(map(sorted, outcome.records[0]["PriceRules"])) == [
        ["CategoryCode", "Type", "Value"],
        ["ManufacturerCode", "Type", "Value"],
    ]


def test_two_elements_that_nothing_tells_apart_are_refused() -> None:
    """Connect would keep one of two rules for the same manufacturer, and nobody knows which."""
    (outcome,) = days(mapping(RULES), "code,value,maker,category\nL,1,M,\nL,2,M,\nK,1,M,\n")
    assert outcome.codes == [(2, "twin-elements"), (3, "twin-elements")]
    assert [record["Code"] for record in outcome.records] == ["K"]


def test_a_text_is_once_in_a_list_of_texts() -> None:
    """Two columns that give a list the same text reject the row; an empty one of them does not."""
    feed = """
        feed: lists
        operation: Product/ImportPriceLists
        source: {files: "*.csv", content: full}
        record:
          Code: code
          Population:
            Type: {value: Include}
            AllCategories: {RuleType: {value: Manufacturers}, RuleCodes: [first, second]}
    """
    (outcome,) = days(mapping(feed), "code,first,second\nA,x,x\nB,x,y\nC,x,\n")
    assert outcome.codes == [(2, "twin-elements")]
    codes = [record["Population"]["AllCategories"]["RuleCodes"] for record in outcome.records]
    assert codes == [["x", "y"], ["x"]]


@pytest.mark.parametrize("rules", ["{rows: RULE}", "[RULE]"])
def test_without_its_optional_columns_there_is_no_element(rules: str) -> None:
    """A file without the columns of a list sends no element made of the mapping's constants alone."""
    feed = """
        feed: lists
        operation: Product/ImportPriceLists
        source: {files: "*.csv", content: full}
        columns: {value: {type: decimal, optional: true}, maker: {optional: true}}
        record:
          Code: code
          Name: name
          PriceRules: RULES
    """
    rule = "{Type: {value: CostPlus_PurchaseCost}, Value: value, ManufacturerCode: maker}"
    lists = mapping(feed.replace("RULES", rules.replace("RULE", rule)))
    without, present = days(lists, "code,name\nL,N\n", "code,name,value,maker\nL,N,1,M\n")
    assert without.records == [{"Code": "L", "Name": "N"}]
    assert [len(record["PriceRules"]) for record in present.records] == [1]


def test_a_column_that_tells_elements_apart_can_come_later() -> None:
    """A file of the first day lacks an optional column that identifies rules; that of the second has it."""
    feed = RULES.replace("value: decimal", "value: decimal, maker: {optional: true}")
    first, second = days(mapping(feed), "code,value,category\nL,1,C\n", "code,value,maker,category\nL,1,M,C\n")
    assert [rule["Value"] for record in first.records for rule in record["PriceRules"]] == [1]
    assert [rule["ManufacturerCode"] for record in second.records for rule in record["PriceRules"]] == ["M"]


def test_a_price_overrules_the_rule() -> None:
    """Connect ignores a rule beside a sale price: it is withheld, and sent when the price is gone."""
    head = "part,price,rule\n"
    outcomes = days(mapping(PRICES), head + "1,,CostPlus_PurchaseCost\n", head + "1,9,CostPlus_PurchaseCost\n",
                    head + "1,,CostPlus_PurchaseCost\n")  # fmt: skip
    assert [outcome.plan.suppressed for outcome in outcomes] == [0, 1, 0]
    assert [[sorted(record) for record in outcome.records] for outcome in outcomes] == [
        [["PartNo", "PriceListCode", "PriceRule"]],
        [["PartNo", "PriceListCode", "PriceSale"]],
        [["PartNo", "PriceListCode", "PriceRule"]],
    ]
