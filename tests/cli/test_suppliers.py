"""What a supplier sees, and what a person is told of it."""

from __future__ import annotations

import csv
import io
import os
from datetime import UTC, datetime, timedelta

from etl.state.ledger.alerts import AlertStore
from etl.state.ledger.facade import Ledger
from tests.support.shop import STOCK_MAPPING, Shop, stock

FEEDBACK = STOCK_MAPPING.replace('"stock*.csv"', '"acme/*.csv"') + "feedback: true\n"


def test_rejected_rows_come_back(shop: Shop) -> None:
    """Beside the file, without formulas, readable for the group, never taken for an export, gone when all is well."""
    shop.mapping(FEEDBACK)
    shop.drop(stock(("A1", "5"), ("A2", "=2+5")), "acme/stock.csv")
    trap = shop.inbox / "acme" / "stock.csv.rejections.csv"
    victim = shop.root / "victim"
    victim.write_text("mine")
    trap.symlink_to(victim)
    done = shop.once()
    assert done.status == 4
    assert victim.read_text() == "mine"
    assert not trap.is_symlink()
    assert trap.stat().st_mode & 0o777 == 0o640
    (row,) = csv.DictReader(io.StringIO(trap.read_text(encoding="utf-8-sig"), newline=""))
    assert (row["row"], row["column"], row["value"]) == ("3", "Qty", "'=2+5")
    assert shop.once().json == {"runs": []}
    shop.drop(stock(("A1", "5"), ("A2", "7")), "acme/stock.csv")
    assert shop.once().status == 0
    assert os.listdir(shop.inbox / "acme") == []


def test_a_refused_file_comes_back_as_a_sentence(shop: Shop) -> None:
    """One line with code, sentence and hint."""
    shop.mapping(FEEDBACK)
    shop.drop("Art;Days\nA1;3\n", "acme/stock.csv")
    assert shop.once().status == 1
    said = (shop.inbox / "acme" / "stock.csv.rejections.csv").read_text(encoding="utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(said, newline=""))
    assert (row["code"], row["row"]) == ("missing-column", "")
    assert row["hint"]


def test_a_late_file_shows_in_status(shop: Shop) -> None:
    """`etl status --strict` ends with 1 while it is late, whoever asks, and with 0 when it has come."""
    with Ledger.open(shop.state) as ledger:  # the mapping has been there since yesterday
        AlertStore(ledger.database).save_expectations(
            {"stock": ("every 5 hours", None)}, datetime.now(UTC) - timedelta(days=1)
        )
    shop.mapping(STOCK_MAPPING + 'expect: "every 5 hours"\n')
    quiet = shop.once()
    assert quiet.status == 0
    assert quiet.err.count('"alert_raised"') == 1
    assert shop.once().err.count('"alert_raised"') == 0
    late = shop.etl("status", "--strict")
    assert late.status == 1
    assert "has not arrived (every 5 hours)" in late.out
    assert shop.etl("status").status == 0
    shop.drop(stock(("A1", "5")))
    assert shop.once().status == 0
    done = shop.etl("status", "--strict", "--json")
    assert (done.status, done.json["alerts"]) == (0, [])
