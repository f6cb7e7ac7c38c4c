"""Files of changes that wait together: they go in the requests of one, whatever becomes of the newest of them."""

from __future__ import annotations

from typing import Any

import pytest

from etl.sandbox import Fault
from etl.state.ledger.facade import Ledger
from tests.support.shop import PRICES, STOCK, Shop, stock

PRICE_FEED = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: changes}
columns: {Price: {type: decimal}, "On": {type: boolean, optional: true}}
guards: {price_moves: {share: 10%, by: 15%}}
record:
  PartNo: Art
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: Price
  IsActive: "On"
"""


@pytest.fixture
def changes(shop: Shop) -> Shop:
    """A shop whose stock files hold changes."""
    path = shop.mappings / "stock.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("content: full", "content: changes"), encoding="utf-8")
    return shop


def quantities(shop: Shop) -> dict[str, float]:
    return {key.split("|")[0]: float(row["OnhandValue"]) for key, row in shop.sandbox.records(STOCK).items()}


def prices(shop: Shop) -> dict[str, tuple[float, bool]]:
    rows = shop.sandbox.records(PRICES).items()
    return {key.split("|")[0]: (float(row["PriceSale"]), row.get("IsActive", True)) for key, row in rows}


def told(done: Any) -> list[tuple[str, str, str]]:
    return [(run["file"], run["kind"], run["state"]) for run in done.json["runs"]]


FILES = {
    "stock_1.csv": stock(("A1", "1"), ("A2", "1"), ("A3", "1")),
    "stock_2.csv": stock(("A2", "2"), ("A4", "x")),
    "stock_3.csv": stock(("A5", "3"), ("A1", "3")),
    "stock_4.csv": stock(("A2", "4"), ("A6", "4")),
}


def test_waiting_files_go_in_the_requests_of_one(changes: Shop) -> None:
    """As many requests of any kind as for the last file alone; Norce has what it has when they go one by one."""
    for name, text in FILES.items():
        changes.drop(text, name)
    done = changes.once()
    assert done.status == 4
    assert told(done) == [(name, "file", "merged") for name in list(FILES)[:3]] + [("stock_4.csv", "file", "completed")]
    last = done.json["runs"][-1]
    assert [run["merged_into"] for run in done.json["runs"]] == [last["run"]] * 3 + [None]
    assert [run["rejected"] for run in done.json["runs"]] == [0, 1, 0, 0]
    assert quantities(changes) == {"A1": 3, "A2": 4, "A3": 1, "A5": 3, "A6": 4}
    together = len(changes.sandbox.requests())
    changes.drop(stock(("A7", "1"), ("A8", "1"), ("A9", "1"), ("B1", "1"), ("B2", "1")), "stock_5.csv")
    changes.once()
    assert together <= len(changes.sandbox.requests()) - together + 1  # and the token, once
    assert len(changes.imports()) == 2
    assert changes.claimed() == []
    for run in done.json["runs"]:
        assert (changes.archive(run["run"]) / "source" / run["file"]).read_text() == FILES[run["file"]]


def test_what_became_of_a_merged_file_is_shown(changes: Shop) -> None:
    """In `etl show` of either run, in the status, in the page."""
    for name in ("stock_1.csv", "stock_2.csv", "stock_3.csv"):
        changes.drop(FILES[name], name)
    first, second, last = (run["run"] for run in changes.once().json["runs"])
    shown = changes.etl("show", first).out
    assert f"merged: its records were sent with run {last}" in shown
    assert "merged into this run: the records of stock_1.csv, stock_2.csv" in changes.etl("show", last).out
    assert "were sent with" not in changes.etl("show", last).out
    assert changes.etl("status").out.count("merged") == 2
    assert "its records go with stock_2.csv" in (changes.archive(first) / "report.html").read_text()
    (rejection,) = changes.rejections(second)
    assert rejection["row"] == "3"


def test_a_refusal_is_traced_to_the_older_file_and_its_line(changes: Shop) -> None:
    """Norce refuses records of two files that were merged into a third one."""
    changes.sandbox.inject(Fault(kind="refuse", keys=("A3", "A5"), times=0))
    for name, text in FILES.items():
        changes.drop(text, name)
    done = changes.once()
    runs = {run["file"]: run["run"] for run in done.json["runs"]}
    refusals = changes.etl("show", runs["stock_4.csv"], "--json").json["record_errors"]
    assert [(one["key"].split(" ")[0], one["file"], one["run"], one["row"]) for one in refusals] == [
        ("A3", "stock_1.csv", runs["stock_1.csv"], 4),
        ("A5", "stock_3.csv", runs["stock_3.csv"], 2),
    ]
    changes.sandbox.faults.clear()
    assert told(changes.once()) == [("stock_4.csv", "flush", "completed")]
    assert quantities(changes) == {"A1": 3, "A2": 4, "A3": 1, "A5": 3, "A6": 4}


def test_what_was_merged_into_an_unusable_file_goes_by_itself(changes: Shop) -> None:
    """Without another command, and once."""
    changes.drop(FILES["stock_1.csv"], "stock_1.csv")
    changes.drop("no;such;columns\n1;2;3\n", "stock_2.csv")
    done = changes.once()
    assert told(done) == [
        ("stock_1.csv", "file", "merged"),
        ("stock_2.csv", "file", "invalid"),
        ("stock_1.csv", "flush", "completed"),
    ]
    assert done.json["runs"][0]["merged_into"] == done.json["runs"][2]["run"]
    assert quantities(changes) == {"A1": 1, "A2": 1, "A3": 1}
    assert changes.once().json == {"runs": []}


def test_a_file_that_has_to_be_held_holds_no_older_one(shop: Shop) -> None:
    """What was merged goes before it; the file is compared with that, and held alone."""
    shop.mapping(PRICE_FEED, "prices.yaml")
    shop.drop("Art,Price\n" + "".join(f"P{n},100\n" for n in range(20)), "prices_1.csv")
    assert shop.once().status == 0
    shop.drop("Art,Price\nP1,90\n", "prices_2.csv")
    shop.drop("Art,Price\n" + "".join(f"P{n},10\n" for n in range(20)), "prices_3.csv")
    done = shop.once()
    assert told(done)[0] == ("prices_2.csv", "file", "merged")
    assert sorted(told(done)[1:]) == [("prices_2.csv", "flush", "completed"), ("prices_3.csv", "file", "held")]
    assert prices(shop)["P1"] == (90.0, True)
    assert prices(shop)["P2"] == (100.0, True)
    (held,) = [run["run"] for run in done.json["runs"] if run["state"] == "held"]
    assert shop.etl("discard", held).status == 0
    assert shop.once().json == {"runs": []}


def test_an_older_file_is_not_merged_past_a_guard(shop: Shop) -> None:
    """It is held as if nothing waited behind it, and what waits behind it waits."""
    shop.mapping(PRICE_FEED, "prices.yaml")
    shop.drop("Art,Price\n" + "".join(f"P{n},100\n" for n in range(20)), "prices_1.csv")
    shop.once()
    shop.drop("Art,Price\n" + "".join(f"P{n},10\n" for n in range(20)), "prices_2.csv")
    shop.drop("Art,Price\n" + "".join(f"P{n},100\n" for n in range(20)), "prices_3.csv")
    done = shop.once()
    assert told(done) == [("prices_2.csv", "file", "held")]


@pytest.mark.parametrize("newer", ["Art,Price,On\nP1,8,\n", "Art,Price\nP1,8\n"], ids=["empty cell", "missing column"])
def test_what_would_change_its_meaning_is_not_put_together(shop: Shop, newer: str) -> None:
    """A price wakes up a row that an older file switched off; in one record with the switch it would not go."""
    shop.mapping(PRICE_FEED, "prices.yaml")
    shop.drop("Art,Price,On\nP1,9,0\n", "prices_1.csv")
    shop.drop(newer, "prices_2.csv")
    done = shop.once()
    assert told(done) == [
        ("prices_1.csv", "file", "merged"),
        ("prices_1.csv", "flush", "completed"),
        ("prices_2.csv", "file", "completed"),
    ]
    assert prices(shop) == {"P1": (8.0, True)}


def test_a_merged_run_cannot_be_undone_before_it_is_sent(changes: Shop) -> None:
    """An undo would drop what is pending, also after a crash right behind the merged run."""
    changes.drop(FILES["stock_1.csv"], "stock_1.csv")
    changes.drop(FILES["stock_3.csv"], "stock_3.csv")
    done = changes.once().json["runs"][-1]["run"]
    with Ledger.open(changes.state) as ledger, ledger.database.write() as db:
        db.execute("UPDATE runs SET merged_into = NULL")
    assert changes.etl("status", "--json").json["pending_files"] == {"stock": 1}
    assert "pending: stock: records of a merged file go with its next file" in changes.etl("status").out
    refused = changes.etl("undo", done)
    assert (refused.status, refused.err.partition("]")[0]) == (1, "error[undo-feed-open")
    assert "stock_1.csv" in refused.err
    assert told(changes.once()) == [("stock_3.csv", "flush", "completed")]
    assert changes.etl("status", "--json").json["pending_files"] == {}
    assert changes.etl("undo", done).status == 6
