"""A real ledger, rate limiter and HTTP client before a real sandbox; only the feed's plan is made by hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from etl.apply import sender
from etl.apply.job_log import RecordIdentity
from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings, LimitSettings
from etl.connect.client import ConnectClient
from etl.connect.http_exchange import HttpOptions
from etl.connect.job_events import JobEvents
from etl.connect.rate_limiter import RateLimiter, RateLimits
from etl.model.runs import Chunk, Counts, Run, RunState
from etl.sandbox import Sandbox, SandboxSettings, run_in_thread
from etl.shutdown import ShutdownEvent
from etl.state.ledger.facade import Ledger

STOCK, PRICES = "Product/ImportOnhands", "Product/ImportSkuPriceLists"
HEADERS: dict[str, dict[str, Any]] = {
    STOCK: {"FullFile": False, "SkuOnhandFieldsThatAreSet": [3]},
    PRICES: {"FullFile": False, "SkuPriceListFieldsThatAreSet": [3]},
}


#: Seconds for which the client waits for a response.
RESPONSE_TIMEOUT = 2.0


def parts(start: int, count: int) -> list[str]:
    """Part numbers P-0001, P-0002, ..."""
    return [f"P-{number:04}" for number in range(start, start + count)]


class Stage:
    """One run of stock chunks against a sandbox."""

    def __init__(self, state: Path, sandbox: Sandbox, url: str, secret: str = "sandbox", **limits: Any) -> None:
        self.state, self.sandbox = state, sandbox
        self.limits = LimitSettings(**{"requests": 1000, "per_seconds": 6.0, "lost_answer_seconds": 0.5, **limits})
        self.settings = ConnectSettings(
            base_url=url, scope="playground", application_id=7, account_id=11, client_id="sandbox"
        )
        self.ledger = Ledger.open(state, target=self.settings.target)
        self.stop = ShutdownEvent()
        self.tidings, self.poll_scale = JobEvents(), 0.02
        self.gate = RateLimiter(
            self.ledger.database,
            limits=RateLimits(self.limits.requests, self.limits.per_seconds, {"token": 50}),
            is_stopped=self.stop.is_set,
            sleep=self.stop.wait,
        )
        http = HttpOptions(timeout=httpx.Timeout(RESPONSE_TIMEOUT))
        self.connect = ConnectClient(self.settings, Secret(secret), self.gate, self.ledger.tokens, http=http)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.keys: dict[tuple[str, int], list[str]] = {}
        self.urgent: set[str] = set()

    def close(self) -> None:
        self.connect.close()
        self.ledger.close()

    def plan(
        self, *chunks: Sequence[str], run: str = "r1", feed: str = "stock", value: int = 5, operation: str = STOCK
    ) -> None:
        """Open and plan a run with one chunk per sequence of part numbers, all in the first wave."""
        self.ledger.open_run(Run(run, feed, operation, "stock.csv", "0" * 64, RunState.CLAIMED))
        self.fill(run, *chunks, value=value, operation=operation)

    def fill(self, run: str, *chunks: Sequence[str], value: int = 5, operation: str = STOCK) -> None:
        """Plan an open run."""
        made = []
        for number, names in enumerate(chunks, 1):
            if operation == STOCK:
                more = {"WarehouseCode": "W1", "LocationCode": "L1", "OnhandValue": value}
            else:
                more = {"PriceListCode": "B2C", "PriceSale": value}
            rows = [{"PartNo": name, **more} for name in names]
            data = json.dumps(rows).encode()
            payload = self.state / f"{run}-{number}.json"
            payload.write_bytes(data)
            self.keys[run, number] = list(names)
            digest = hashlib.sha256(data).hexdigest()
            header, size = HEADERS[operation], len(rows)
            made.append(Chunk(run, number, 1, operation, header, payload, digest, size, size, origin_chunk=number))
        self.ledger.save_plan(run, Counts(rows=sum(map(len, chunks))), made)

    def records_of(self, chunk: Chunk) -> list[RecordIdentity]:
        keys = self.keys[chunk.run, chunk.origin_chunk]
        return [RecordIdentity(keys[index], (keys[index], "W1", "L1"), index + 2) for index in chunk.indexes]

    def go(self, *runs: str, patience: float | None = 5.0) -> bool:
        """Carry runs out side by side (r1 when none is named); quick questions. False when stopped before the end."""
        left = set(runs or ("r1",))
        with self.flight(patience) as flight:
            for run in sorted(left):
                flight.add(run, urgent=run in self.urgent)
            while left and not self.stop.is_set():
                flight.result_ready.wait(0.05)
                flight.result_ready.clear()
                for landing in flight.take_finished():
                    if landing.error is not None:
                        raise landing.error
                    left.remove(landing.run_id)
        return not left

    def flight(self, patience: float | None = 5.0) -> sender.Sender:
        """Not started yet."""
        return sender.Sender(
            ledger=self.ledger,
            connect=sender.ConnectServices(client=self.connect, rate_limiter=self.gate, job_events=self.tidings),
            read_chunk_records=self.records_of,
            shutdown=self.stop,
            emit=lambda name, /, **facts: self.events.append((name, facts)),
            options=sender.SenderOptions(
                limits=self.limits, timeout=patience, poll_scale=self.poll_scale, rng=random.Random(1)
            ),
        )

    def stored(self, operation: str = STOCK) -> set[str]:
        """Part numbers that the sandbox has stock, or prices, of."""
        return {key.split("|")[0] for key in self.sandbox.records(operation)}

    def accepted(self, feed: str = "stock") -> set[str]:
        """Keys that the ledger counts as accepted."""
        return {
            self.keys[overlay.run, part.origin_chunk][index]
            for overlay in self.ledger.feeds.overlays(feed)
            for part in overlay.ranges
            for index in part.indexes
        } - {key for overlay in self.ledger.feeds.overlays(feed) for part in overlay.ranges for key in part.failed_keys}

    def states(self, run: str = "r1") -> list[str]:
        return [chunk.state.value for chunk in self.ledger.chunks.list_by_run(run)]

    def posts(self) -> int:
        """Import requests that the sandbox saw."""
        return sum(seen.path.endswith(STOCK) for seen in self.sandbox.requests())


@contextlib.contextmanager
def stage(state: Path, settings: SandboxSettings | None = None, **more: Any) -> Iterator[Stage]:
    """A stage with its sandbox running."""
    quick = settings or SandboxSettings(requests=1000)
    with run_in_thread(quick) as live:
        built = Stage(state, live.sandbox, live.url, **more)
        try:
            yield built
        finally:
            built.close()
