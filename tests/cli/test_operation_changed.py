"""A mapping that names another import under the same feed name."""

from __future__ import annotations

from tests.support.shop import PRICES, STOCK_MAPPING, Shop, stock

PRICES_MAPPING = (
    STOCK_MAPPING.partition("record:")[0].replace("Product/ImportOnhands", PRICES)
    + "record: {PartNo: Art, PriceListCode: {value: B2C}, CurrencyCode: {value: SEK}, PriceSale: Qty}\n"
    + "gone: deactivate\n"
)
OTHER = STOCK_MAPPING.replace("feed: stock", "feed: other").replace('"stock*.csv"', '"other*.csv"')


def test_accepted_records_of_another_import_are_not_compared(shop: Shop) -> None:
    """The run waits with an error, previews say the same, other feeds go on; with the old mapping it goes on, too."""
    shop.mapping(STOCK_MAPPING)
    shop.mapping(OTHER, "other.yaml")
    shop.drop(stock(("A1", "5"), ("A2", "6")))
    shop.once()
    shop.mapping(PRICES_MAPPING)
    path = shop.drop(stock(("A1", "7")))
    assert "error[feed-operation-changed]" in shop.etl("preview", str(path)).err
    shop.drop(stock(("B1", "5")), "other.csv")
    sent = len(shop.imports())
    done = shop.once()
    assert "error[feed-operation-changed]" in done.err
    assert [seen.path.rpartition("/")[2] for seen in shop.imports()[sent:]] == ["ImportOnhands"]
    shop.mapping(STOCK_MAPPING)
    assert [run["changed"] for run in shop.once().json["runs"]] == [1]


def test_a_feed_can_begin_anew_with_another_import(shop: Shop) -> None:
    """`etl state rebuild FEED --forget` deletes the old records; nothing is deactivated in the new import."""
    shop.mapping(STOCK_MAPPING)
    shop.drop(stock(("A1", "5"), ("A2", "6")))
    shop.once()
    shop.mapping(PRICES_MAPPING)
    shop.drop(stock(("A1", "7")))
    assert "error[feed-operation-changed]" in shop.once().err
    assert shop.etl("state", "rebuild", "stock", "--forget").status == 0
    done = shop.once()
    assert (done.run["state"], done.run["new"], done.run["gone"]) == ("completed", 1, 0)
    assert len(shop.sandbox.records(PRICES)) == 1
