"""A small customer's day two: five files for three feeds over what day one had accepted, and what must come of it.

`erp_1.csv` feeds two feeds, the others one each. The prices come in three files of changes: the second one takes along
what the first one brings, the third one cannot, because it spells a key in another case. One price is always refused by
name, one row is always rejected. The oracle is the same day without any trouble.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.model.columns import KEY
from etl.model.runs import PROCESSED_STATES, RunState
from etl.sandbox import Fault, RunningSandbox, SandboxSettings, payload_validation, run_in_thread
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted

STOCK, PRICES, PRODUCTS = "Product/ImportOnhands", "Product/ImportSkuPriceLists", "Product/ImportProducts"
FEEDS = {"stock": STOCK, "prices": PRICES, "products": PRODUCTS}

MAPPINGS = {
    "stock.yaml": """
feed: stock
operation: Product/ImportOnhands
source: {files: ["erp_*.csv", "stock_*.csv"], content: full}
columns:
  part: {type: text, required: true}
  quantity: {type: decimal}
record:
  PartNo: part
  WarehouseCode: {value: W1}
  LocationCode: {value: L1}
  OnhandValue: quantity
gone: deactivate
""",
    "prices.yaml": """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: ["erp_*.csv", "prices_*.csv"], content: changes}
columns:
  price: {type: decimal}
record:
  PartNo: part
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: price
""",
    "products.yaml": """
feed: products
operation: Product/ImportProducts
source: {files: "products*.csv", content: full}
record:
  ManufacturerCode: maker
  ManufacturerName: maker
  Cultures:
    sv-SE: {Name: name}
  Variants:
    rows:
      ManufacturerPartNo: part
      Skus:
        - PartNo: part
          Status: {value: Active}
          Type: {value: ErpStandard}
""",
}

DAY_ONE = {
    "erp_1.csv": "part,quantity,price\nA1,5,10\nA2,6,11\nA3,7,12\n",
    "products.csv": "part,maker,name\nA1,M,one\nA2,M,two\n",
}
DAY_TWO = {
    "erp_1.csv": "part,quantity,price\nA1,8,13\nA2,6,14\nA3,9,12\nA4,many,15\n",
    "products.csv": "part,maker,name\nA1,M,ett\nA2,M,two\nA3,M,three\n",
    "stock_2.csv": "part,quantity\nA1,9\nA3,9\nA5,2\n",
    "prices_2.csv": "part,price\nA3,16\nA1,17\n",
    "prices_3.csv": "part,price\na1,18\n",
}
REFUSED = Fault(kind="refuse", path="ImportSkuPriceLists", keys=("A2",), times=0, message="not today")


@dataclass(frozen=True)
class Outcome:
    """What can be seen from outside when all is over. Two days with equal outcomes ended alike."""

    catalogue: dict[str, Any]
    accepted: dict[str, Any]
    runs: list[tuple[str, str, str]]
    refused: list[tuple[str, str]]
    archived: list[str]
    left: list[str]


class Life:
    """How one process ended."""

    def __init__(self, status: int, out: str, err: str, points: int, seen: list[str]) -> None:
        self.status, self.out, self.err, self.points, self.seen = status, out, err, points, seen


class Theatre:
    """One sandbox, one launcher, and a stage that can be set as it was after day one."""

    def __init__(self, root: Path, live: RunningSandbox) -> None:
        self.root, self.live = root.resolve(), live
        self.template, self.stage = self.root / "template", self.root / "stage"
        self.launcher = subprocess.Popen(
            [sys.executable, "-B", str(Path(__file__).with_name("launcher.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.usual = 0  #: requests of an undisturbed day
        self._prepare()

    def close(self) -> None:
        assert self.launcher.stdin is not None
        self.launcher.stdin.close()
        self.launcher.wait(10)
        assert self.launcher.stdout is not None
        self.launcher.stdout.close()

    def _prepare(self) -> None:
        stage = self.stage
        (stage / "mappings").mkdir(parents=True)
        (stage / "inbox").mkdir()
        for name, text in MAPPINGS.items():
            (stage / "mappings" / name).write_text(text, encoding="utf-8")
        (stage / "etl.toml").write_text(
            f'[connect]\nbase_url = "{self.live.url}"\nscope = "playground"\napplication_id = 7\naccount_id = 11\n'
            'client_id = "sandbox"\n[limits]\nlost_answer_seconds = 0.2\nrequests = 5000\nmax_records = 2\n'
            "[watch]\nsettle_seconds = 0\nrescan_seconds = 0.1\n",
            encoding="utf-8",
        )
        for name, text in DAY_ONE.items():
            (stage / "inbox" / name).write_text(text, encoding="utf-8")
        first = self.live_once()
        assert first.status == 0, first.err
        with contextlib.closing(sqlite3.connect(stage / "var" / "ledger.sqlite")) as db, db:
            db.execute("delete from tokens")  # so that fetching one is walked over as well
            db.execute("delete from permits")
        (stage / "var" / "ledger.seal").unlink(missing_ok=True)
        for number, (name, text) in enumerate(DAY_TWO.items()):
            (stage / "inbox" / name).write_text(text, encoding="utf-8")
            import os

            os.utime(stage / "inbox" / name, (1_000_000 + number, 1_000_000 + number))
        stage.rename(self.template)
        sandbox = self.live.sandbox
        self._kept = copy.deepcopy(
            (sandbox.store.records, sandbox._jobs, sandbox._last_job_id, sandbox.tokens.expiry_times)
        )

    def reset(self) -> None:
        """Day two begins."""
        shutil.rmtree(self.stage, ignore_errors=True)
        shutil.copytree(self.template, self.stage)
        sandbox = self.live.sandbox
        with sandbox._lock:
            sandbox._initialize()
            records, jobs, last, tokens = copy.deepcopy(self._kept)
            sandbox.store.records, sandbox._last_job_id, sandbox.tokens.expiry_times = records, last, tokens
            sandbox._jobs.update(jobs)
        sandbox.inject(copy.deepcopy(REFUSED))

    def live_once(self, words: tuple[str, ...] = ("once",), **order: Any) -> Life:
        """One life of `etl once`."""
        names = {name: str(self.root / name) for name in ("out", "err", "points")}
        (self.root / "points").unlink(missing_ok=True)
        assert self.launcher.stdin is not None
        assert self.launcher.stdout is not None
        self.launcher.stdin.write(json.dumps({"root": str(self.stage), "words": list(words), **names, **order}) + "\n")
        self.launcher.stdin.flush()
        status = int(json.loads(self.launcher.stdout.readline()))
        points, seen = 0, []
        if (self.root / "points").exists():
            points, seen = json.loads((self.root / "points").read_bytes())
        out, err = ((self.root / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return Life(status, out, err, points, seen)

    # -- the oracle ---------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """What is there now."""
        sandbox = self.live.sandbox
        sandbox.finish_jobs()
        state = self.stage / "var"
        catalogue = {operation: sandbox.records(operation) for operation in FEEDS.values()}
        with Ledger.open(state) as ledger:
            runs = ledger.runs.list_recent(1000)
            confirmed = {}
            for feed in FEEDS:
                frame = accepted.read(state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed))
                confirmed[feed] = sorted(json.dumps(row, default=str, sort_keys=True) for row in frame.to_dicts())
            refused = sorted(
                {(run.feed, item.key) for run in runs for item in ledger.record_errors.list_by_run(run.id)}
            )
        archived = []
        for path in (state / "archive").rglob("*.csv"):
            if path.name != "rejections.csv":
                archived.append(f"{path.name}: {path.read_text(encoding='utf-8')}")  # noqa: PERF401
        left = [
            str(path.relative_to(self.stage))
            for folder in ("inbox", "var/claimed", "var/runs", "var/accepted")
            for path in sorted((self.stage / folder).rglob("*"))
            if path.is_file() and not (folder == "var/accepted" and path.suffix == ".parquet")
        ]
        # As sets: a start sends again what Norce still refuses, so a day with more starts has more runs of one file.
        # What is merged counts as done: a start may come between a file and the next one.
        made = sorted(
            {(run.feed, run.file, "completed" if run.state in PROCESSED_STATES else run.state.value) for run in runs}
        )
        return Outcome(catalogue, confirmed, made, refused, sorted(set(archived)), left)

    def promises(self) -> None:
        """What must hold whatever happened: asserted after every recovery."""
        state = self.stage / "var"
        with Ledger.open(state) as ledger:
            assert ledger.runs.list_open() == (), "a run is still open"
            for feed, operation in FEEDS.items():
                frame = accepted.read(state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed))
                generation = ledger.feeds.generation(feed)
                files = {path.name for path in (state / "accepted" / feed).glob("*.parquet")}
                assert generation in files or generation is None, "the base that counts is gone"
                stored = {key.split("|")[0] for key in self.live.sandbox.records(operation)}
                keys = {str(key).split("\x1f")[0] for key in frame[KEY]}
                assert keys <= stored, f"{feed}: accepted {sorted(keys - stored)}, which the sandbox never took"
            for run in ledger.runs.list_recent(1000):
                if run.state in (*PROCESSED_STATES, RunState.SUPERSEDED, RunState.INVALID):
                    assert run.archive is not None
                    assert run.state is not RunState.MERGED or run.merged_into is not None, f"{run.id} was not sent"
                    kept = (run.archive / "source" / Path(run.file).name).exists()
                    assert kept or not run.has_file, f"{run.id} has no file in its archive"
                    assert json.loads((run.archive / "report.json").read_bytes())["run"] == run.id
        self.no_key_twice()

    def no_key_twice(self) -> None:
        """No key in two unfinished jobs, ever."""
        sandbox = self.live.sandbox
        new = [job for number, job in sandbox._jobs.items() if number > self._kept[2]]
        operations = sandbox.contract.operations
        for one, other in itertools.combinations(new, 2):
            if (
                one.operation_id != other.operation_id
                or other.submitted_at >= one.finish_at
                or one.submitted_at >= other.finish_at
            ):
                continue
            operation = operations[one.operation_id]
            keys = [
                {key for item in job.items for key in payload_validation.item_keys(item, operation, None)}
                for job in (one, other)
            ]
            assert not keys[0] & keys[1], f"{sorted(keys[0] & keys[1])} in jobs {one.id} and {other.id} at once"

    def sends(self) -> Counter[str]:
        """Import requests by digest that the sandbox took since day two began."""
        return Counter(seen.digest for seen in self.live.sandbox.requests() if seen.job is not None)


@contextlib.contextmanager
def theatre(root: Path) -> Iterator[Theatre]:
    """Set up and torn down."""
    with run_in_thread(SandboxSettings(requests=100_000, token_requests=10_000, token_burst=10_000)) as live:
        made = Theatre(root, live)
        try:
            yield made
        finally:
            made.close()
