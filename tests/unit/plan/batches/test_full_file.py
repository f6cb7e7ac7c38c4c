"""FullFile scopes, how many requests sharing saves, and what each way of packing comes to."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from etl.mapping.layout import Layout
from etl.mapping.leaf_set import join_words, own_set_columns
from etl.mapping.model import Mapping
from etl.model.columns import KEY, ROW
from etl.plan.batches import batching, full_file
from etl.plan.batches.batch import CHANGED_COUNT, VALUE_COUNT, Batch, delay_batch
from etl.plan.changes import diff
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import RequestLimits
from tests.support.builders import mapping, nothing, records, run, table

WIDE = RequestLimits(max_records=100, requests_per_minute=60)
TEXTS = mapping(
    """
    feed: relations
    operation: Product/ImportRelations
    source: {files: "*.csv", content: full}
    record:
      PartNo: p
      RelatedPartNo: {value: R}
      RelationTypeCode: {value: T}
      DefaultName: a
      DefaultSubHeader: b
      Cultures: {sv-SE: {Name: c, Description: d}, en-GB: {Name: e, Description: f}}
    """
)
PRICES = mapping(
    """
    feed: prices
    operation: Product/ImportSkuPriceLists
    source: {files: "*.csv", content: full}
    columns: {price: {type: decimal}, cost: {type: decimal}, on: {type: boolean}}
    record:
      PartNo: part
      PriceListCode: list
      PriceSale: price
      CostPurchase: cost
      IsActive: on
    """
)
ATTRIBUTES = mapping(
    """
    feed: attributes
    operation: Product/ImportProducts
    source: {files: "*.csv", content: full}
    record:
      ProductParametrics: {columns: "attr_*", each: {ParametricCode: "{1}", ValueList: {Code: "{cell}"}}}
      Variants:
        rows: {Skus: [{PartNo: part}]}
    """
)
LIST = mapping(
    """
    feed: lists
    operation: Product/ImportPriceLists
    source: {files: "*.csv", content: full}
    record:
      Code: k
      Warehouses:
        - {Code: {value: A}, Name: a, Locations: [{Code: {value: A}, Name: x}]}
        - {Code: {value: B}, Name: b, Locations: [{Code: {value: B}, Name: y}]}
    """
)


def changes(feed: Mapping, file: str, before: str | None = None, **more: Any) -> tuple[ChangeSet, Layout]:
    """What differs between two files."""
    made, layout = records(feed, table(file))
    known = nothing() if before is None else run(feed, table(before)).accepted
    return diff.compare(made, known, layout, **more), layout


def split(feed: Mapping, file: str, before: str | None = None, limits: RequestLimits = WIDE) -> list[Batch]:
    found, layout = changes(feed, file, before)
    return batching.make_batches(found, layout, limits)[0]


def lit(batch: Batch, layout: Layout) -> set[str]:
    return {leaf.name for leaf in layout.leaves_in(batch.bits)}


def own(batches: list[Batch]) -> list[int]:
    """Of every record the set of leaves that it is sent with."""
    frames = (batch.frame.select(own_set_columns(batch.frame)) for batch in batches)
    return [join_words(row) for frame in frames for row in frame.iter_rows()]


HEAD = "part,list,price,cost,on\n"


def rows(count: int, name: str, price: int = 1, on: str = "true") -> str:
    return "".join(f"{name}{number},{name},{price},2,{on}\n" for number in range(count))


def test_a_scope_says_what_changed_and_that_its_records_are_active() -> None:
    """The cost is as it was and stays out; the switch is named all the same, for what it says of every record."""
    found, layout = changes(PRICES, HEAD + rows(3, "L", 9), HEAD + rows(3, "L"))
    (batch,), rest = full_file.make_scope_batches(found, layout, WIDE)
    assert lit(batch, layout) == {"PartNo", "PriceListCode", "PriceSale", "IsActive"}
    assert rest.frame.is_empty()


def test_a_scope_of_records_without_the_switch_does_not_name_it() -> None:
    """One empty cell is enough."""
    file = HEAD + rows(2, "L", 9) + "X,L,9,2,\n"
    found, layout = changes(PRICES, file, HEAD + rows(2, "L") + "X,L,1,2,\n")
    (batch,), _ = full_file.make_scope_batches(found, layout, WIDE)
    assert lit(batch, layout) == {"PartNo", "PriceListCode", "PriceSale"}


@pytest.mark.parametrize(
    ("counts", "batches"), [((2, 3), [5]), ((2, 3, 1), [5, 1]), ((4, 2, 3), [4, 5]), ((6, 1), [6, 1])]
)
def test_scopes_share_a_request_to_the_last_place(counts: tuple[int, ...], batches: list[int]) -> None:
    """Five fit; a scope that does not fit beside the others begins a request of its own, and is never cut."""
    file = HEAD + "".join(rows(count, f"L{number}") for number, count in enumerate(counts))
    found, layout = changes(PRICES, file)
    made, _ = full_file.make_scope_batches(found, layout, RequestLimits(max_records=5, requests_per_minute=60))
    assert [batch.records for batch in made] == batches


def test_a_scope_whose_texts_contradict_each_other_goes_by_its_keys() -> None:
    """No header names a name in one language and a description in the other: they follow with ordinary requests."""
    file = "p,a,b,c,d,e,f\n1,,,x,,,y\n2,,,x,,,y\n"
    found, layout = changes(TEXTS, file)
    assert full_file.scope_columns(layout) == []
    (batch,), rest = full_file.make_scope_batches(found, layout, WIDE)
    assert lit(batch, layout) == {"PartNo", "RelatedPartNo", "RelationTypeCode"}
    left = [{leaf.name for leaf in layout.leaves_in(join_words((bits,)))} for bits in rest.frame["_c0"]]
    assert left == [{"Cultures[sv-SE].Name", "Cultures[en-GB].Description"}] * 2


def test_a_scope_of_many_fields_leaves_nothing_of_them_behind() -> None:
    """More fields than one word holds: what went is taken out of what is left in every word."""
    names = [f"c{number:02}" for number in range(40)]
    feed = mapping(
        "feed: wide\noperation: Product/ImportRelations\nsource: {files: '*.csv', content: full}\nrecord:\n"
        "  PartNo: p\n  RelatedPartNo: r\n  RelationTypeCode: t\n  Cultures:\n"
        + "".join(f"    {name}: {{Name: {name}}}\n" for name in names)
    )
    head = ",".join(["p", "r", "t", *names]) + "\n"
    full, gap = ["1", "r", "t", *names], ["2", "r", "t", *names[:-1], ""]
    found, layout = changes(feed, head + ",".join(full) + "\n" + ",".join(gap) + "\n")
    (batch,), rest = full_file.make_scope_batches(found, layout, WIDE)
    assert {f"Cultures[{name}].Name" for name in names[:-1]} <= lit(batch, layout)
    (row,) = rest.frame.iter_rows(named=True)
    assert row[KEY].startswith("1")
    left = {leaf.name for leaf in layout.leaves_in(join_words((row["_c0"], row["_c1"])))}
    assert left == {"Cultures[c39].Name"}


def test_elements_with_and_without_a_field_are_rejected_by_name() -> None:
    """One flag speaks for both warehouses, and the list goes as a whole: no header can carry such a record."""
    found, layout = changes(LIST, "k,a,b,x,y\nL1,n,,x,y\nL2,n,m,x,y\n")
    (batch,), hopeless = batching.make_batches(found, layout, WIDE)
    rejections = batching.reject_inconsistent_lists(hopeless)
    assert batch.frame["Code"].to_list() == ["L2"]
    assert rejections.frame.to_dicts() == [
        {
            "row": 2,
            "column": "",
            "code": "uneven-list",
            "value": "L1",
            "message": "a list that Connect replaces as a whole has elements with and without a value",
            "hint": "fill the cells, or give the field a `default` or `empty: clear`",
        }
    ]


def test_rows_of_such_records_are_named_by_the_parts_of_their_keys() -> None:
    """All rows of them and no others, in their order; a pending record from before has no row."""
    hopeless = pl.DataFrame({KEY: ["A\x1fB\x1fC", "owed"], ROW: [3, None]})
    lines = pl.DataFrame({KEY: ["X", "A\x1fB\x1fC", "X", "A\x1fB\x1fC"], ROW: [2, 3, 4, 5]})
    named = [(3, "A / B / C"), (5, "A / B / C"), (None, "owed")]
    assert batching.reject_inconsistent_lists(hopeless, lines).frame.select("row", "value").rows() == named
    assert batching.reject_inconsistent_lists(hopeless).frame.select("row", "value").rows() == [named[0], named[2]]


def texts(*changed: str) -> str:
    """Nine records with three texts, each with one of them in capitals if any are to change."""
    cells = [{name: name for name in "abce"} for _ in range(9)]
    for place, its in enumerate(cells):
        its.update({name: name.upper() for name in changed[place % 3 : place % 3 + 1]})
    lines = (",".join([f"{place}", *(its.get(name, "") for name in "abcdef")]) for place, its in enumerate(cells))
    return "\n".join(["p,a,b,c,d,e,f", *lines])


@pytest.mark.parametrize(
    ("limits", "merged", "values", "changed"),
    [
        (RequestLimits(10, 3), [1, 1, 1], [3, 3, 3], [3, 3, 3]),
        (RequestLimits(10, 2), [2, 1], [12, 3], [6, 3]),
        (RequestLimits(10, 1), [3], [27], [9]),
        (RequestLimits(10, 60, "strict"), [3], [27], [9]),
        (RequestLimits(9, 60, "strict"), [3], [27], [9]),
        (RequestLimits(8, 60, "strict"), [2, 1], [12, 3], [6, 3]),
    ],
)
def test_values_are_sent_again_only_to_save_a_minute_or_a_request(
    limits: RequestLimits, merged: list[int], values: list[int], changed: list[int]
) -> None:
    """Three kinds of changes of three records each: apart while the minute has room, together where it has none."""
    batches = split(TEXTS, texts("a", "b", "e"), texts(), limits)
    assert [batch.change_set_count for batch in batches] == merged
    assert [batch.frame[VALUE_COUNT].sum() for batch in batches] == values
    assert [batch.frame[CHANGED_COUNT].sum() for batch in batches] == changed
    assert batching.unmerged_request_count(batches, limits.max_records) == 3


def attributes(count: int, changed: bool = False) -> str:
    cells = (["y" if changed and at == place else "x" for at in range(5)] for place in range(count))
    head = ",".join(["part", *(f"attr_{number}" for number in range(5))])
    return head + "\n" + "".join(f"P{place},{','.join(its)}\n" for place, its in enumerate(cells))


@pytest.mark.parametrize(("size", "requests"), [(5, 1), (4, 2)])
def test_what_one_header_carries_is_counted_together(size: int, requests: int) -> None:
    """Five products, each with another attribute changed, are one request of five, and nothing is sent again for it."""
    found, layout = changes(ATTRIBUTES, attributes(5, changed=True), attributes(5))
    batches, _ = batching.make_batches(found, layout, RequestLimits(size, requests))
    assert [batch.records for batch in batches] == [size, 5 - size][:requests]
    assert [batch.change_set_count for batch in batches] == [5] * requests
    sets = [
        [leaf.name for leaf in layout.leaves_in(bits) if leaf.name.endswith("ParametricCode")] for bits in own(batches)
    ]
    assert sets == [[f"ProductParametrics[attr_{place}].ParametricCode"] for place in range(5)]


def test_apart_counts_each_kind_of_change_by_itself() -> None:
    """New and known, each wave, each set; ten records of a kind fill two requests of five; a scope is one request."""
    new = split(PRICES, HEAD + rows(10, "L"))
    assert batching.unmerged_request_count(new, 10) == 1
    assert batching.unmerged_request_count(new, 5) == 2
    assert batching.unmerged_request_count(new, 4) == 3
    mixed = split(PRICES, HEAD + rows(4, "L", 9) + "X,L,9,,\n", HEAD + rows(4, "L"), RequestLimits(10, 1))
    assert batching.unmerged_request_count(mixed, 10) == 2
    assert batching.unmerged_request_count([*new, *(delay_batch(batch, 1) for batch in new)], 10) == 2
    found, layout = changes(PRICES, HEAD + rows(3, "L") + rows(3, "M"))
    scopes, _ = full_file.make_scope_batches(found, layout, RequestLimits(max_records=3, requests_per_minute=60))
    assert len(scopes) == 2
    assert batching.unmerged_request_count([*scopes, *new], 10) == 3
    assert batching.unmerged_request_count([], 10) == 0
