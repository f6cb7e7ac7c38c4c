"""A full file that a newer one has overtaken is filed away before the newer one's run ends, whatever the disk does."""

from __future__ import annotations

import errno
import os

import pytest

from etl.model.runs import Run
from etl.runs.lifecycle import RunLifecycle
from tests.support.shop import STOCK, Shop, stock


def test_an_older_file_that_could_not_be_filed_away_never_comes_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer run stays open with it: once that had ended, nothing would say which of the two is older."""
    older, newer = shop.drop(stock(("A1", "1")), "stock_1.csv"), shop.drop(stock(("A1", "2")), "stock_2.csv")
    for moment, path in ((1_700_000_000, older), (1_700_000_060, newer)):
        os.utime(path, (moment, moment))

    def refuse(self: RunLifecycle, run: Run, reason: str) -> Run:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(RunLifecycle, "supersede", refuse)
        failed = shop.once()
    assert failed.status == 1
    assert "error[state-" in failed.err
    again = shop.once()
    assert again.status == 0
    assert {(run["file"], run["state"]) for run in again.json["runs"]} == {
        ("stock_1.csv", "superseded"),
        ("stock_2.csv", "completed"),
    }
    assert [int(record["OnhandValue"]) for record in shop.sandbox.records(STOCK).values()] == [2]
    assert shop.claimed() == []
