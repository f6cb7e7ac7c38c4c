"""Cells for which an SQL expression of the mapping fails: their rows are rejected by name, the others are sent."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.plan.rows import sql_values
from tests.support.builders import days, mapping, run, table

FEED = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "*.csv", content: full%s}
columns:
  price: {type: decimal}
  cost: {type: decimal}
  n: {type: integer, optional: true}
rejects: {limit: 100%%}
%s
record:
  PartNo: part
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: %s
  CostPurchase: cost
"""
FILE = "part,price,cost,text,n\nA,8,2,7,0\nB,8,0,x,4000000000000\nC,6,3,6,2000000"


@pytest.mark.parametrize(
    ("keep", "rules", "price", "rejected"),
    [
        ("", "", '{sql: "price / cost"}', [(3, "sql-error")]),
        ("", "", '{sql: "CAST(text AS INTEGER)"}', [(3, "sql-error")]),
        (
            "",
            "",
            "{sql: \"EXTRACT(YEAR FROM strptime(text, '%Y'))\"}",
            [(2, "sql-error"), (3, "sql-error"), (4, "sql-error")],
        ),
        ("", "", '{sql: "price / NULLIF(cost, 0)"}', []),
        ("", "", '{sql: "cost * 1000000000000 / cost"}', [(2, "not-number"), (3, "sql-error"), (4, "not-number")]),
        ("", "", '{sql: "7 % n"}', [(2, "sql-error")]),
        ("", "", '{sql: "n * n * n"}', [(3, "sql-error"), (4, "not-number")]),
        ("", "", '{sql: "n * 4611686018427387904 + 1"}', [(3, "sql-error"), (4, "sql-error")]),
        ("", "", '{sql: "TRY_CAST(text AS INTEGER)"}', []),
        ("", 'rules: [{name: margin, sql: "price / cost > 1"}]', "price", [(3, "sql-error")]),
        ("", 'rules: [{name: margin, sql: "price / cost > 3"}]', "price", [(3, "sql-error"), (4, "rule")]),
        (', keep: "price / cost > 1"', "", "price", [(3, "sql-error")]),
        (', keep: "price / cost > 3"', "", "price", [(3, "sql-error")]),
    ],
)
def test_a_failing_cell_rejects_its_row(keep: str, rules: str, price: str, rejected: list[tuple[int, str]]) -> None:
    """A division by zero, a cast or a date that fails costs its row; the way out sends the row without the field."""
    outcome = run(mapping(FEED % (keep, rules, price)), table(FILE))
    assert sorted(outcome.codes) == rejected
    skipped = outcome.plan.counts.skipped
    assert outcome.plan.counts.new + len(rejected) + skipped == 3
    for line in outcome.plan.rejections.frame.filter(pl.col("code") == "sql-error").iter_rows(named=True):
        assert "NULLIF" in line["hint"]
        assert "TRY_CAST" in line["hint"]
        assert "`" in line["message"]
        assert line["value"]


def test_the_record_of_a_failing_row_is_not_missing() -> None:
    """The row is in the file, so its record stays as Norce has it."""
    text = FEED % (', keep: "price / cost > 1"', "", "price")
    first, second = days(
        mapping(text), "part,price,cost,text\nA,8,2,7\nB,8,1,1", "part,price,cost,text\nA,8,2,7\nB,8,0,1"
    )
    assert len(first.records) == 2
    assert second.records == []
    assert second.plan.counts.gone == 0


@given(st.lists(st.sampled_from([0, 1, 2, None]), max_size=40))
def test_bisection_finds_exactly_the_failing_rows(cells: list[int | None]) -> None:
    """Every row that fails alone is found, and every other row has its value."""
    frame = pl.DataFrame({"v": pl.Series(cells, dtype=pl.Int64)}).select(pl.col("v").cast(pl.Decimal(20, 4)))
    found = sql_values.separate_failures(frame, pl.sql_expr("12 / v"))
    assert found.failed.to_list() == [cell == 0 for cell in cells]
    assert [None if v is None else int(v) for v in found.values] == [12 // cell if cell else None for cell in cells]
