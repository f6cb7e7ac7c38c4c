"""A change set into batches: which records share a header, in which wave, and how they are cut."""

from __future__ import annotations

from collections import Counter

import pytest

from etl.mapping.layout import Layout
from etl.mapping.layout_builder import build_layout as build
from etl.mapping.leaf_set import join_words
from etl.mapping.model import Mapping
from etl.model.columns import ITEM, KEY
from etl.plan.batches import batching, full_file
from etl.plan.batches.batch import Batch, delay_batch, halve_batch
from etl.plan.changes import diff
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import RequestLimits
from tests.support.builders import complaints, days, mapping, nothing, records, run, table

WIDE = RequestLimits(max_records=100, requests_per_minute=60)

PRICES = mapping(
    """
    feed: prices
    operation: Product/ImportSkuPriceLists
    source: {files: "*.csv", content: full}
    columns: {price: {type: decimal}, cost: {type: decimal}}
    record:
      PartNo: part
      PriceListCode: list
      CurrencyCode: {value: SEK}
      PriceSale: price
      CostPurchase: cost
    """
)
PRODUCTS = mapping(
    """
    feed: products
    operation: Product/ImportProducts
    source: {files: "*.csv", content: full}
    columns: {ean: {type: integer}}
    record:
      Code: code
      ManufacturerCode: {value: M}
      ManufacturerName: {value: M}
      Cultures:
        sv-SE: {Name: name}
      Variants:
        rows:
          ManufacturerPartNo: part
          SortOrderValue: ean
          Skus:
            - PartNo: part
              Status: {value: Active}
              Type: {value: ErpStandard}
    """
)


def changes(feed: Mapping, file: str, before: str | None = None) -> tuple[ChangeSet, Layout]:
    """What differs between two files."""
    made, layout = records(feed, table(file))
    known = nothing() if before is None else run(feed, table(before)).accepted
    return diff.compare(made, known, layout), layout


def split(
    feed: Mapping, file: str, before: str | None = None, limits: RequestLimits = WIDE
) -> tuple[list[Batch], list[tuple[int, str]]]:
    found, layout = changes(feed, file, before)
    batches, hopeless = batching.make_batches(found, layout, limits)
    return batches, list(batching.reject_inconsistent_lists(hopeless).frame.select("row", "code").iter_rows())


def names(batch: Batch, feed: Mapping, columns: tuple[str, ...]) -> set[str]:
    return {leaf.name for leaf in build(feed, columns).leaves_in(batch.bits)}


def keys(batch: Batch) -> list[str]:
    return [key.split("\x1f")[0] for key in batch.frame[KEY]]


def prices(count: int, price: str = "1", first: int = 1) -> str:
    return "".join(f"P{number:03},B2C,{price},\n" for number in range(first, first + count))


HEAD = "part,list,price,cost\n"


def test_nothing_changed_is_no_batch() -> None:
    """An empty change set makes no request and no rejection."""
    assert split(PRICES, HEAD + prices(3), HEAD + prices(3)) == ([], [])


def test_records_of_one_set_share_a_header_and_are_cut_by_size() -> None:
    """250 records of one set are three requests of at most a hundred, in the order of the file, in one wave."""
    batches, _ = split(PRICES, HEAD + prices(250))
    assert [batch.records for batch in batches] == [100, 100, 50]
    assert [batch.wave for batch in batches] == [0, 0, 0]
    assert [batch.change_set_count for batch in batches] == [1, 1, 1]
    assert [key for batch in batches for key in keys(batch)] == [f"P{number:03}" for number in range(1, 251)]
    assert not any(batch.full_file for batch in batches)


def test_a_request_that_is_full_to_the_last_record_is_one() -> None:
    """Exactly as many as fit are one request; one more is another."""
    assert [batch.records for batch in split(PRICES, HEAD + prices(100))[0]] == [100]
    assert [batch.records for batch in split(PRICES, HEAD + prices(101))[0]] == [100, 1]


def test_different_changes_have_headers_of_their_own() -> None:
    """Where minutes allow it, each set of changed fields is a request, the largest first, with nothing else in it."""
    before = HEAD + "A,B2C,1,1\nB,B2C,1,1\nC,B2C,1,1\n"
    batches, _ = split(PRICES, HEAD + "A,B2C,1,2\nB,B2C,2,1\nC,B2C,3,1\n", before)
    assert [keys(batch) for batch in batches] == [["B", "C"], ["A"]]
    columns = ("part", "list", "price", "cost")
    assert "CostPurchase" not in names(batches[0], PRICES, columns)
    assert "PriceSale" in names(batches[0], PRICES, columns)
    assert "PriceSale" not in names(batches[1], PRICES, columns)


def test_groups_are_merged_where_minutes_are_scarce() -> None:
    """With one request a minute both kinds of change travel under one header that all of them can give."""
    before = HEAD + "A,B2C,1,1\nB,B2C,1,1\nC,B2C,1,1\n"
    tight = RequestLimits(max_records=100, requests_per_minute=1)
    batches, _ = split(PRICES, HEAD + "A,B2C,1,2\nB,B2C,2,1\nC,B2C,3,1\n", before, tight)
    assert sorted(keys(batches[0])) == ["A", "B", "C"]
    assert (len(batches), batches[0].change_set_count, batches[0].records) == (1, 2, 3)
    assert {"PriceSale", "CostPurchase"} <= names(batches[0], PRICES, ("part", "list", "price", "cost"))


def test_new_records_and_known_ones_do_not_share_a_request() -> None:
    """What is new carries more than what has changed."""
    batches, _ = split(PRICES, HEAD + "A,B2C,2,\nB,B2C,2,\n", HEAD + "A,B2C,1,\n")
    assert sorted(keys(batch) for batch in batches) == [["A"], ["B"]]


SHOES = "code,name,part,ean\nC1,shoe,1,11\nC1,shoe,2,12\nC2,boot,3,13\n"


def test_variants_of_a_product_are_one_record() -> None:
    """Rows of one item stand together and count as one array element."""
    batches, _ = split(PRODUCTS, SHOES)
    assert [batch.records for batch in batches] == [2]
    assert batches[0].frame.height == 3
    cut, _ = split(PRODUCTS, SHOES, limits=RequestLimits(max_records=1, requests_per_minute=60))
    assert [(batch.records, batch.frame[ITEM].n_unique(), batch.frame.height) for batch in cut] == [
        (1, 1, 2),
        (1, 1, 1),
    ]


def test_variants_that_change_differently_go_together_where_all_can_serve_the_set() -> None:
    """A product's new name and the new place of one variant are one record under one header."""
    after = "code,name,part,ean\nC1,slipper,1,19\nC1,slipper,2,12\nC2,boot,3,13\n"
    (batch,), _ = split(PRODUCTS, after, SHOES)
    assert (batch.records, keys(batch), batch.change_set_count) == (1, ["1", "2"], 1)
    lit = names(batch, PRODUCTS, ("code", "name", "part", "ean"))
    assert {"Cultures[sv-SE].Name", "Variants[].SortOrderValue"} <= lit


def test_one_variant_that_changes_goes_alone() -> None:
    """The others of its product stay where they are."""
    after = "code,name,part,ean\nC1,shoe,1,19\nC1,shoe,2,12\nC2,boot,3,13\n"
    (batch,), _ = split(PRODUCTS, after, SHOES)
    assert (batch.records, keys(batch)) == (1, ["1"])
    assert "Cultures[sv-SE].Name" not in names(batch, PRODUCTS, ("code", "name", "part", "ean"))


def test_no_item_is_twice_in_a_wave() -> None:
    """A variant that is new and one that lost its place: whatever goes in two requests goes in two waves."""
    after = "code,name,part,ean\nC1,slipper,1,19\nC1,slipper,2,\nC1,slipper,9,17\nC2,boot,3,13\n"
    batches, _ = split(PRODUCTS, after, SHOES)
    went = Counter((batch.wave, item) for batch in batches for item in set(batch.frame[ITEM]))
    assert set(went.values()) == {1}
    assert sorted({batch.wave for batch in batches}) == list(range(max(batch.wave for batch in batches) + 1))
    assert {part for batch in batches for part in keys(batch)} >= {"1", "2", "9"}


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_halves_are_cut_between_items(count: int) -> None:
    """Two batches with half of the items each, together the whole, each item in one of them."""
    rows = "".join(f"C{number},n,{number}a,1\nC{number},n,{number}b,2\n" for number in range(count))
    ((batch,), _) = split(PRODUCTS, "code,name,part,ean\n" + rows)
    first, rest = halve_batch(batch)
    assert (first.records, rest.records) == (count // 2, count - count // 2)
    assert (first.frame[ITEM].n_unique(), rest.frame[ITEM].n_unique()) == (first.records, rest.records)
    assert [*first.frame[KEY], *rest.frame[KEY]] == batch.frame[KEY].to_list()
    assert first.frame.columns == batch.frame.columns == rest.frame.columns
    assert (first.bits, rest.wave) == (batch.bits, batch.wave)


def test_delayed_batches_come_so_many_waves_later() -> None:
    """Nothing else changes."""
    ((batch,), _) = split(PRICES, HEAD + prices(3))
    later = delay_batch(batch, 2)
    assert (later.wave, later.bits, later.records) == (batch.wave + 2, batch.bits, batch.records)


def test_words_are_one_set() -> None:
    """The second word's bits come after the 62 of the first."""
    assert join_words((5, 0)) == 5
    assert join_words((1, 2)) == 1 | 2 << 62
    assert join_words(()) == 0


def test_a_scope_travels_whole_and_scopes_share_a_request_while_there_is_room() -> None:
    """Three price lists of two records: two fit one request of five, the third goes alone; none is cut."""
    rows = "".join(f"P{number},{name},1,2\n" for name in ("L1", "L2", "L3") for number in (1, 2))
    found, layout = changes(PRICES, HEAD + rows)
    assert full_file.scope_columns(layout) == ["PriceListCode"]
    batches, rest = full_file.make_scope_batches(found, layout, RequestLimits(max_records=5, requests_per_minute=60))
    assert [(batch.records, batch.full_file, batch.wave, batch.change_set_count) for batch in batches] == [
        (4, True, 0, 1),
        (2, True, 0, 1),
    ]
    assert [batch.frame["PriceListCode"].unique().sort().to_list() for batch in batches] == [["L1", "L2"], ["L3"]]
    assert rest.frame.is_empty()


def test_a_scope_without_room_is_left_whole() -> None:
    """Whoever asked has to refuse it; it is never cut."""
    rows = "".join(f"P{number},L1,1,2\n" for number in range(7))
    found, layout = changes(PRICES, HEAD + rows)
    batches, _ = full_file.make_scope_batches(found, layout, RequestLimits(max_records=5, requests_per_minute=60))
    assert [batch.records for batch in batches] == [7]


def test_a_scopes_header_names_what_all_its_records_have() -> None:
    """What only some can give remains to be sent with ordinary requests."""
    found, layout = changes(PRICES, HEAD + "A,L1,1,2\nB,L1,1,\n")
    batches, rest = full_file.make_scope_batches(found, layout, WIDE)
    (batch,) = batches
    lit = {leaf.name for leaf in layout.leaves_in(batch.bits)}
    assert "PriceSale" in lit
    assert "CostPurchase" not in lit
    assert [key.split("\x1f")[0] for key in rest.frame[KEY]] == ["A"]
    left = {leaf.name for leaf in layout.leaves_in(join_words((rest.frame["_c0"][0],)))}
    assert "CostPurchase" in left
    assert "PriceSale" not in left
    assert rest.word_count == found.word_count


def test_scopes_of_nothing_are_nothing() -> None:
    """Without records there is no request, and the change set stays as it is."""
    found, layout = changes(PRICES, HEAD + "A,L1,1,2\n", HEAD + "A,L1,1,2\n")
    assert full_file.make_scope_batches(found, layout, WIDE) == ([], found)


def test_products_with_different_attributes_share_requests() -> None:
    """A header names the list and not its elements: sparse attributes take one request, and each product its own."""
    attributes = mapping(
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
    names = [f"attr_{number}" for number in range(7)]
    rows = [
        {"part": f"{row}", **{name: "x" if row + 1 & 1 << place else None for place, name in enumerate(names)}}
        for row in range(127)
    ]
    limits = RequestLimits(max_records=100, requests_per_minute=2)
    first, second = days(attributes, table(rows), table([{**row, "attr_0": "y"} for row in rows]), limits=limits)
    for outcome in (first, second):
        assert [(sent.request.wave, sent.request.records) for sent in outcome.sent] == [(0, 100), (0, 27)]
        assert complaints(outcome) == []
    given = [[element["ParametricCode"] for element in record["ProductParametrics"]] for record in first.records]
    assert given == [[str(place) for place in range(7) if row + 1 & 1 << place] for row in range(127)]
    assert all(record["ProductParametrics"] == [{"ParametricCode": "0", "ValueList": {"Code": "y"}}]
               for record in second.records)  # fmt: skip


FLAGS = mapping(
    """
    feed: relations
    operation: Product/ImportRelations
    source: {files: "*.csv", content: full}
    record:
      PartNo: p
      RelatedPartNo: r
      RelationTypeCode: t
      DefaultName: a
      DefaultSubHeader: b
    """
)


def test_layers_of_a_first_load_follow_one_another() -> None:
    """Many new records with gaps and few minutes: first what all have, then the rest, each record once in a wave."""
    rows = "".join(f"{n},{n}r,T,{'x' if n % 2 else ''},{'y' if n % 3 else ''}\n" for n in range(1, 61))
    batches, rejected = split(FLAGS, "p,r,t,a,b\n" + rows, limits=RequestLimits(max_records=30, requests_per_minute=2))
    went = Counter((batch.wave, key) for batch in batches for key in batch.frame[KEY])
    assert set(went.values()) == {1}
    assert {key for _, key in went} == {f"{n}\x1f{n}r\x1fT" for n in range(1, 61) if n % 2 or n % 3}
    assert rejected == []
    assert all(batch.records <= 30 for batch in batches)
