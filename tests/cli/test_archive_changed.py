"""A file of the archive that was changed or removed concerns its own feed only."""

from __future__ import annotations

import pytest

from tests.support.shop import STOCK, STOCK_MAPPING, Shop, stock

PRICES_MAPPING = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: full}
references: {PartNo: stock.PartNo}
columns: {Price: {type: decimal}}
record: {PartNo: Art, PriceListCode: {value: B2C}, CurrencyCode: {value: SEK}, PriceSale: Price}
"""


@pytest.mark.parametrize("change", ["touch", "remove"])
def test_a_changed_archive_blocks_its_own_feed_only(shop: Shop, change: str) -> None:
    """The prices wait for a product; when it comes, their archived file is gone, and the stock is sent all the same."""
    shop.mapping(STOCK_MAPPING)
    shop.mapping(PRICES_MAPPING, "prices.yaml")
    shop.drop(stock(("A1", "5")))
    shop.drop("Art,Price\nA1,7\nB1,8\n", "prices1.csv")
    shop.once()
    for file in shop.state.glob("archive/*/*/source/prices1.csv"):
        file.unlink() if change == "remove" else file.write_text("Art,Price\nB1,9\n", encoding="utf-8")
    shop.drop(stock(("A1", "5"), ("B1", "6")), "stock2.csv")
    done = shop.once()
    assert done.status == 0, done.err
    assert any(key.startswith("B1") for key in shop.sandbox.records(STOCK))
    assert "archive" in shop.etl("status").out
