"""A defect while one run is planned, sent or archived: the run is parked, and all others go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl.apply.actions import Actions
from etl.runs.lifecycle import RunLifecycle
from tests.support.shop import PRICES, STOCK, Shop, stock

PRICES_MAPPING = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: full}
columns: {Price: {type: decimal}}
record: {PartNo: Art, PriceListCode: {value: B2C}, CurrencyCode: {value: SEK}, PriceSale: Price}
"""
CELL = "secret cell"


def break_for(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, feed: str) -> None:
    """Make a method raise for one feed, with a cell value in the message."""
    before = getattr(owner, name)

    def broken(self: Any, run: Any, *others: Any) -> Any:
        if getattr(run, "feed", None) == feed or feed in str(getattr(run, "run", "")):
            raise KeyError(CELL)
        return before(self, run, *others)

    monkeypatch.setattr(owner, name, broken)


@pytest.mark.parametrize("method", ["_freeze_plan", "complete"])
def test_a_defect_parks_its_run_only(shop: Shop, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Exit 3 once, an alert, a traceback without cells; other feeds go on now and at the next start."""
    shop.mapping(PRICES_MAPPING, "prices.yaml")
    with monkeypatch.context() as patch:
        break_for(patch, RunLifecycle, method, "stock")
        shop.drop(stock(("A1", "5")))
        shop.drop("Art,Price\nA1,7\n", "prices1.csv")
        done = shop.once()
    assert done.status == 3, done.err
    assert "run-parked" in done.err
    assert CELL not in done.err
    file = Path(done.err.split("where: ")[1].splitlines()[0])
    assert CELL not in file.read_text(encoding="utf-8")
    assert "KeyError" in file.read_text(encoding="utf-8")
    assert shop.sandbox.records(PRICES)
    shop.drop("Art,Price\nA1,8\n", "prices2.csv")
    again = shop.once()
    assert again.status == 0, again.err
    assert "is parked" in shop.etl("status").out
    parked = next(run["run"] for run in done.json["runs"] if run["feed"] == "stock")
    assert shop.etl("rerun", parked).status == 0
    assert shop.sandbox.records(STOCK)
    assert "is parked" not in shop.etl("status").out


def test_a_parked_run_can_be_discarded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file goes to the archive; a newer full file has gone on in the meantime and did not supersede it."""
    with monkeypatch.context() as patch:
        break_for(patch, RunLifecycle, "_freeze_plan", "stock")
        shop.drop(stock(("A1", "5")))
        parked = shop.once().run["run"]
    shop.drop(stock(("A1", "6")), "stock2.csv")
    assert shop.once().status == 0
    assert shop.etl("show", parked, "--json").json["state"] == "claimed"
    assert shop.etl("discard", parked).status == 0
    assert shop.claimed() == []
    assert "is parked" not in shop.etl("status").out


def test_a_defect_while_sending_parks_the_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's thread goes on for all other runs."""
    with monkeypatch.context() as patch:

        def broken(*_: object) -> None:
            raise KeyError(CELL)

        patch.setattr(Actions, "submit", broken)
        shop.drop(stock(("A1", "5")))
        done = shop.once()
    assert done.status == 3, done.err
    assert "run-parked" in done.err
    assert shop.once().status == 0
    assert shop.etl("rerun", done.run["run"]).status == 0
    assert shop.sandbox.records(STOCK)
