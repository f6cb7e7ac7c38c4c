"""Guards: for each a run just under its limit and one just over it, and what they say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from etl.errors import InvalidMappingError
from etl.mapping import limits
from etl.plan.changes import guards, impact
from etl.plan.changes.previous_file import PreviousFile
from etl.plan.model import Plan
from etl.report import summary
from tests.support.builders import days, mapping, nothing, plan_file, run, table

STOCK = """
feed: stock
operation: Product/ImportOnhands
source: {files: "*.csv", content: full}
columns:
  qty: {type: decimal}
  on: {type: boolean, optional: true}
record:
  PartNo: part
  WarehouseCode: {value: W}
  LocationCode: {value: L}
  OnhandValue: qty
  IsActive: {column: on, default: true}
"""

PRICES = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "*.csv", content: full}
columns:
  price: {type: decimal}
  cost: {type: decimal}
record:
  PartNo: part
  PriceListCode: {value: B2C}
  PriceSale: price
  CostPurchase: cost
"""

COMPETITORS = """
feed: competitors
operation: Product/ImportCompetitorSkus
source: {files: "*.csv", content: full}
columns: {price: decimal}
record:
  PartNo: part
  Source: {value: S}
  CompetitorCode: {value: C}
  CompetitorPartNo: part
  PriceSale: price
  PriceSaleInclFreight: price
  IsPricesInclVat: {value: true}
  IsInStock: {value: true}
"""

SUPPLIER = """
feed: supplier
operation: Supplier/ImportProducts
supplier: 3
source: {files: "*.csv", content: full}
columns:
  dealer: {type: decimal}
  qty: {type: decimal}
record:
  SupplierPartNo: part
  PriceList:
    rows: {PriceListCode: list, PriceDealer: dealer, IsActive: {value: true}}
  OnHand:
    rows: {WarehouseCode: list, LocationCode: list, Value: qty, IsActive: {value: true}}
"""


@dataclass(frozen=True)
class Day:
    """A file of a hundred records, of which some are special."""

    usual: str
    special: str | None = None  #: None: the record is not in the file

    def rows(self, header: str, special: int) -> str:
        lines = [header]
        for number in range(100):
            cells = self.special if number < special else self.usual
            if cells is not None:
                lines.append(f"A{number:03},{cells}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Case:
    """What a guard looks at, and how many special records may pass."""

    guard: str
    text: str
    header: str
    before: Day
    after: Day
    passes: int
    full: bool = False


CASES = [
    Case("rejected", PRICES, "part,price,cost", Day("100,50"), Day("100,50", "many,50"), 20),
    Case("rejected", PRICES + "rejects: {limit: 3}", "part,price,cost", Day("100,50"), Day("100,50", "many,50"), 3),
    Case("gone", PRICES, "part,price,cost", Day("100,50"), Day("100,50", None), 20),
    Case("gone", PRICES + "guards: {gone: 5%}", "part,price,cost", Day("100,50"), Day("100,50", None), 5),
    Case("gone", PRICES + "guards: {gone: 7}", "part,price,cost", Day("100,50"), Day("100,50", None), 7),
    Case(
        "deactivated",
        PRICES + "gone: deactivate\nguards: {gone: off}",
        "part,price,cost",
        Day("100,50"),
        Day("100,50", None),
        20,
    ),
    Case("deactivated", STOCK, "part,qty,on", Day("5,true"), Day("5,true", "5,false"), 20),
    Case("full_file", STOCK, "part,qty,on", Day("5,true"), Day("5,true", None), 0, full=True),
    Case(
        "full_file",
        STOCK + "guards: {full_file: 12}",
        "part,qty,on",
        Day("5,true"),
        Day("5,true", None),
        12,
        full=True,
    ),
    Case("price_moves", PRICES, "part,price,cost", Day("100,50"), Day("114,50", "116,50"), 20),
    Case("price_moves", PRICES, "part,price,cost", Day("100,50"), Day("100,50", "84,50"), 20),
    Case(
        "price_moves",
        PRICES + "guards: {price_moves: {share: 3%, by: 5%}}",
        "part,price,cost",
        Day("100,50"),
        Day("104,50", "106,50"),
        3,
    ),
    Case("price_zero", COMPETITORS, "part,price", Day("100"), Day("100", "0"), 0),
    Case("price_zero", PRICES, "part,price,cost", Day("100,"), Day("100,", "-1,"), 0),
    Case("price_zero", COMPETITORS + "guards: {price_zero: 1%}", "part,price", Day("100"), Day("100", "0"), 1),
    Case("below_cost", PRICES, "part,price,cost", Day("100,90"), Day("100,90", "89,90"), 0),
    Case("below_cost", PRICES, "part,price,cost", Day("100,90"), Day("100,90", "100,101"), 0),
    Case("below_cost", PRICES, "part,price,cost", Day("100,90"), Day("100,90", ",101"), 0),
    Case("below_cost", PRICES + "guards: {below_cost: 2}", "part,price,cost", Day("100,90"), Day("100,90", "89,90"), 2),
    Case("stock_zero", STOCK, "part,qty,on", Day("5,true"), Day("4,true", "0,true"), 20),
    Case("stock_zero", STOCK + "guards: {stock_zero: 4%}", "part,qty,on", Day("5,true"), Day("5,true", "0,true"), 4),
]


def second_day(case: Case, special: int) -> Plan:
    """The plan of the second file, with so many special records."""
    feed = mapping(case.text)
    first = run(feed, table(case.before.rows(case.header, 0)))
    after = table(case.after.rows(case.header, special))
    return run(feed, after, first.accepted, full=case.full).plan


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.guard)
def test_under_and_over(case: Case) -> None:
    """Just under its limit a guard lets the run pass; one record more and it holds it, with examples, alone."""
    under, over = second_day(case, case.passes), second_day(case, case.passes + 1)
    assert [verdict.guard for verdict in under.guard_results if verdict.held] == []
    assert under.hold_reasons == ()
    (held,) = [verdict for verdict in over.guard_results if verdict.guard == case.guard]
    assert held.held
    assert held.count == case.passes + 1
    assert over.hold_reasons[0].count(str(held.count)) >= 1
    assert min(held.count, impact.MAX_EXAMPLES) <= len(held.examples) <= impact.MAX_EXAMPLES
    assert all(example.after is not None for example in held.examples)
    others = {verdict.guard for verdict in over.guard_results if verdict.held} - {case.guard}
    assert others <= {"gone", "deactivated"}


def test_every_guard_is_in_the_table() -> None:
    """Each guard that counts records or rows is shown just under and just over; `shrink` has its own test."""
    assert {case.guard for case in CASES} | {"shrink"} == set(guards.GUARD_NAMES)
    assert set(limits.GUARD_KEYS) < set(guards.GUARD_NAMES)


@pytest.mark.parametrize(("rows", "held"), [(80, False), (79, True)], ids=["just under", "just over"])
def test_shrink(rows: int, held: bool) -> None:
    """A file with a fifth fewer rows than the one before it passes; with one row less it is held."""
    feed = mapping(PRICES)
    file = table("part,price,cost\n" + "\n".join(f"A{number},1,1" for number in range(rows)))
    plan = plan_file(file, feed, nothing(), previous_file=PreviousFile("r1", 100))
    assert [verdict.held for verdict in plan.guard_results if verdict.guard == "shrink"] == [held]
    assert bool(plan.hold_reasons) is held


@pytest.mark.parametrize(
    ("guard", "cells", "passes", "example"),
    [
        ("price_moves", "116,5", 20, ("A000 / B", "100", "116", 16.0)),
        ("price_zero", "0,5", 0, ("A000 / B", "100", "0", -100.0)),
        ("stock_zero", "100,0", 20, ("A000 / B / B", "5", "0", -100.0)),
    ],
)
def test_elements_of_lists_count_for_guards_too(
    guard: str, cells: str, passes: int, example: tuple[str, str, str, float]
) -> None:
    """One price or stock of several in a list of rows counts, for its record; each is held against its own past."""
    feed = mapping(SUPPLIER)

    def file(special: int) -> str:
        rows = [f"A{number:03},{list_},{cells if number < special and list_ in 'BC' else '100,5'}"
                for number in range(100) for list_ in "ABC"]  # fmt: skip
        return "\n".join(["part,list,dealer,qty", *rows])

    first = run(feed, table(file(0)))
    assert first.plan.hold_reasons == ()
    for special in (passes, passes + 1):
        plan = run(feed, table(file(special)), first.accepted).plan
        verdict = next(verdict for verdict in plan.guard_results if verdict.guard == guard)
        assert (verdict.count, verdict.held) == (special, special > passes)
    one = verdict.examples[0]
    assert (one.key, one.before, one.after, one.percent) == example


def test_what_has_been_gone_before_is_not_counted_again() -> None:
    """Records that a feed with `gone: ignore` has lost do not hold every run after the one that was approved."""
    feed = mapping(PRICES)
    first = run(feed, table(Day("100,50").rows("part,price,cost", 0)))
    file = table(Day("100,50", None).rows("part,price,cost", 40))
    for before, held in (
        (None, True),
        (PreviousFile("r1", 60, gone=20), False),
        (PreviousFile("r1", 60, gone=19), True),
    ):
        plan = plan_file(file, feed, first.accepted, previous_file=before)
        assert [verdict.held for verdict in plan.guard_results if verdict.guard == "gone"] == [held]


@pytest.mark.parametrize(
    ("text", "header", "usual"),
    [(PRICES, "part,price,cost", "100,50"), (STOCK, "part,qty,on", "0,false"), (COMPETITORS, "part,price", "10")],
    ids=["prices", "stock", "competitors"],
)
def test_a_first_load_is_not_held_for_being_new(text: str, header: str, usual: str) -> None:
    """Everything is new: no guard holds it, not even stock of zero and records that come switched off."""
    (first,) = days(mapping(text), Day(usual).rows(header, 0))
    assert first.plan.counts.new == 100
    assert first.plan.hold_reasons == ()


def test_a_first_load_below_cost_is_held() -> None:
    """Selling below cost, or a price below nothing, is held on the first day too: it is no matter of shares."""
    (first,) = days(mapping(PRICES), "part,price,cost\nA,10,50\nB,100,50\nC,-3,")
    assert [verdict.guard for verdict in first.plan.guard_results if verdict.held] == ["price_zero", "below_cost"]


def test_what_was_below_cost_before_is_not_news() -> None:
    """A price that was approved below its cost does not hold every run after it."""
    feed = mapping(PRICES)
    first, second = days(feed, "part,price,cost\nA,10,50", "part,price,cost\nA,11,50")
    assert first.plan.hold_reasons != ()
    assert second.plan.hold_reasons == ()
    assert second.plan.counts.changed == 1


def test_a_full_feed_of_the_same_moves_nothing() -> None:
    """Sending everything again, changed or not, is no move of prices and no stock going to zero."""
    feed = mapping(PRICES)
    rows = Day("100,50").rows("part,price,cost", 0)
    first = run(feed, table(rows))
    full = run(feed, table(rows), first.accepted, full=True)
    assert full.plan.hold_reasons == ()
    assert list(summary.lines(impact.impact_to_json(full.plan.impact))) == []


def test_examples_are_the_largest_with_before_and_after() -> None:
    """Ten examples of the largest moves, largest first, with the values before and after."""
    feed = mapping(PRICES)
    first = "part,price,cost\n" + "\n".join(f"A{number:02},100," for number in range(40))
    second = "part,price,cost\n" + "\n".join(f"A{number:02},{100 + number * 2}," for number in range(40))
    plan = days(feed, first, second)[1].plan
    (verdict,) = [verdict for verdict in plan.guard_results if verdict.guard == "price_moves"]
    assert [(one.key, one.before, one.after, one.percent) for one in verdict.examples[:2]] == [
        ("A39 / B2C", "100", "178", 78.0),
        ("A38 / B2C", "100", "176", 76.0),
    ]
    assert len(verdict.examples) == 10


@pytest.mark.parametrize(
    ("guards_text", "place", "hint"),
    [
        ("{gon: 5%}", ":14:10", 'did you mean "gone"?'),
        ("{gone: some}", ":14:10", "gone: 5%"),
        ("{price_moves: {share: 5%, by: much}}", ":14:35", "by: 30%"),
        ("{price_moves: {shar: 5%}}", ":14:24", 'did you mean "share"?'),
        ("gone", ":14:1", "guards: {"),
    ],
)
def test_mistakes_have_their_place(guards_text: str, place: str, hint: str) -> None:
    """What is no guard or no limit is refused with line and column, and a way out."""
    with pytest.raises(InvalidMappingError) as caught:
        mapping(PRICES.rstrip() + f"\ngone: ignore\nguards: {guards_text}\n")
    assert place in str(caught.value)
    assert hint in str(caught.value)


def test_the_summary_in_words() -> None:
    """Prices up and down with their middle, stock to zero and back, records new and gone, texts changed."""
    feed = mapping(PRICES)
    before = "part,price,cost\nA,100,\nB,100,\nC,100,\nD,100,10"
    after = "part,price,cost\nA,110,\nB,90,\nC,80,\nE,5,"
    found = impact.impact_to_json(days(feed, before, after)[1].plan.impact)
    assert list(summary.lines(found)) == [
        "prices  PriceSale: 1 up (+10 % in the middle), 2 down (−15 % in the middle)",
        "records 1 new, 1 no longer in the file",
    ]
    stock = mapping(STOCK)
    days_of_stock = days(
        stock, "part,qty,on\nA,5,true\nB,0,true\nC,1,true", "part,qty,on\nA,0,true\nB,3,true\nC,2,false"
    )
    lines = list(summary.lines(impact.impact_to_json(days_of_stock[1].plan.impact)))
    assert lines[0] == "stock   1 to zero, 1 back in stock, 1 up, 1 down"
    assert lines[1] == "records 1 deactivated"


def test_signs_that_terminals_act_on_are_not_shown() -> None:
    """A cell cannot steer the terminal."""
    (row,) = summary.example_rows(
        [{"key": "A\x1b[2J", "field": "Cultures[sv-SE].Name", "before": None, "after": "x\ny", "percent": None}]
    )
    assert row == ("A�[2J", "Cultures[sv-SE].Name", "–", "x⏎y", "")


def test_missing_records_that_will_be_deactivated_are_counted_each_time() -> None:
    """With `gone: deactivate` nothing stays missing unnoticed: what the file before lacked is no excuse."""
    feed = mapping(PRICES + "gone: deactivate\n")
    first = run(feed, table(Day("100,50").rows("part,price,cost", 0)))
    file = table(Day("100,50", None).rows("part,price,cost", 40))
    plan = plan_file(file, feed, first.accepted, previous_file=PreviousFile("r1", 60, gone=40))
    (result,) = [result for result in plan.guard_results if result.guard == "gone"]
    assert (result.count, result.held) == (40, True)


def test_skipped_rows_have_no_part_in_the_share_of_rejected_rows() -> None:
    """Thirty of a hundred rows that count are too many, however many rows `keep` leaves out."""
    feed = mapping(PRICES.replace("content: full}", "content: full, keep: \"part <> 'T'\"}"))
    rows = [f"A{number},{'many' if number < 30 else 1}," for number in range(100)]
    plan = plan_file(table("part,price,cost\n" + "\n".join([*rows, *["T,1,"] * 900])), feed)
    (result,) = [result for result in plan.guard_results if result.guard == "rejected"]
    assert (result.count, result.total, result.held) == (30, 100, True)
    assert (result.examples[0].key, result.examples[0].field) == ("row 2", "price")


def test_a_guard_result_is_kept_with_everything_that_it_found() -> None:
    """As the report shows it: count, total, limit, reason and examples."""
    example = impact.Example("A", "PriceSale", "1", "2", 100.0)
    result = guards.GuardResult("price_moves", 1, 2, "20 %", True, "why", (example,))
    assert result.to_json() == {
        "guard": "price_moves",
        "count": 1,
        "total": 2,
        "limit": "20 %",
        "held": True,
        "reason": "why",
        "examples": [example.to_json()],
    }


def test_shares_are_of_the_active_records() -> None:
    """A file of two rows about a hundred records moves two of a hundred prices, and a change file lacks nothing."""
    feed = mapping(PRICES.replace("content: full", "content: changes"))
    first = run(feed, table(Day("100,50").rows("part,price,cost", 0)))
    plan = plan_file(table("part,price,cost\nA000,200,50\nA001,200,50"), feed, first.accepted)
    totals = {result.guard: (result.count, result.total) for result in plan.guard_results}
    assert totals["price_moves"] == (2, 100)
    assert totals["rejected"] == (0, 2)
    assert "gone" not in totals
    assert "full_file" not in totals


def test_the_reason_names_count_total_limit_and_measure() -> None:
    """A person reads it before approving the run."""
    feed = mapping(PRICES + "guards: {price_moves: {share: 3%, by: 5%}}\n")
    first = run(feed, table(Day("100,50").rows("part,price,cost", 0)))
    plan = run(feed, table(Day("100,50", "110,50").rows("part,price,cost", 7)), first.accepted).plan
    assert plan.hold_reasons == ("prices of 7 of 100 records would change by more than 5 %; the limit is 3 %",)


@pytest.mark.parametrize(("rows", "lost"), [(70, 30), (100, 0), (130, 0)])
def test_shrink_counts_the_rows_that_are_fewer(rows: int, lost: int) -> None:
    """Of those of the file before; a longer file has lost none."""
    file = table("part,price,cost\n" + "\n".join(f"A{number},1,1" for number in range(rows)))
    plan = plan_file(file, mapping(PRICES), nothing(), previous_file=PreviousFile("r1", 100))
    (result,) = [result for result in plan.guard_results if result.guard == "shrink"]
    assert (result.count, result.total, result.limit, bool(result.reason)) == (lost, 100, "20 %", lost > 20)
