"""`make restart-loop`: files are worked by `etl run` while it is killed and stopped again and again.

Nothing may be missing in the end, and what was sent twice may be no more than what was in flight at the kills: the
records of requests of which the ledger did not know the job yet. A stop is not a kill: it resends nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etl.model.runs import ChunkState
from etl.sandbox import SandboxSettings
from etl.state.ledger.facade import Ledger
from tests.support.shop import SECRET, STOCK, Shop, open_shop, until

#: With `own: false` no file is merged into the next one: how many records have to be sent is known then.
MAPPING = """
feed: stock
operation: Product/ImportOnhands
source: {files: "stock_*.csv", content: changes}
columns: {part: {type: text, required: true}, value: {type: decimal}}
record:
  PartNo: part
  WarehouseCode: {value: W1}
  LocationCode: {value: L1}
  OnhandValue: value
  LeadTimeDayCount: {value: 3, own: false}
"""

#: Records of a request, and requests before which a blow falls at the latest.
SIZE, LATEST = 500, 14


@dataclass(frozen=True)
class Bounced:
    """How it ended."""

    files: int
    records: int  #: that had to be sent
    kills: int
    stops: int
    missing: int  #: records that are not in the catalogue as the newest file says
    sent: int  #: records of all requests that Connect took
    in_flight: int  #: records that were in doubt after the kills
    seconds: float

    @property
    def resent(self) -> int:
        return self.sent - self.records

    def __str__(self) -> str:
        return (
            f"{self.files} files, {self.records} records; {self.kills} times SIGKILL, {self.stops} times SIGTERM; "
            f"{self.missing} missing, {self.resent} sent twice, {self.in_flight} were in flight at the kills; "
            f"{self.seconds:.0f} s"
        )


def bounce(root: Path, files: int, rows: int, blows: int, seed: int = 1) -> Bounced:
    """`blows`: so many of each kind, in random order and at random moments."""
    chance = random.Random(seed)
    begun = time.monotonic()
    quick = SandboxSettings(client_secret=SECRET, requests=100_000, token_requests=10_000, token_burst=10_000)
    with open_shop(root, quick) as shop:
        shop.settings(requests=5000, max_records=SIZE)
        shop.mapping(MAPPING)
        shop.ear = subprocess.DEVNULL
        wanted = _drop(shop, files, rows)
        signals = [signal.SIGKILL, signal.SIGTERM] * blows
        chance.shuffle(signals)
        in_flight = 0
        for blow in signals:
            process = shop.start("run")
            _wait(shop, chance.randrange(LATEST))  # 0: while it is still starting
            process.send_signal(blow)
            status = shop.finish(process).status
            assert status in ((-blow,) if blow == signal.SIGKILL else (0, -blow))
            if blow == signal.SIGKILL:
                in_flight += _in_doubt(shop)
        last = shop.start("run")
        until(lambda: len(list(shop.state.glob("archive/*/*/report.json"))) >= files and not shop.claimed(), 3600)
        last.send_signal(signal.SIGTERM)
        assert shop.finish(last).status == 0
        shop.sandbox.finish_jobs()
        held = {key.split("|")[0]: record["OnhandValue"] for key, record in shop.sandbox.records(STOCK).items()}
        return Bounced(
            files=files,
            records=files * rows,
            kills=blows,
            stops=blows,
            missing=sum(held.get(part) != value for part, value in wanted.items()),
            sent=sum(seen.items for seen in shop.imports() if seen.job is not None),
            in_flight=in_flight,
            seconds=time.monotonic() - begun,
        )


def _drop(shop: Shop, files: int, rows: int) -> dict[str, int]:
    """The files: each shares half of its parts with the one before it, and no value comes twice."""
    wanted: dict[str, int] = {}
    for number in range(files):
        parts = [f"P{number * rows // 2 + row:06}" for row in range(rows)]
        says = {part: number * rows + row + 1 for row, part in enumerate(parts)}
        wanted |= says
        text = "part,value\n" + "".join(f"{part},{value}\n" for part, value in says.items())
        path = shop.drop(text, f"stock_{number:03}.csv")
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    return wanted


def _wait(shop: Shop, requests: int) -> None:
    """Until so many more requests were seen, or nothing comes any more."""
    before = len(shop.sandbox.requests())
    quiet: Callable[[], bool] = lambda: not shop.claimed() and not any(shop.inbox.iterdir())  # noqa: E731
    until(lambda: len(shop.sandbox.requests()) >= before + requests or quiet(), 300)


def _in_doubt(shop: Shop) -> int:
    with Ledger.open(shop.state) as ledger:
        return sum(
            chunk.records
            for run in ledger.runs.list_open()
            for chunk in ledger.chunks.list_by_run(run.id)
            if chunk.state is ChunkState.SENDING
        )


def main() -> int:
    """The long version, with its figures."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--files", type=int, default=50)
    words.add_argument("--rows", type=int, default=2000)
    words.add_argument("--blows", type=int, default=20, help="of each kind")
    words.add_argument("--seed", type=int, default=1)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="etl-bounce-") as folder:
        found = bounce(Path(folder) / "shop", asked.files, asked.rows, asked.blows, asked.seed)
    print(found)
    return 0 if found.missing == 0 and found.resent <= found.in_flight else 1


if __name__ == "__main__":
    sys.exit(main())
