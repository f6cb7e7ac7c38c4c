"""`etl undo`: a preview first, then the way back."""

from __future__ import annotations

import shutil

from tests.support.shop import STOCK, Shop, stock


def quantities(shop: Shop) -> dict[str, float]:
    return {key.split("|")[0]: float(data["OnhandValue"]) for key, data in shop.sandbox.records(STOCK).items()}


def test_the_way_back(shop: Shop) -> None:
    """An undo is shown and held, sends nothing by itself, and brings the old values back once it is approved."""
    shop.mapping((shop.mappings / "stock.yaml").read_text() + "gone: deactivate\n")
    shop.drop(stock(("A1", "5"), ("A2", "7")))
    shop.once()
    shop.drop(stock(("A1", "6"), ("A3", "1")))
    run = shop.once().run
    sent = len(shop.imports())
    shown = shop.etl("undo", run["run"])
    assert shown.status == 6
    assert f"held: undoes run {run['run']}: inspect it first" in shown.out
    line = next(line for line in shown.out.splitlines() if "OnhandValue" in line and "A1" in line)
    assert line.split()[-4:] == ["6", "5", "−16.7", "%"]
    assert len(shop.imports()) == sent
    held = shop.etl("status", "--json").json["runs"][0]
    assert (held["kind"], held["state"], held["new"], held["changed"], held["gone"]) == ("undo", "held", 1, 1, 1)
    back = shop.etl("approve", held["run"], "--json")
    assert (back.status, back.run["state"]) == (0, "completed")
    records = shop.sandbox.records(STOCK)
    assert quantities(shop) == {"A1": 5, "A2": 7, "A3": 1}
    assert [records[f"{part}|W1|L1"].get("IsActive", True) for part in ("A1", "A2", "A3")] == [True, True, False]
    again = shop.etl("rerun", run["run"], "--json").run
    assert (again["new"], again["changed"], again["gone"]) == (1, 1, 1)


def test_what_cannot_be_taken_back(shop: Shop) -> None:
    """A run that is held, one that sent nothing, and one whose archive is gone are refused, each with a way out."""
    shop.drop(stock(("A1", "5")))
    run = shop.once().run["run"]
    shop.drop(stock(("A1", "5")))
    nothing = shop.etl("undo", shop.once().run["run"])
    assert (nothing.status, "undo-nothing" in nothing.err) == (2, True)
    shutil.rmtree(shop.archive(run) / "undo")
    lost = shop.etl("undo", run)
    assert (lost.status, "undo-not-kept" in lost.err) == (1, True)
    shop.drop(stock(*((f"B{number}", "x") for number in range(20))))
    held = shop.etl("undo", shop.once().run["run"])
    assert (held.status, "undo-not-done" in held.err) == (2, True)
