"""Files of changes: what Norce has not taken is kept, laid under newer files, and sent until it is taken."""

from __future__ import annotations

import json

import pytest

from etl.sandbox import Fault
from tests.support.shop import PRICES, STOCK, Shop, stock, until

CHANGES = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: changes}
references: {PartNo: stock.PartNo}
columns:
  Price: {type: decimal}
record:
  PartNo: Art
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: Price
"""


@pytest.fixture
def changes(shop: Shop) -> Shop:
    """A shop whose stock files hold changes; Norce refuses A2 until the fault is cleared."""
    path = shop.mappings / "stock.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("content: full", "content: changes"), encoding="utf-8")
    shop.sandbox.inject(Fault(kind="refuse", keys=("A2",), times=0))
    return shop


def quantities(shop: Shop) -> dict[str, float]:
    return {key.split("|")[0]: float(row["OnhandValue"]) for key, row in shop.sandbox.records(STOCK).items()}


def test_what_was_refused_goes_with_the_next_file(changes: Shop) -> None:
    """The record is sent again with a file that does not mention it, refused again, and taken at last."""
    changes.drop(stock(("A1", "5"), ("A2", "5")))
    assert changes.once().run["failed"] == 1
    changes.drop(stock(("A3", "5")))
    again = changes.once()
    assert (again.status, again.run["rows"], again.run["records_sent"], again.run["failed"]) == (5, 1, 2, 1)
    changes.sandbox.faults.clear()
    changes.drop(stock(("A4", "5")))
    assert changes.once().run["records_sent"] == 2
    assert quantities(changes) == dict.fromkeys(("A1", "A2", "A3", "A4"), 5.0)


def test_a_newer_value_replaces_a_pending_one(changes: Shop) -> None:
    """Only the newest value of a refused record is sent, once."""
    changes.drop(stock(("A2", "5"), ("A1", "1")))
    changes.once()
    changes.sandbox.faults.clear()
    changes.drop(stock(("A2", "7")))
    assert changes.once().run["records_sent"] == 1
    assert quantities(changes) == {"A1": 1.0, "A2": 7.0}


def test_a_record_that_is_refused_again_names_the_line_that_brought_it(changes: Shop) -> None:
    """Over two later files, in `etl show`, its JSON, the report and the page; a newer file that says it anew is named
    then."""
    changes.drop(stock(("A1", "5"), ("A2", "5")), "stock_1.csv")
    first = changes.once().run["run"]
    for name, rows in (("stock_2.csv", [("A3", "5")]), ("stock_3.csv", [("A4", "5"), ("A5", "5")])):
        changes.drop(stock(*rows), name)
        again = changes.once().run["run"]
        (refusal,) = changes.etl("show", again, "--json").json["record_errors"]
        assert (refusal["file"], refusal["run"], refusal["row"]) == ("stock_1.csv", first, 3)
        assert "stock_1.csv, row 3: A2 / W1 / L1: " in changes.etl("show", again).out
        assert json.loads((changes.archive(again) / "report.json").read_text())["record_errors"] == [refusal]
        assert (
            '<td class="key">stock_1.csv</td><td class="n">3</td>'
            in (changes.archive(again) / "report.html").read_text()
        )
    changes.drop(stock(("A6", "5"), ("A2", "6")), "stock_4.csv")
    last = changes.once().run["run"]
    (refusal,) = changes.etl("show", last, "--json").json["record_errors"]
    assert (refusal["file"], refusal["run"], refusal["row"]) == ("stock_4.csv", last, 3)
    assert "  row 3: A2 / W1 / L1: " in changes.etl("show", last).out


def test_a_record_that_failed_alone_names_the_line_that_brought_it(changes: Shop) -> None:
    """Refused with the request as a whole: its record is the only one of it."""
    changes.drop(stock(("A1", "5"), ("A2", "5")), "stock_1.csv")
    changes.once()
    changes.sandbox.faults.clear()
    changes.sandbox.inject(Fault(kind="invalid", keys=("A2",), times=0, name_row=False))
    changes.drop(stock(("A3", "5")), "stock_2.csv")
    (refusal,) = changes.etl("show", changes.once().run["run"], "--json").json["record_errors"]
    assert (refusal["file"], refusal["row"]) == ("stock_1.csv", 3)


def test_once_sends_what_is_pending_when_nothing_new_has_come(changes: Shop) -> None:
    """Each `etl once` tries again, once, by itself; when all is taken there is nothing to do."""
    changes.drop(stock(("A1", "5"), ("A2", "5")))
    changes.once()
    still = changes.once()
    assert (still.status, still.run["kind"], still.run["records_sent"], still.run["failed"]) == (5, "flush", 1, 1)
    changes.sandbox.faults.clear()
    taken = changes.once()
    assert (taken.status, taken.run["rows"], taken.run["records_sent"]) == (0, 0, 1)
    assert quantities(changes) == {"A1": 5.0, "A2": 5.0}
    assert changes.once().json == {"runs": []}


def test_a_failed_request_goes_again_by_itself(changes: Shop) -> None:
    """The records of a failed job are pending like failed records."""
    changes.sandbox.faults.clear()
    changes.sandbox.inject(Fault(kind="job_failed", times=2))
    changes.drop(stock(("A1", "5")))
    assert changes.once().status == 5
    assert changes.once().status == 0
    assert quantities(changes) == {"A1": 5.0}


def test_what_waits_for_a_reference_outlives_the_next_file(shop: Shop) -> None:
    """A price that came before its product goes when the product is there, although newer files have come between."""
    shop.mapping(CHANGES, "prices.yaml")
    shop.drop("Art,Price\nA1,10\nA2,11\n", "prices_1.csv")
    assert shop.once().run["blocked"] == 2
    shop.drop("Art,Price\nA1,12\n", "prices_2.csv")
    assert shop.once().run["blocked"] == 2
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    shop.once()
    until(lambda: shop.claimed() == [])
    prices = {key.split("|")[0]: float(row["PriceSale"]) for key, row in shop.sandbox.records(PRICES).items()}
    assert prices == {"A1": 12.0, "A2": 11.0}
