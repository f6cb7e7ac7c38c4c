"""Records against *accepted*: exactly which are new, changed, unchanged or gone, and in which leaves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from etl.mapping.layout import Layout
from etl.mapping.leaf_set import WORD_BITS
from etl.mapping.model import Mapping
from etl.model import columns
from etl.model.columns import ITEM, KEY, ROW
from etl.plan.changes import absence, diff
from etl.plan.changes.diff import ChangeSet
from tests.support.builders import from_json, mapping, nothing, records, table

STOCK = mapping(
    """
    feed: stock
    operation: Product/ImportOnhands
    source: {files: "*.csv", content: full}
    columns: {quantity: {type: decimal}, days: {type: integer}}
    record:
      PartNo: part
      WarehouseCode: {value: W1}
      LocationCode: {value: L1}
      OnhandValue: quantity
      LeadTimeDayCount: {column: days, empty: clear}
    gone: deactivate
    """
)
PRICES = mapping(
    """
    feed: prices
    operation: Product/ImportSkuPriceLists
    source: {files: "*.csv", content: full}
    columns: {price: {type: decimal}, on: {type: boolean}}
    record:
      PartNo: part
      PriceListCode: {value: B2C}
      CurrencyCode: {value: SEK}
      PriceSale: price
      IsActive: on
    """
)


def compare(
    feed: Mapping, file: str, *known: dict[str, Any], deactivate: bool = False, **more: Any
) -> tuple[ChangeSet, Layout]:
    """A file against accepted rows, `_key` and leaf to value each."""
    source = table(file)
    made, layout = records(feed, source)
    before = from_json(list(known), feed, source.columns) if known else nothing()
    missing = absence.find_missing(made, before) if deactivate else None
    return diff.compare(made, before, layout, missing_records=missing, **more), layout


def has(part: str, quantity: str | None, days: int | None = None, **more: Any) -> dict[str, Any]:
    """A stock record as it was accepted."""
    return {
        KEY: f"{part}\x1fW1\x1fL1", "PartNo": part, "WarehouseCode": "W1", "LocationCode": "L1",
        "OnhandValue": quantity, "LeadTimeDayCount": days, **more,
    }  # fmt: skip


def counts(changes: ChangeSet) -> tuple[int, int, int, int]:
    return changes.new, changes.changed, changes.unchanged, changes.deactivated


def bits(changes: ChangeSet, layout: Layout, kind: str) -> dict[str, set[str]]:
    """For each part the leaves to send (`c`), or those that could be sent (`v`)."""
    found = {}
    for row in changes.frame.iter_rows(named=True):
        words = [row[f"_{kind}{word}"] for word in range(changes.word_count)]
        lit = sum(word << number * WORD_BITS for number, word in enumerate(words))
        found[row[KEY].split("\x1f")[0]] = {leaf.name for leaf in layout.leaves_in(lit)}
    return found


def test_new_changed_unchanged_and_gone_are_told_apart() -> None:
    """Each record counts once; only what differs is lit, and what is known could be sent as well."""
    changes, layout = compare(
        STOCK,
        "part,quantity,days\nA,1,1\nB,2,2\nC,3,3\nD,4,4\n",
        has("A", "1", 1), has("B", "9", 2), has("C", "3", 9), has("G", "7", 7),
        deactivate=True,
    )  # fmt: skip
    assert counts(changes) == (1, 2, 1, 1)
    lit = bits(changes, layout, "c")
    assert lit["B"] == {"OnhandValue"}
    assert lit["C"] == {"LeadTimeDayCount"}
    assert {"OnhandValue", "LeadTimeDayCount"} <= lit["D"]
    assert lit["G"] == {"IsActive"}
    assert "A" not in lit
    able = bits(changes, layout, "v")
    assert {"PartNo", "OnhandValue", "LeadTimeDayCount"} <= able["B"]
    assert {"PartNo", "WarehouseCode", "LocationCode", "IsActive"} <= able["G"]
    assert "OnhandValue" not in able["G"]
    assert changes.word_count == 1


def test_records_keep_the_order_of_the_file_and_gone_ones_follow() -> None:
    """Changed records come as the file has them; what is gone comes behind, switched off and without a row."""
    changes, _ = compare(
        STOCK, "part,quantity,days\nC,1,1\nA,1,1\nB,1,1\n", has("Y", "1", 1), has("X", "1", 1), deactivate=True
    )
    frame = changes.frame
    assert [key[0] for key in frame[KEY]] == ["C", "A", "B", "Y", "X"]
    assert frame[columns.DEACTIVATED].to_list() == [False, False, False, True, True]
    assert frame[columns.NEW].to_list() == [True, True, True, False, False]
    assert frame[ROW].to_list() == [2, 3, 4, None, None]
    assert frame["IsActive"].to_list()[3:] == [False, False]
    assert frame["PartNo"].to_list() == ["C", "A", "B", "Y", "X"]
    assert frame[ITEM].to_list()[3:] == ["Y\x1fW1\x1fL1", "X\x1fW1\x1fL1"]


def test_what_is_gone_stays_gone_and_is_not_switched_off_twice() -> None:
    """A record that was switched off counts neither as gone again nor as unchanged."""
    changes, _ = compare(STOCK, "part,quantity,days\nA,1,1\n", has("A", "1", 1), has("G", "7", 7, _deactivated=True), deactivate=True)  # fmt: skip # noqa: E501
    assert counts(changes) == (0, 0, 1, 0)
    assert changes.frame.is_empty()


def test_nothing_is_switched_off_unless_asked_for() -> None:
    """Without `gone: deactivate` what the file lacks is let alone."""
    changes, _ = compare(STOCK, "part,quantity,days\nA,1,1\n", has("A", "1", 1), has("G", "7", 7))
    assert counts(changes) == (0, 0, 1, 0)


def test_what_comes_back_is_new_and_switched_on_in_so_many_words() -> None:
    """A record that was switched off counts as new, is sent whole, and carries IsActive true."""
    changes, layout = compare(
        STOCK, "part,quantity,days\nA,1,1\n", has("A", "1", 1, _deactivated=True), deactivate=True
    )
    assert counts(changes) == (1, 0, 0, 0)
    assert {"OnhandValue", "LeadTimeDayCount", "IsActive"} <= bits(changes, layout, "c")["A"]
    assert changes.frame["IsActive"].to_list() == [True]
    assert changes.frame[columns.DEACTIVATED].to_list() == [False]


def test_a_new_record_does_not_say_that_it_is_active() -> None:
    """Only one that was switched off has to be switched on."""
    changes, layout = compare(STOCK, "part,quantity,days\nA,1,1\n", deactivate=True)
    assert "IsActive" not in bits(changes, layout, "c")["A"]
    assert changes.frame["IsActive"].to_list() == [None]


def test_everything_sends_what_is_unchanged_too() -> None:
    """A full feed is a comparison in which everything counts as changed; new stays new."""
    changes, layout = compare(STOCK, "part,quantity,days\nA,1,1\nB,2,\n", has("A", "1", 1), send_all=True)
    assert counts(changes) == (1, 1, 0, 0)
    assert {"OnhandValue", "LeadTimeDayCount"} <= bits(changes, layout, "c")["A"]


def test_an_empty_cell_clears_only_where_the_mapping_says_so() -> None:
    """`empty: clear` sends the emptiness and counts it; elsewhere an empty cell says nothing."""
    changes, layout = compare(STOCK, "part,quantity,days\nA,,\nB,,2\n", has("A", "1", 1), has("B", "2", 2))
    assert counts(changes) == (0, 1, 1, 0)
    assert bits(changes, layout, "c") == {"A": {"LeadTimeDayCount"}}
    assert changes.cleared == 1


def test_only_what_is_emptied_counts_as_cleared() -> None:
    """A value that changes into another one is none of them, and nothing is withheld."""
    changes, _ = compare(STOCK, "part,quantity,days\nA,1,3\nB,2,\n", has("A", "1", 1), has("B", "2", 2))
    assert (changes.cleared, changes.suppressed) == (1, 0)


def test_a_field_that_the_mapping_gained_is_a_change_everywhere() -> None:
    """Accepted records that lack a column differ in it."""
    known = has("A", "1")
    del known["LeadTimeDayCount"]
    changes, layout = compare(STOCK, "part,quantity,days\nA,1,1\n", known)
    assert counts(changes) == (0, 1, 0, 0)
    assert bits(changes, layout, "c") == {"A": {"LeadTimeDayCount"}}


def test_a_price_must_not_wake_a_row_that_is_switched_off() -> None:
    """A sale price of a row with IsActive false is withheld and counted; once it is active, it goes."""
    changes, layout = compare(PRICES, "part,price,on\nA,5,false\nB,5,true\nC,5,\n")
    able = bits(changes, layout, "v")
    assert "PriceSale" not in able["A"]
    assert "PriceSale" in able["B"]
    assert "PriceSale" in able["C"]
    assert changes.suppressed == 1


def test_a_value_that_connect_ignores_is_withheld() -> None:
    """A sale price of nought says nothing to Connect, so it is not sent; the count says so."""
    changes, layout = compare(PRICES, "part,price,on\nA,0,true\nB,2,true\n")
    assert "PriceSale" not in bits(changes, layout, "v")["A"]
    assert "PriceSale" in bits(changes, layout, "v")["B"]
    assert changes.suppressed == 1


def test_rows_that_were_rejected_keep_their_records() -> None:
    """What a rejected row is about is in the file, if not in good shape: it is not gone."""
    source = table("part,quantity,days\nA,1,1\n")
    made, layout = records(STOCK, source)
    before = from_json([has("A", "1", 1), has("B", "2", 2), has("C", "3", 3)], STOCK, source.columns)
    left = absence.find_missing(made, before, layout, pl.Series(["B"]))
    assert left["PartNo"].to_list() == ["C"]
    assert absence.find_missing(made, before, layout)["PartNo"].to_list() == ["B", "C"]
    assert absence.find_missing(made, before)["PartNo"].to_list() == ["B", "C"]
    changes = diff.compare(
        made, before, layout, missing_records=absence.find_missing(made, before, layout, pl.Series(["B", None]))
    )
    assert changes.deactivated == 1


TEXTS = mapping(
    """
    feed: relations
    operation: Product/ImportRelations
    source: {files: "*.csv", content: full}
    record:
      PartNo: p
      RelatedPartNo: r
      RelationTypeCode: t
      Cultures:
        sv-SE: {Name: f, Description: j}
        en-GB: {Name: k, Description: o}
    """
)


def test_elements_of_a_list_change_one_by_one() -> None:
    """Only the language that differs is lit; a new record lights what it has, and an empty element nothing."""
    known = {
        KEY: "1\x1f2\x1fT", "PartNo": "1", "RelatedPartNo": "2", "RelationTypeCode": "T", "Cultures[sv-SE].Name": "ett",
        "Cultures[sv-SE].Description": "d", "Cultures[en-GB].Name": "one", "Cultures[en-GB].Description": "e",
    }  # fmt: skip
    changes, layout = compare(TEXTS, "p,r,t,f,j,k,o\n1,2,T,två,d,one,e\n3,4,T,,,x,\n", known)
    lit = bits(changes, layout, "c")
    assert lit["1"] == {"Cultures[sv-SE].Name"}
    assert "Cultures[en-GB].Name" in lit["3"]
    assert not any("sv-SE" in name for name in lit["3"])
    assert not any(name.endswith("Description") for name in lit["3"])


def test_leaves_beyond_one_word_are_lit_in_the_next() -> None:
    """More than 62 leaves take a second word, and each bit stays where it belongs."""
    wide = mapping(
        "feed: relations\noperation: Product/ImportRelations\nsource: {files: '*.csv', content: full}\nrecord:\n"
        "  PartNo: p\n  RelatedPartNo: r\n  RelationTypeCode: t\n  Cultures:\n"
        + "".join(f"    c{n:02}: {{Name: n{n:02}, Description: d{n:02}}}\n" for n in range(30))
    )
    names = [f"{kind}{n:02}" for n in range(30) for kind in "nd"]
    file = ",".join(["p", "r", "t", *names]) + "\n" + ",".join(["1", "2", "T", *names]) + "\n"
    changes, layout = compare(wide, file)
    assert changes.word_count == 2
    lit = bits(changes, layout, "c")["1"]
    assert {f"Cultures[c{n:02}].{name}" for n in range(30) for name in ("Name", "Description")} <= lit
    known = {KEY: "1\x1f2\x1fT", "PartNo": "1", "RelatedPartNo": "2", "RelationTypeCode": "T"}
    known |= {f"Cultures[c{n:02}].Name": f"n{n:02}" for n in range(30)}
    known |= {f"Cultures[c{n:02}].Description": "old" if n == 29 else f"d{n:02}" for n in range(30)}
    changes, layout = compare(wide, file, known)
    assert bits(changes, layout, "c")["1"] == {"Cultures[c29].Description"}


@pytest.mark.parametrize(("old", "new", "differs"), [("1.0", "1", False), ("1.1", "1", True), (None, "1", True)])
def test_numbers_are_compared_by_value(old: str | None, new: str, differs: bool) -> None:
    """1.0 is 1; what was never accepted differs from any number."""
    known = has("A", None if old is None else str(Decimal(old)), 1)
    changes, _ = compare(STOCK, f"part,quantity,days\nA,{new},1\n", known)
    assert changes.changed == differs


RULES = mapping(
    """
    feed: rules
    operation: Product/ImportSkuPriceLists
    source: {files: "*.csv", content: full}
    columns: {value: {type: decimal}, rule: {type: text, optional: true}}
    record:
      PartNo: part
      PriceListCode: {value: B2C}
      PriceRule: rule
      PriceRuleValue: value
    """
)


@pytest.mark.parametrize(
    ("file", "sent"),
    [
        ("part,rule,value\nA,CostPlus_PurchaseCost,5\n", {"PriceRule", "PriceRuleValue"}),
        ("part,rule,value\nA,CostPlus_PurchaseCost,\n", {"PriceRule"}),
        ("part,rule,value\nA,,5\n", set()),
        ("part,value\nA,5\n", set()),
    ],
    ids=["both", "rule", "value", "no column"],
)
def test_what_connect_reads_with_another_field_goes_with_it_alone(file: str, sent: set[str]) -> None:
    """A rule's value says nothing without a rule, whether the cell is empty or the file has no such column."""
    changes, layout = compare(RULES, file)
    assert bits(changes, layout, "c").get("A", set()) == sent


def test_what_norce_has_in_part_is_sent_wholly_and_can_be_gone() -> None:
    """No value of it is known, so all that are ours go, an emptied one too; it is neither new nor unchanged."""
    unsure = has("A", "5", 2, _deactivated=False, _partial=True)
    changes, layout = compare(STOCK, "part,quantity,days\nA,5,\nB,1,1\n", unsure, has("B", "1", 1, _deactivated=False))
    assert counts(changes) == (0, 1, 1, 0)
    assert bits(changes, layout, "c") == {"A": {"OnhandValue", "LeadTimeDayCount"}}
    changes, _ = compare(STOCK, "part,quantity,days\nB,1,1\n", unsure, deactivate=True)
    assert counts(changes) == (1, 0, 0, 1)
