"""A full file that a newer one has overtaken is filed away before the newer one's run ends, whatever the disk does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.model.runs import Run
from etl.runs.lifecycle import RunLifecycle
from etl.sandbox import SandboxSettings, run_in_thread
from tests.support.sandbox_client import Near
from tests.support.shop import SECRET, STOCK, STOCK_MAPPING, stock


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Near]:
    """A shop whose commands run in this process."""
    with run_in_thread(SandboxSettings(client_secret=SECRET)) as live:
        opened = Near(tmp_path / "shop", live)
        opened.mapping(STOCK_MAPPING)
        yield opened
        opened.close()


def test_an_older_file_that_could_not_be_filed_away_never_comes_back(
    near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer run stays open with it: once that had ended, nothing would say which of the two is older."""
    older, newer = near.drop(stock(("A1", "1")), "stock_1.csv"), near.drop(stock(("A1", "2")), "stock_2.csv")
    for moment, path in ((1_700_000_000, older), (1_700_000_060, newer)):
        os.utime(path, (moment, moment))

    def refuse(self: RunLifecycle, run: Run, reason: str) -> Run:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(RunLifecycle, "supersede", refuse)
        failed = near.once()
    assert failed.status == 1
    assert "error[state-" in failed.err
    again = near.once()
    assert again.status == 0
    assert {(run["file"], run["state"]) for run in again.json["runs"]} == {
        ("stock_1.csv", "superseded"),
        ("stock_2.csv", "completed"),
    }
    assert [int(record["OnhandValue"]) for record in near.sandbox.records(STOCK).values()] == [2]
    assert near.claimed() == []
