"""A shop's state folder with one file damaged, over and over: `python -m tests.corruption.walk`, the work of `make
torn`.

A folder is made by real runs, once closed in peace and once left behind by a killed process. Each variant damages one
file of a copy, puts the sandbox back to what it had then, and drops a file in which everything that ever changed has
its first value again: whoever believes an older *accepted* sends nothing, and the catalogue shows it. Either the
command refuses, and then what `etl state verify` advises leads to the right catalogue, or it is right at once.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from etl.apply import scheduler
from etl.sandbox import Fault, SandboxSettings, run_in_thread
from tests.support.in_process_shop import InProcessShop
from tests.support.shop import SECRET, STOCK, STOCK_MAPPING, stock, until

FIRST = {f"A{n:02}": n for n in range(40)}
SECOND = FIRST | {"A00": 100, "A01": 101, "A40": 40}
THIRD = SECOND | {"A02": 102, "A03": 103, "A41": 41}
#: What is dropped into the damaged shop: the first values of everything.
LAST = FIRST | {"A40": 1, "A41": 1}

SHELF = STOCK_MAPPING.replace("feed: stock", "feed: shelf").replace("stock*", "shelf*").replace("W1", "W2")

#: A feed of changes, with a record that Norce did not take: it is owed, and goes with the feed's next file.
RACK = (STOCK_MAPPING.replace("feed: stock", "feed: rack").replace("stock*", "rack*").replace("W1", "W3")).replace(
    "content: full", "content: changes"
)
OWED = "A05"

#: The most repairs that may be needed one after the other.
REPAIRS = 4


class Wrong(AssertionError):
    """Wrong in silence, or without a way out."""


def export(values: dict[str, int]) -> str:
    return stock(*((part, str(quantity)) for part, quantity in values.items()))


class Workshop:
    """The shop, its snapshots, and what the sandbox had when each was taken."""

    def __init__(self, root: Path, live: Any) -> None:
        self.live, self.root = live, root
        self.shop = InProcessShop(root / "shop", live)
        self.shop.mapping(STOCK_MAPPING)
        self.shop.mapping(SHELF, "shelf.yaml")
        self.shop.mapping(RACK, "rack.yaml")
        self._kept: dict[str, Any] = {}
        self._make()

    def _make(self) -> None:
        shop = self.shop
        for number, values in enumerate((FIRST, SECOND), 1):
            shop.drop(export(values), f"stock_{number}.csv")
            assert shop.once().status == 0
        self.live.sandbox.inject(Fault(kind="refuse", keys=(OWED,), message="not today", times=1))
        shop.drop(export({OWED: 5, "A06": 6}), "rack_1.csv")
        assert shop.once().status == 5
        shop.drop(export(FIRST), "shelf_1.csv")
        assert shop.once().status == 0
        shop.drop("Art;Qty;Days\n" + "".join(f"A{n:02};{n if n % 2 else 'x'};3\n" for n in range(40)), "shelf_2.csv")
        assert shop.once().status == 6
        self._keep("closed")
        shop.settings(max_records=2, unfinished=1)
        self.live.sandbox.inject(Fault(kind="job_slow", delay=60.0, times=0))
        shop.drop(export(THIRD), "stock_3.csv")
        before = len(shop.imports())
        process = shop.start("once")
        until(lambda: len(shop.imports()) > before)
        process.kill()
        shop.finish(process)
        self._keep("killed")

    def _keep(self, name: str) -> None:
        sandbox = self.live.sandbox
        sandbox.finish_jobs()
        sandbox.faults.clear()
        self._kept[name] = copy.deepcopy(
            (sandbox.store.records, sandbox._jobs, sandbox._last_job_id, sandbox.tokens.expiry_times)
        )
        shutil.copytree(self.shop.state, self.root / name)

    def put_back(self, name: str) -> None:
        """Shop and sandbox as they were."""
        shop, sandbox = self.shop, self.live.sandbox
        for folder in (shop.state, shop.inbox):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / name, shop.state)
        shop.inbox.mkdir()
        with sandbox._lock:
            sandbox._initialize()
            records, jobs, last, tokens = copy.deepcopy(self._kept[name])
            sandbox.store.records, sandbox._last_job_id, sandbox.tokens.expiry_times = records, last, tokens
            sandbox._jobs.update(jobs)

    def files(self, name: str) -> list[str]:
        """What the program's own files are called in a snapshot."""
        root = self.root / name
        skipped = ("lock", "ledger.sqlite-shm")
        paths = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size)
        return [
            str(path)
            for path in paths
            if path.name not in skipped and path.parts[0] != "claimed" and path.suffix not in (".csv", ".html")
        ]

    def owed(self) -> bool:
        """Whether the catalogue lacks a pending value."""
        return not any(key.startswith(f"{OWED}|W3|") for key in self.live.sandbox.records(STOCK))

    def right(self) -> bool:
        """Whether the catalogue says what the last file says."""
        return self.quantities() == LAST

    def quantities(self) -> dict[str, int]:
        """What the catalogue says of the parts of the feed that is damaged."""
        records = {tuple(key.split("|")[:2]): record for key, record in self.live.sandbox.records(STOCK).items()}
        return {part: int(record["OnhandValue"]) for (part, place), record in records.items() if place == "W1"}


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """One file is not what it was."""
    data = bytearray(path.read_bytes())
    match kind:
        case "gone":
            path.unlink()
            return
        case "cut":
            whole = len(data) // 512
            data = data[: 512 * chance.randrange(whole + 1) if chance.random() < 0.7 else chance.randrange(len(data))]
        case "flip":
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "zeros":
            start = chance.randrange(len(data))
            data[start : start + 512] = bytes(min(512, len(data) - start))
        case "more":
            data += chance.randbytes(chance.randrange(1, 600))
    path.write_bytes(data)


def play(on: Workshop, name: str, file: str, kind: str, chance: random.Random) -> str:
    """One variant; "started", "refused" or "untouched". Raises Wrong."""
    on.put_back(name)
    path = on.shop.state / file
    before = path.read_bytes()
    damage(path, kind, chance)
    if path.exists() and path.read_bytes() == before:
        return "untouched"
    on.shop.drop(export(LAST), "stock_9.csv")
    on.shop.drop(export({"A06": 7}), "rack_9.csv")
    where = f"{name} {file} {kind}"
    outcome = "started"
    for _ in range(REPAIRS):
        done = on.shop.etl("once")
        if done.status == 3 or "Traceback" in done.err or "error[defect]" in done.err:
            raise Wrong(f"{where}: a defect\n{done.err}")
        if "error[" not in done.err:
            break
        outcome = "refused"
        if "error[state" not in done.err or "hint:" not in done.err:
            raise Wrong(f"{where}: refused without a way out\n{done.err}")
        advised = on.shop.etl("state", "verify", "--json").json["problems"]
        if not advised:
            raise Wrong(f"{where}: refused, and nothing to repair\n{done.err}")
        words = advised[0]["repair"].partition(";")[0].split()
        repaired = on.shop.etl(*words[1:])
        if repaired.status != 0:
            raise Wrong(f"{where}: {' '.join(words)} failed\n{repaired.err}")
    else:
        raise Wrong(f"{where}: not repaired after {REPAIRS} commands\n{done.err}")
    if not on.right():
        on.shop.drop(export(LAST), "stock_9.csv")  # the repair said that it takes the next file
        again = on.shop.etl("once")
        if outcome == "started" or not on.right():
            raise Wrong(f"{where}: {outcome}, and the catalogue is wrong\n{done.err}\n{again.err}")
    if outcome == "started" and on.owed():
        raise Wrong(f"{where}: what was owed is lost in silence\n{done.err}")
    return outcome


def variants(on: Workshop, count: int, seed: int) -> Iterator[tuple[str, str, str, random.Random]]:
    """Files of both snapshots and ways of damage in turn, until there are enough."""
    chance = random.Random(seed)
    made = 0
    while True:
        all_of_them = [
            (name, file, kind)
            for name in ("closed", "killed")
            for file in on.files(name)
            for kind in ("cut", "flip", "gone", "zeros", "more")
        ]
        chance.shuffle(all_of_them)
        for name, file, kind in all_of_them:
            if made == count:
                return
            made += 1
            yield name, file, kind, random.Random(chance.random())


@contextmanager
def workshop(root: Path) -> Iterator[Workshop]:
    """A shop with its sandbox; pauses between questions are short."""
    before = scheduler.MIN_POLL_DELAY, scheduler.MAX_POLL_DELAY
    scheduler.MIN_POLL_DELAY = scheduler.MAX_POLL_DELAY = 0.02
    try:
        with run_in_thread(SandboxSettings(client_secret=SECRET, requests=100_000, token_requests=100_000)) as live:
            on = Workshop(root, live)
            yield on
            on.shop.said.clear()
            on.shop.close()
    finally:
        scheduler.MIN_POLL_DELAY, scheduler.MAX_POLL_DELAY = before


def walk(count: int, seed: int, share: int, shares: int) -> tuple[Counter[str], list[str]]:
    """Every variant of one share, in a workshop of its own: how they came out, and what went wrong."""
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder, workshop(Path(folder)) as on:
        for name, file, kind, chance in islice(variants(on, count, seed), share, None, shares):
            try:
                outcomes[play(on, name, file, kind, chance)] += 1
            except Wrong as error:
                wrong.append(str(error))
                print(error, flush=True)
            on.shop.said.clear()
    return outcomes, wrong


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--count", type=int, default=1000)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--workers", type=int, default=max(1, multiprocessing.cpu_count() or 2))
    asked = words.parse_args()
    begun = time.monotonic()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    with ProcessPoolExecutor(asked.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = [pool.submit(walk, asked.count, asked.seed, share, asked.workers) for share in range(asked.workers)]
        for share in shares:
            counted, errors = share.result()
            outcomes += counted
            wrong += errors
    took = time.monotonic() - begun
    print(f"{outcomes.total() + len(wrong)} variants: {dict(outcomes)}, wrong {len(wrong)}; {took:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
