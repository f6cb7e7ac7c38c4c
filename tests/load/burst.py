"""`make burst`: very many files come while the process stands still, and every one of them is worked or overtaken.

Half of them are full exports, of which only the newest counts; the events of the file system that nobody read are
more than its queue holds, so only a scan can find them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from etl.model.runs import RunState
from etl.sandbox import SandboxSettings
from etl.state.ledger.database import IN_JSON
from etl.state.ledger.facade import Ledger
from etl.state.ledger.runs import FINAL_RUN_STATES
from tests.support.shop import SECRET, STOCK, Shop, open_shop, until

MAPPING = """
feed: stock
operation: Product/ImportOnhands
source: {files: "stock_*.csv", content: full}
columns: {part: {type: text, required: true}, value: {type: decimal}}
record:
  PartNo: part
  WarehouseCode: {value: W1}
  LocationCode: {value: L1}
  OnhandValue: value
"""


@dataclass(frozen=True)
class Stormed:
    """How it ended."""

    files: int
    archived: int
    left: int  #: files that are not filed away
    runs: dict[str, int]
    value: float  #: of the one part that all files speak of
    through: float  #: seconds from SIGCONT until Connect had what the newest file says
    before: int  #: files that had been filed away by then
    seconds: float  #: from SIGCONT to the last file filed away
    per_file: float  #: milliseconds

    def __str__(self) -> str:
        return (
            f"{self.files} files while stopped: {self.archived} filed away ({self.runs}), {self.left} left; the newest "
            f"was through after {self.through:.0f} s, {self.before} files were filed away by then; all of them after "
            f"{self.seconds:.0f} s, {self.per_file:.1f} ms each"
        )


def storm(root: Path, files: int, patience: float = 7200) -> Stormed:
    """Files of one full feed while `etl run` is stopped by SIGSTOP."""
    quick = SandboxSettings(client_secret=SECRET, requests=100_000, token_requests=10_000, token_burst=10_000)
    with open_shop(root, quick) as shop:
        shop.settings(requests=5000)
        shop.mapping(MAPPING)
        shop.ear = subprocess.DEVNULL
        process = shop.start("run")
        shop.drop("part,value\nA1,0\n", "stock_000000.csv")
        until(lambda: len(list(shop.state.glob("archive/*/*/report.json"))) == 1)
        process.send_signal(signal.SIGSTOP)
        for number in range(1, files + 1):
            path = shop.drop(f"part,value\nA1,{number}\n", f"stock_{number:06}.csv")
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        begun = time.monotonic()
        process.send_signal(signal.SIGCONT)
        until(lambda: _value(shop) == files, patience)
        through, before = time.monotonic() - begun, len(_filed(shop))
        with Ledger.open(shop.state) as ledger:
            until(lambda: _ended(ledger) > files and not shop.claimed(), patience)
            seconds = time.monotonic() - begun
            process.send_signal(signal.SIGTERM)
            assert shop.finish(process).status == 0
            runs = ledger.runs.list_recent(files + 10)
        shop.sandbox.finish_jobs()
        archived = len(_filed(shop)) - 1
        return Stormed(
            files=files,
            archived=archived,
            left=len(list(shop.inbox.iterdir())) + len(shop.claimed()),
            runs={state.value: n for state in RunState if (n := sum(run.state is state for run in runs))},
            value=_value(shop),
            through=through,
            before=before,
            seconds=seconds,
            per_file=seconds / files * 1000,
        )


def _value(shop: Shop) -> float:
    """What Connect has."""
    return float(shop.sandbox.records(STOCK)["A1|W1|L1"]["OnhandValue"])


def _filed(shop: Shop) -> list[Path]:
    return list(shop.state.glob("archive/*/*/source/stock_*.csv"))


def _ended(ledger: Ledger) -> int:
    with ledger.database.read() as db:
        return int(db.scalar(f"SELECT count(*) FROM runs WHERE state {IN_JSON}", FINAL_RUN_STATES))


def main() -> int:
    """The long version, with its figures."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--files", type=int, default=30_000)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="etl-storm-") as folder:
        found = storm(Path(folder) / "shop", asked.files)
    print(found)
    return 0 if found.archived == found.files and not found.left and found.value == found.files else 1


if __name__ == "__main__":
    sys.exit(main())
