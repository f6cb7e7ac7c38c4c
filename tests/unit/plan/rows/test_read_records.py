"""A file read piece by piece: what is laid aside, and that the pieces make no difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping.layout_builder import build_layout as layout_of
from etl.model.columns import DEACTIVATED, KEY
from etl.model.tables import Rejections, Table
from etl.parallel import Submit, run_inline
from etl.plan.rows import read_records
from etl.plan.rows.fingerprints import FingerprintIndex, compared_leaves
from tests.support.builders import PRICES, Outcome, days, mapping, nothing, outcome_of, plan_file, run, table
from tests.support.random_mappings import OPERATIONS, feeds, files, modest


@dataclass(frozen=True)
class Pieces:
    """A table that is given out a few rows at a time."""

    table: Table
    size: int

    @property
    def columns(self) -> tuple[str, ...]:
        return self.table.columns

    @property
    def malformed(self) -> Rejections:
        return self.table.malformed

    @property
    def rows(self) -> int:
        return self.table.rows

    def frames(self, _start: Submit = run_inline) -> Iterator[pl.DataFrame]:
        yield from self.table.frame.iter_slices(self.size) if self.table.frame.height else (self.table.frame,)


def told(outcome: Outcome) -> tuple[object, ...]:
    """Everything that a plan says and sends."""
    made = outcome.plan
    sent = [(s.request.wave, s.request.header, s.request.payload, s.request.values) for s in outcome.sent]
    return (
        made.counts,
        made.suppressed,
        made.cleared,
        made.impact,
        made.rejections.frame.rows(),
        made.hold_reasons,
        sent,
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@modest(2)
@given(data=st.data())
def test_pieces_make_no_difference(operation: str, data: st.DataObject) -> None:
    """However a file is cut into pieces, with rows that stand twice far apart, the plan is the same to the byte."""
    feed = data.draw(feeds(operation))
    first, second = (data.draw(files(feed, most=6)) for _ in range(2))
    known = run(feed.mapping, table(first or ",".join(feed.cells))).accepted
    rows = second + first + second[:2]
    file = table(rows) if rows else table(",".join(feed.cells))
    for before in (nothing(), known):
        whole = run(feed.mapping, file, before)
        for size in (1, 3):
            made = plan_file(Pieces(file, size), feed.mapping, before)
            assert told(outcome_of(made, before)) == told(whole)


@pytest.mark.parametrize("operation", OPERATIONS)
@modest(2)
@given(data=st.data())
def test_what_is_laid_aside_makes_no_difference(operation: str, data: st.DataObject) -> None:
    """With hashes and without, over days on which little changes: the same plan to the byte, whatever the import."""
    feed = data.draw(feeds(operation))
    rows = data.draw(files(feed, most=6))
    before = nothing()
    for day in (rows, rows, data.draw(files(feed, most=3)) + rows[1:], rows):
        file = table(day) if day else table(",".join(feed.cells))
        made = run(feed.mapping, file, before)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(read_records, "supports_fingerprints", lambda *_: False)
            assert told(run(feed.mapping, file, before)) == told(made)
        before = made.accepted


PRODUCTS = """
feed: products
operation: Product/ImportProducts
source: {files: "*.csv", content: full}
record:
  Code: model
  ManufacturerName: maker
  Categories: {split: kinds, by: "|", each: {Code: "{item}"}}
  Variants:
    rows:
      Skus:
        - PartNo: part
          EanCode: ean
          Type: {value: ErpStandard}
"""


def test_records_of_several_rows_are_laid_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of products and lists from cells are compared only where something differs, also in the list alone."""
    held: list[int] = []
    hold = FingerprintIndex.match_unchanged

    def counted(sieve: FingerprintIndex, prints: pl.DataFrame) -> pl.Series:
        found = hold(sieve, prints)
        held.append(int(found.sum()))
        return found

    products = mapping(PRODUCTS)
    lines = [f"M{n // 2},X,a|b,P{n},{n}" for n in range(12)]
    head = "model,maker,kinds,part,ean\n"
    before = days(products, head + "\n".join(lines))[0].accepted
    monkeypatch.setattr(FingerprintIndex, "match_unchanged", counted)
    lines[2:4] = ["M1,X,a,P2,2", "M1,X,a,P3,3"]
    lines[5] = "M2,X,a|b,P5,7"
    del lines[11]
    made = run(products, table(head + "\n".join(lines)), before).plan
    assert held == [8]
    assert (made.counts.changed, made.counts.unchanged, made.counts.gone) == (3, 8, 1)


def test_texts_called_unique_are_found_over_pieces() -> None:
    """A text that occurs once in each of two pieces is refused in both, and only there."""
    unique = mapping(PRICES.replace("  price: {", "  part: {type: text, unique: true}\n  price: {"))
    file = table("part,price,cost\nA,1,1\nB,1,1\nC,1,1\nA,2,1\n")
    made = plan_file(Pieces(file, 2), unique, nothing())
    assert made.rejections.frame.select("row", "code").rows() == [(2, "unique"), (5, "unique")]
    assert made.counts.new == 2


def test_only_what_differs_is_let_through() -> None:
    """Rows that say what Norce has are held back; changed, new and freed ones are not; the rest is told."""
    prices = mapping(PRICES)
    before = days(prices, "part,price,cost\nA,1,1\nB,2,1\nC,3,1\nD,4,1\n")[0].accepted.lazy()
    layout = layout_of(prices, ("part", "price", "cost"))
    now = run(prices, table("part,price,cost\nA,1,1\nB,2.5,1\nC,3,1\nE,1,1\n")).plan.batches[0].frame
    sieve = FingerprintIndex(before, layout, 1)
    held = sieve.match_unchanged(sieve.fingerprint_rows(now, pl.col("PartNo") == "C"))
    assert sieve.active == 4
    assert now["PartNo"].filter(held).to_list() == ["A"]
    assert sieve.unmatched_records(now[KEY])["PartNo"].to_list() == ["B", "C", "D"]


def test_a_record_that_was_switched_off_is_never_as_it_was() -> None:
    """The same values as before it went are let through, and its accepted record is there to compare with."""
    prices = mapping(PRICES)
    before = days(prices, "part,price,cost\nA,1,1\nB,2,1\n")[0].accepted
    off = before.with_columns((pl.col("PartNo") == "A").alias(DEACTIVATED))
    sieve = FingerprintIndex(off.lazy(), layout_of(prices, ("part", "price", "cost")), 1)
    now = run(prices, table("part,price,cost\nA,1,1\nB,2,1\n")).plan.batches[0].frame
    assert sieve.match_unchanged(sieve.fingerprint_rows(now, pl.lit(False))).to_list() == [False, True]
    assert sieve.unmatched_records(now[KEY])["PartNo"].to_list() == ["A"]


def test_what_is_compared() -> None:
    """All that can be a change of a record that Norce has: no key, no constant, nothing that is only given once."""
    once = mapping(PRICES.replace("CostPurchase: cost", "PricePrevious: {column: cost, own: false}"))
    layout = layout_of(once, ("part", "price", "cost"))
    assert [leaf.name for leaf in compared_leaves(layout)] == ["CurrencyCode", "PriceSale"]
