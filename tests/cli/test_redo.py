"""By hand: rerun, retry, resend. Each sends what it says and nothing else."""

from __future__ import annotations

import json
from typing import Any

from etl.sandbox import Fault
from tests.support.shop import STOCK, STOCK_MAPPING, Shop, stock

#: What somebody has set in Norce by hand, so that it shows which records are written again.
BY_HAND = 999


def spoil(shop: Shop) -> None:
    """Change stock and days of every record in Norce behind our back."""
    for key in shop.sandbox.records(STOCK):
        for field in ("OnhandValue", "LeadTimeDayCount"):
            shop.sandbox.admin_edit(STOCK, key, field, BY_HAND)


def written(shop: Shop) -> dict[str, tuple[Any, Any]]:
    """What has been written since: stock and days by part number."""
    found = {key.split("|")[0]: data for key, data in shop.sandbox.records(STOCK).items()}
    both = {part: (data.get("OnhandValue"), data.get("LeadTimeDayCount")) for part, data in found.items()}
    return {part: pair for part, pair in both.items() if pair != (BY_HAND, BY_HAND)}


def test_retry_sends_what_norce_has_not_accepted(shop: Shop) -> None:
    """The refused record alone; once it is accepted, nothing."""
    shop.sandbox.inject(Fault(kind="refuse", keys=("A2",), message="not today", times=1))
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    assert shop.once().status == 5
    spoil(shop)
    done = shop.etl("retry", "stock", "--json")
    assert (done.status, done.run["kind"], done.run["records_sent"]) == (0, "rerun", 1)
    assert written(shop).keys() == {"A2"}
    again = shop.etl("retry", "stock", "--json")
    assert (again.status, again.run["requests"]) == (0, 0)
    assert shop.etl("retry", "stick").status == 2


def test_retry_goes_on_with_what_is_open(shop: Shop) -> None:
    """A run that Connect did not let through is brought to its end; no second one is opened."""
    shop.drop(stock(("A1", "5")))
    assert shop.etl("once", secret="hush-4711-but-wrong").status == 5
    done = shop.etl("retry", "stock", "--json")
    assert (done.status, done.run["kind"], done.run["state"]) == (0, "file", "completed")
    assert len(shop.etl("status", "--json").json["runs"]) == 1


def test_retry_leaves_a_held_run_to_a_person(shop: Shop) -> None:
    """What is held for approval is not passed by."""
    shop.mapping(STOCK_MAPPING + "rejects: {limit: 0}\n")
    shop.drop(stock(("A1", "x")))
    assert shop.once().status == 6
    done = shop.etl("retry", "stock")
    assert done.status == 2
    assert "error[feed-held]" in done.err


def test_resend_sends_named_records_whole(shop: Shop) -> None:
    """Those and no others, with all their fields, though Norce has them; nothing counts as gone."""
    shop.mapping(STOCK_MAPPING + "gone: deactivate\n")
    shop.drop(stock(("A1", "5"), ("A2", "6"), ("A3", "7"), ("A4", "bad")))
    assert shop.once().status == 4
    before = len(shop.imports())
    spoil(shop)
    done = shop.etl("resend", "stock", "A3,A1", "--json")
    assert (done.status, done.run["kind"], done.run["records_sent"], done.run["gone"]) == (0, "resend", 2, 0)
    assert written(shop) == {"A1": (5, 3), "A3": (7, 3)}
    assert not any(seen.header.get("FullFile") for seen in shop.imports()[before:])
    assert json.loads((shop.archive(done.run["run"]) / "companions" / "keys.json").read_bytes()) == ["A3", "A1"]
    shop.drop(stock(("A1", "5"), ("A2", "6"), ("A3", "7")))
    assert shop.once().run["unchanged"] == 3


def test_resend_refuses_what_it_does_not_know(shop: Shop) -> None:
    """A slip of the pen sends nothing, not even the others; so does a row that is not good."""
    shop.drop(stock(("A1", "5"), ("A2", "bad")))
    shop.once()
    before = len(shop.imports())
    done = shop.etl("resend", "stock", "A1", "A2", "A9")
    assert done.status == 1
    assert "error[keys-unknown]: no record can be sent for A2, A9" in done.err
    assert len(shop.imports()) == before


def test_resend_of_a_feed_of_changes(shop: Shop) -> None:
    """From what Norce has accepted; what is still pending goes along and is not forgotten."""
    shop.mapping(STOCK_MAPPING.replace("content: full", "content: changes"))
    shop.drop(stock(("A1", "5"), ("A2", "6")))
    assert shop.once().status == 0
    shop.sandbox.inject(Fault(kind="refuse", keys=("A3",), message="not today", times=1))
    shop.drop(stock(("A3", "7"), ("A4", "8")))
    assert shop.once().status == 5
    spoil(shop)
    done = shop.etl("resend", "stock", "A1", "--json")
    assert done.status == 0, done.err
    assert written(shop).keys() == {"A1", "A3"}
    shop.drop(stock(("A3", "7")))
    assert shop.once().run["unchanged"] == 1


def test_rerun_of_a_file_by_its_name(shop: Shop) -> None:
    """The newest run over it, by its whole name or the last part; what fits none, or two, is said."""
    shop.mapping(STOCK_MAPPING.replace('"stock*.csv"', '"*stock*.csv"').replace("content: full", "content: changes"))
    shop.drop(stock(("A1", "5")), "north/stock.csv")
    assert shop.once().status == 0
    done = shop.etl("rerun", "--file", "stock.csv", "--json")
    assert (done.status, done.run["file"], done.run["unchanged"]) == (0, "north/stock.csv", 1)
    shop.drop(stock(("A2", "5")), "south/stock.csv")
    assert shop.once().status == 0
    assert "error[file-unknown]: several files" in shop.etl("rerun", "--file", "stock.csv").err
    assert shop.etl("rerun", "--file", "south/stock.csv", "--json").run["unchanged"] == 1
    assert shop.etl("rerun", "--file", "stick.csv").status == 2
    assert shop.etl("rerun").status == 2
