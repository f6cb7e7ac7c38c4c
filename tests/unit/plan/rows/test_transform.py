"""Rows become records: keys, repeats, conflicts and lists, on files of a few rows."""

from __future__ import annotations

from etl.mapping.layout_builder import build_layout
from etl.model.columns import KEY
from etl.plan.rows import transform, validate
from tests.support.builders import PRICES, days, mapping, run, table

PRODUCTS = """
feed: products
operation: Product/ImportProducts
source: {files: "*.csv", content: full}
record:
  Code: product
  Alias: alias
  Variants:
    rows: {ManufacturerPartNo: part, Skus: [{PartNo: part, Status: {value: Active}, Type: {value: ErpStandard}}]}
"""

LISTS = """
feed: lists
operation: Product/ImportPriceLists
source: {files: "*.csv", content: full}
record:
  Code: code
  Name: name
  Warehouses: {rows: {Code: warehouse, Locations: [{Code: {value: L}, Name: warehouse}]}}
"""

SPLIT = """
feed: customers
operation: Customer/ImportCustomers
source: {files: "*.csv", content: full}
record:
  Code: code
  Flags: {split: flags, by: "|", each: {Code: "{item}"}}
"""


def test_keys_that_differ_only_in_case_are_rejected() -> None:
    """Connect may take A and a for one record, so neither is sent."""
    outcome = run(mapping(PRICES), table("part,price,cost\nA,1,\na,2,\nB,3,"))
    assert outcome.codes == [(2, "key-case"), (3, "key-case")]
    assert [record["PartNo"] for record in outcome.records] == ["B"]


def test_equal_rows_whose_keys_differ_in_case_are_rejected_too() -> None:
    """The spelling is what differs; no row is called a repeat."""
    assert run(mapping(PRICES), table("part,price,cost\nA,1,\na,1,")).codes == [(2, "key-case"), (3, "key-case")]


def test_the_same_row_again_counts_once() -> None:
    """The first one is sent, each other one is named with all of its rows."""
    outcome = run(mapping(PRICES), table("part,price,cost\nA,1,\nB,3,\nA,1,\nA,1,"))
    assert outcome.codes == [(4, "repeated-row"), (5, "repeated-row")]
    assert [record["PartNo"] for record in outcome.records] == ["A", "B"]
    assert "2, 4, 5" in outcome.plan.rejections.frame["message"][0]


def test_a_key_with_two_values_is_rejected() -> None:
    """Nobody knows which of the rows counts."""
    outcome = run(mapping(PRICES), table("part,price,cost\nA,1,\nA,2,\nB,3,"))
    assert outcome.codes == [(2, "duplicate-key"), (3, "duplicate-key")]
    assert [record["PartNo"] for record in outcome.records] == ["B"]


def test_parts_of_a_split_cell_count_once() -> None:
    """Blanks around parts, empty parts and repeats are left out, in the order of the cell."""
    outcome = run(mapping(SPLIT), table("code,flags\nK,b| a ||b"))
    assert outcome.codes == []
    assert outcome.records[0]["Flags"] == [{"Code": "b"}, {"Code": "a"}]


def test_a_split_cell_without_parts_is_no_list() -> None:
    """Separators and blanks only: the record has no such list."""
    assert "Flags" not in run(mapping(SPLIT), table("code,flags\nK,|  |\nL,a")).records[0]


def test_variants_that_disagree_on_their_product_are_rejected() -> None:
    """Both rows are named with the field; the other product is sent."""
    outcome = run(mapping(PRODUCTS), table("product,alias,part\nP,x,A\nP,y,B\nQ,z,C"))
    assert outcome.codes == [(2, "record-conflict"), (3, "record-conflict")]
    assert "(2, 3) disagree on Alias" in outcome.plan.rejections.frame["message"][0]
    assert [record["Code"] for record in outcome.records] == ["Q"]


def test_an_empty_cell_does_not_disagree() -> None:
    """The value of the other row counts for both variants."""
    outcome = run(mapping(PRODUCTS), table("product,alias,part\nP,,A\nP,y,B"))
    assert outcome.codes == []
    assert {record["Alias"] for record in outcome.records} == {"y"}


def test_rows_of_one_record_that_disagree_are_rejected() -> None:
    """A price list cannot have two names."""
    outcome = run(mapping(LISTS), table("code,name,warehouse\nL,x,A\nL,y,B\nM,z,A"))
    assert outcome.codes == [(2, "record-conflict"), (3, "record-conflict")]
    assert [record["Code"] for record in outcome.records] == ["M"]


def test_a_list_in_another_order_is_the_same_list() -> None:
    """Rows of a record that change places change nothing."""
    head = "code,name,warehouse\n"
    first, second = days(mapping(LISTS), head + "L,x,A\nL,x,B", head + "L,x,B\nL,x,A")
    assert len(first.records) == 1
    assert second.records == []
    assert second.plan.counts.unchanged == 1


def test_a_key_field_that_the_mapping_lacks_has_its_default() -> None:
    """The key ends with the default of the contract, and a given value takes its place."""
    text = PRICES.replace("cost: {type: decimal}", "cost: {type: decimal}\n  quantity: {type: integer}")
    feed = mapping(text + "  QuantityBreak: quantity\n")
    outcome = run(feed, table("part,price,cost,quantity\nA,1,,\nA,2,,5"))
    assert outcome.codes == []
    assert [key.split("\x1f")[-1] for key in outcome.accepted[KEY]] == ["0", "5"]
    assert outcome.accepted["QuantityBreak"].to_list() == [0, 5]


def test_rejected_rows_whose_key_is_computed_are_in_the_file() -> None:
    """The record of a row with a bad price is not missing, although its key comes from an expression."""
    text = PRICES.replace("PartNo: part", 'PartNo: {sql: "upper(part)"}') + "gone: deactivate\nguards: {gone: off}\n"
    head = "part,price,cost\n"
    _, second = days(mapping(text), head + "a,1,\nb,2,\nc,3,", head + "a,1,\nb,many,")
    assert second.codes == [(3, "type")]
    assert [key.split("\x1f")[0] for key in second.plan.missing_records[KEY]] == ["C"]


def test_keys_of_rejected_rows_are_their_leading_key_values() -> None:
    """Rows without one say nothing about any record."""
    feed = mapping(PRICES)
    rows = table("part,price,cost\nA,1,\n,2,")
    columns = validate.resolve_columns(rows.columns, feed)
    typed = validate.validate_rows(rows.frame, columns, feed).frame
    keys = transform.keys_of_rejected_rows(typed, feed, build_layout(feed, columns.used))
    assert keys.to_list() == ["A"]
