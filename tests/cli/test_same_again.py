"""`etl resend` and `etl full` twice in a row, and records of one column each with whole files."""

from __future__ import annotations

import pytest

from tests.support.shop import STOCK, Shop

CHANGES = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: changes}
columns: {Price: {type: decimal}}
record: {PartNo: Art, PriceListCode: %s, CurrencyCode: {value: SEK}, PriceSale: Price}
"""
WIDE = """
feed: wide-stock
operation: Product/ImportOnhands
source: {files: "wide*.csv", content: full}
columns:
  stock_*: {type: integer}
per: {columns: "stock_*"}
record:
  PartNo: sku
  WarehouseCode: "{1}"
  LocationCode: {value: MAIN}
  OnhandValue: "{cell}"
"""


@pytest.mark.parametrize("key", ["{value: B2C}", "List"])
@pytest.mark.parametrize("command", [("resend", "prices", "A1"), ("full", "prices")])
def test_the_second_time_sends_again(shop: Shop, key: str, command: tuple[str, ...]) -> None:
    shop.mapping(CHANGES % key, "prices.yaml")
    shop.drop("Art,List,Price\nA1,B2C,1\nA2,B2C,3\n", "prices1.csv")
    assert shop.once().status == 0
    for _ in range(3):
        done = shop.etl(*command, "--json")
        assert done.status == 0, done.err
        assert done.run["requests"] == 1


def test_wide_columns_of_a_full_file(shop: Shop) -> None:
    shop.mapping(WIDE, "wide.yaml")
    shop.drop("sku,stock_north,stock_south\nA1,1,2\n", "wide1.csv")
    done = shop.once()
    assert (done.status, done.run["new"]) == (0, 2), done.err
    assert len(shop.sandbox.records(STOCK)) == 2
    shop.drop("sku,stock_north,stock_south\nA1,1,3\n", "wide2.csv")
    again = shop.once()
    assert (again.status, again.run["changed"], again.run["unchanged"]) == (0, 1, 1), again.err
