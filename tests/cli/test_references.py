"""Rows that wait for what they refer to, over restarts."""

from __future__ import annotations

from tests.support.shop import PRICES, Shop, stock

MAPPING = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: full}
references: {PartNo: stock.PartNo}
columns:
  Price: {type: decimal}
record:
  PartNo: Art
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: Price
"""


def test_what_waits_goes_when_its_reference_is_there(shop: Shop) -> None:
    """In the same start: the price of an article that Norce has by now, and the other one waits on."""
    shop.mapping(MAPPING, "prices.yaml")
    shop.drop("Art,Price\nA1,10\nA2,11\n", "prices.csv")
    assert shop.once().run["blocked"] == 2
    assert shop.sandbox.records(PRICES) == {}
    shop.drop(stock(("A1", "5")))
    runs = {run["feed"]: run for run in shop.once().json["runs"]}
    assert (runs["prices"]["kind"], runs["prices"]["new"], runs["prices"]["blocked"]) == ("rerun", 1, 1)
    assert list(shop.sandbox.records(PRICES)) == ["A1|B2C|0"]
    assert shop.once().json == {"runs": []}


def test_what_waits_goes_after_a_restart(shop: Shop) -> None:
    """Whatever kept the feed from being worked when its reference was accepted: the next start finds it."""
    path = shop.mapping(MAPPING, "prices.yaml")
    shop.drop("Art,Price\nA1,10\nA2,11\n", "prices.csv")
    assert shop.once().run["blocked"] == 2
    path.rename(path.with_suffix(".off"))
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    assert [run["feed"] for run in shop.once().json["runs"]] == ["stock"]
    assert shop.sandbox.records(PRICES) == {}
    path.with_suffix(".off").rename(path)
    (run,) = shop.once().json["runs"]
    assert (run["feed"], run["kind"], run["new"], run["blocked"]) == ("prices", "rerun", 2, 0)
    assert sorted(shop.sandbox.records(PRICES)) == ["A1|B2C|0", "A2|B2C|0"]
    assert shop.once().json == {"runs": []}
