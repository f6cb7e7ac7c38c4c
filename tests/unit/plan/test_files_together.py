"""Files of changes put together against the same files one by one: Norce ends with the same, or they are kept apart."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping import layout_builder
from etl.mapping.model import Mapping
from etl.model.columns import DEACTIVATED, KEY, STATED
from etl.model.runs import Overlay
from etl.model.tables import Table
from etl.plan import build
from etl.plan.changes.pending import can_merge
from etl.plan.model import Plan
from etl.state.snapshots import accepted, sent_records
from tests.contract import coverage
from tests.contract.every import CONTRACT
from tests.support.builders import Outcome, mapping, nothing, outcome_of, plan_file, table
from tests.support.random_mappings import OPERATIONS, Feed, feeds, files, modest
from tests.unit.plan.test_accepted_is_true import creatable
from tests.unit.plan.test_invariants import read

MODEST = modest(3)

TOGETHER = [name for name in OPERATIONS if CONTRACT.operations[name].key.match == "all"]


class Shop:
    """A feed of changes over a sandbox, and what of it was accepted."""

    def __init__(self, feed: Mapping) -> None:
        self.feed = feed
        self.accepted = nothing()
        self.client = coverage.Client()

    def planned(self, file: Table, pending: pl.DataFrame | None = None) -> Plan:
        return plan_file(file, self.feed, self.accepted, pending_records=pending)

    def send(self, made: Plan) -> None:
        outcome: Outcome = outcome_of(made, self.accepted)
        for sent in outcome.sent:
            operation = self.feed.operation
            assert self.client.send(operation, sent.request.header, sent.request.payload) == []
        self.accepted = outcome.accepted

    def owed(self, made: Plan) -> pl.DataFrame:
        """What is kept of a plan that was merged."""
        parts = [
            sent_records.build_sent_records(b.frame, b.bits, number, made.layout)
            for number, b in enumerate(made.batches, 1)
        ]
        if not parts:
            return nothing().drop(DEACTIVATED)
        left = sent_records.select_unaccepted(pl.concat(parts, how="diagonal"), Overlay("r", ()))
        concerned = self.accepted.join(left.select(KEY), on=KEY, how="semi", maintain_order="left")
        return accepted.build_pending_records(concerned, left)

    def work_together(self, days: list[Table], columns: list[str]) -> None:
        """Each file is merged into the next one, which is kept apart where it has to be."""
        pending = None
        for file in days:
            made = self.planned(file, pending)
            if made.flush_first:
                self.send(self.planned(build.empty_table(columns), pending))
                made = self.planned(file)
            if can_merge(made.layout):
                pending = self.owed(made)
            else:
                self.send(made)
                pending = None
        self.send(self.planned(build.empty_table(columns), pending))

    @property
    def catalogue(self) -> Any:
        return self.client.sandbox.records(self.feed.operation.id)


def of_changes(feed: Feed) -> Mapping:
    return mapping(json.dumps({**json.loads(feed.text), "source": {"files": "*.csv", "content": "changes"}}))


@pytest.mark.parametrize("operation", TOGETHER)
@MODEST
@given(data=st.data())
def test_files_together_end_as_files_one_by_one(operation: str, data: st.DataObject) -> None:
    """Whatever a mapping has in it, and whatever cells are empty: Norce has the same in the end."""
    feed = data.draw(feeds(operation, rich=data.draw(st.booleans())))
    first, *more = (read(feed, creatable(feed, data.draw(files(feed, most=3)))) for _ in range(4))
    alone, together = Shop(of_changes(feed)), Shop(of_changes(feed))
    for shop in (alone, together):
        shop.send(shop.planned(first))
    for file in more:
        alone.send(alone.planned(file))
    together.work_together(more, list(feed.cells))
    assert together.catalogue == alone.catalogue


CHANGES = "feed: f\nsource: {files: '*.csv', content: changes}"


def laid(text: str, older: str, newer: str) -> bool:
    """Whether the newer file is kept apart from what is pending of the older one."""
    shop = Shop(mapping(CHANGES + text))
    return shop.planned(table(newer), shop.owed(shop.planned(table(older)))).flush_first


ONHANDS = """
operation: Product/ImportOnhands
columns: {q: decimal, d: integer}
record: {PartNo: k, WarehouseCode: {value: W}, LocationCode: {value: L}, OnhandValue: q, LeadTimeDayCount: d}
"""
SWITCHED = """
operation: Product/ImportSkuPriceLists
columns: {p: decimal, a: boolean}
record: {PartNo: k, PriceListCode: {value: B}, CurrencyCode: {value: SEK}, PriceSale: p, IsActive: a}
"""
ELEMENTS = """
operation: Supplier/ImportProducts
supplier: 3
columns: {q: decimal}
record:
  SupplierPartNo: k
  ProductName: n
  OnHand: [{WarehouseCode: {value: W}, LocationCode: l, Value: q, IsActive: {value: true}}]
"""
VARIANTS = """
operation: Product/ImportProducts
record:
  ManufacturerCode: {value: M}
  Code: c
  Cultures: {sv-SE: {Name: n}}
  Variants: {rows: {ManufacturerPartNo: k, Skus: [{PartNo: k, Status: {value: Active}, Type: {value: ErpStandard}}]}}
"""


ONE_VARIANT = VARIANTS.replace("{rows: {M", "[{M").replace("}]}}\n", "}]}]\n")
IDENTIFIERS = """
operation: Customer/ImportCompanies
record: {Code: k, Name: n, ApplicationKey: {value: 5f0c41d6-8d3c-4a51-9a55-0c2f6de01a77}}
"""


@pytest.mark.parametrize(
    ("text", "older", "newer", "apart"),
    [
        (ONHANDS, "k,q,d\nA,1,\n", "k,q,d\nB,1,\n", False),
        (ONHANDS, "k,q,d\nA,1,2\n", "k,q,d\nA,2,\n", False),
        (ONHANDS, "k,q,d\nA,1,\n", "k,q,d\na,1,\n", True),
        (SWITCHED, "k,p,a\nA,1,false\n", "k,p,a\nA,2,\n", True),
        (SWITCHED, "k,p,a\nA,1,true\n", "k,p,a\nA,0,true\n", True),
        (SWITCHED, "k,p,a\nA,1,false\n", "k,p,a\nA,2,true\n", False),
        (VARIANTS, "k,c,n\nA,P,x\n", "k,c,n\nB,P,y\n", True),
        (VARIANTS, "k,c,n\nA,P,x\n", "k,c,n\nB,Q,y\n", False),
    ],
)
def test_what_is_kept_apart(text: str, older: str, newer: str, apart: bool) -> None:
    """Other records, and rows that say all of it.

    May go together; see `etl.plan.changes.pending.must_flush_first` for what may not.
    """
    assert laid(text, older, newer) is apart


@pytest.mark.parametrize(
    ("text", "columns", "can"),
    [
        (ONHANDS, "kqd", True),
        (SWITCHED, "kpa", True),
        (ONHANDS.replace("OnhandValue: q", "OnhandValue: {column: q, own: false}"), "kqd", False),
        (ELEMENTS, "knlq", False),
        (ELEMENTS.replace("LocationCode: l", "LocationCode: {value: L}"), "knq", True),
        (VARIANTS, "kcn", False),
        (ONE_VARIANT, "kcn", True),
        (IDENTIFIERS, "kn", False),
    ],
)
def test_what_can_wait(text: str, columns: str, can: bool) -> None:
    """Records that are no more than their fields, told apart by one key; see `etl.plan.changes.pending.can_merge`."""
    assert can_merge(layout_builder.build_layout(mapping(CHANGES + text), tuple(columns))) is can


def test_only_what_a_file_has_said_is_sent_again() -> None:
    """A sale price that Norce has would hold back the new rule."""
    shop = Shop(mapping(f"{CHANGES}{SWITCHED.replace('IsActive: a', 'PriceRule: a').replace('a: boolean', 'a: text')}"))
    shop.send(shop.planned(table("k,p,a\nA,5,\n")))
    owed = shop.owed(shop.planned(table("k,p,a\nA,,CostPlus_PurchaseCost\n")))
    assert owed.select("PriceSale", STATED + "PriceSale").row(0) == (5, False)
    again = outcome_of(shop.planned(build.empty_table(["k", "p", "a"]), owed), shop.accepted)
    assert [list(record) for record in again.records] == [["PartNo", "PriceListCode", "CurrencyCode", "PriceRule"]]


def test_what_nobody_has_said_empties_nothing() -> None:
    """Where an empty cell empties the field, what Norce has stands for what was not said."""
    shop = Shop(mapping(CHANGES + ONHANDS.replace("Count: d", "Count: {column: d, empty: clear}")))
    shop.send(shop.planned(table("k,q,d\nA,1,7\nB,1,7\n")))
    owed = shop.owed(shop.planned(table("k,q,d\nA,2,7\nB,2,\n")))
    again = outcome_of(shop.planned(build.empty_table(["k", "q", "d"]), owed), shop.accepted)
    sent = {record["PartNo"]: record.get("LeadTimeDayCount", "not sent") for record in again.records}
    assert sent["A"] in (7, "not sent")
    assert sent["B"] is None


def test_a_value_that_connect_ignores_does_not_replace_a_pending_one() -> None:
    """A price of 0 says nothing."""
    shop = Shop(mapping(CHANGES + SWITCHED))
    pending = shop.owed(shop.planned(table("k,p,a\nA,3,true\n")))
    made = shop.planned(table("k,p,a\nA,0,true\nB,0,true\n"), pending)
    sent = {record["PartNo"]: record.get("PriceSale") for record in outcome_of(made, nothing()).records}
    assert sent == {"A": 3, "B": None}
