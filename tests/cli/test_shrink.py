"""Files that have lost most of their rows wait for a person."""

from __future__ import annotations

from tests.support.shop import Shop, stock

MANY = [(f"A{number}", "5") for number in range(40)]


def test_a_shrunken_file_is_held(shop: Shop) -> None:
    """Half a file is held with its numbers and nothing is sent; approved, it becomes the measure of the next one."""
    shop.drop(stock(*MANY))
    first = shop.once().run
    half = shop.drop(stock(*((part, "6") for part, _ in MANY[:20])))
    assert shop.etl("preview", str(half)).status == 6
    held = shop.once()
    assert (held.status, held.run["state"]) == (6, "held")
    assert f"20 rows, 40 in run {first['run']}" in shop.etl("show", held.run["run"]).out
    assert len(shop.imports()) == 1
    assert shop.etl("approve", held.run["run"], "--json").run["state"] == "completed"
    assert len(shop.imports()) == 2
    shop.drop(stock(*((part, "7") for part, _ in MANY[:20])))
    assert shop.once().run["state"] == "completed"


def test_a_discarded_file_is_no_measure(shop: Shop) -> None:
    """After a held file was discarded, the next short one is held as well."""
    shop.drop(stock(*MANY))
    shop.once()
    for quantity in "67":
        shop.drop(stock(*((part, quantity) for part, _ in MANY[:20])))
        held = shop.once().run
        assert held["state"] == "held"
        assert shop.etl("discard", held["run"]).status == 0
