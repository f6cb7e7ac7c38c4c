"""Two feeds that write the same field, at the command line."""

from __future__ import annotations

from tests.support.shop import STOCK, STOCK_MAPPING, Shop, stock

OTHER = STOCK_MAPPING.replace("feed: stock", "feed: shop").replace('"stock*.csv"', '"shop*.csv"')


def test_check_refuses_and_yields_settles(shop: Shop) -> None:
    """`etl check` refuses both with line and way out; with `yields` the one leaves what the other has had accepted."""
    shop.mapping(OTHER, "shop.yaml")
    refused = shop.etl("check")
    assert refused.status == 1
    assert "shop writes OnhandValue too" in refused.err
    assert "stock writes LeadTimeDayCount too" in refused.err
    assert "stock.yaml:16:3, record.OnhandValue" in refused.err
    assert refused.out == ""
    shop.mapping(OTHER + "yields: [stock]\n", "shop.yaml")
    assert shop.etl("check").status == 0
    shop.drop(stock(("A1", "5"), ("A2", "7")))
    assert shop.once().status == 0
    shop.drop(stock(("A1", "1"), ("A3", "9")), "shop.csv")
    assert shop.once().status == 0
    records = {key.split("|")[0]: record["OnhandValue"] for key, record in shop.sandbox.records(STOCK).items()}
    assert records == {"A1": 5, "A2": 7, "A3": 9}
