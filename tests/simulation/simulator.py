"""The whole program in this process: real files, real SQLite, the sandbox behind a wire without sockets, a told clock.

A *life* is the command `etl once` from start to end, to a stop, or to a sudden death at some effect. Everything the
promises speak of is kept from the outside: what was dropped, what Connect was asked, what its jobs took.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import io
import itertools
import json
import os
import re
import shutil
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlencode, urlsplit

import httpx

from etl.cli.run import once
from etl.config.settings import load_settings
from etl.connect.http_exchange import Call, HttpExchange, Response, translate_http_error
from etl.errors import EtlError, ExitStatus
from etl.ingest import scan
from etl.model.columns import KEY
from etl.model.runs import ChunkState, Run, RunState
from etl.sandbox import Sandbox, SandboxSettings, payload_validation
from etl.sandbox.http import ApiRequest
from etl.state.ledger.database import Connection, Database
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted
from tests.contract.checked_sandbox import check_requests
from tests.support.fake_clock import Clock, telling

STOCK, PRICES = "Product/ImportOnhands", "Product/ImportSkuPriceLists"
OPERATION = {"stock": STOCK, "prices": PRICES}
VALUE = {"stock": "OnhandValue", "prices": "PriceSale"}

MAPPING = {
    "stock": """
feed: stock
operation: Product/ImportOnhands
source: {{files: "stock_*.csv", content: full}}
columns: {{part: {{type: text, required: true}}, value: {{type: decimal}}}}
record:
  PartNo: part
  WarehouseCode: {{value: W1}}
  LocationCode: {{value: L1}}
  OnhandValue: value
  LeadTimeDayCount: {{value: {edition}}}
gone: deactivate
""",
    "prices": """
feed: prices
operation: Product/ImportSkuPriceLists
source: {{files: "prices_*.csv", content: changes}}
columns: {{part: {{type: text, required: true}}, value: {{type: decimal}}}}
record:
  PartNo: part
  PriceListCode: {{value: B2C}}
  CurrencyCode: {{value: SEK}}
  PriceSale: value
""",
}

#: Folders of runs over a copy of a file that was worked before.
AGAIN = re.compile(r"-(full|rerun|resend|undo)\b")

#: Answers after which a request was certainly not taken.
REFUSALS = (400, 401, 403, 404, 413, 429, 503)

#: What a full file says of a part that it leaves out.
GONE = "gone"

#: Told seconds after which somebody stops a life that does not end: jobs count as slow and as stuck long before.
LONGEST_LIFE = 8 * 3600.0


def _deaf(*_: object) -> contextlib.AbstractContextManager[None]:
    """No events of the file system: those who tell them take half a second of the machine's time to end."""
    return contextlib.nullcontext()


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Blow:
    """Falls at the n-th effect of a life (an exchange or a commit, before and after); nothing has effects then."""

    at: int | None = None
    count: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def point(self) -> None:
        with self.lock:
            self.count += 1
            self.still()

    def still(self) -> None:
        """What has no effect does not go on after death either."""
        if self.at is not None and self.count >= self.at:
            raise Killed


@dataclass(frozen=True)
class Asked:
    """One request as it left, and what came back."""

    path: str
    digest: str
    keys: frozenset[str]
    known: bool  #: whether the answer told what became of it


@dataclass(frozen=True)
class Dropped:
    """A file as it was put into the inbox."""

    feed: str
    name: str
    text: str
    says: dict[str, str | None]  #: value by part; None where the row is bad


class World:
    """One customer's folder, and Connect."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.clock = Clock()
        self.inbox, self.state = root / "inbox", root / "var"
        self.sandbox = Sandbox(
            SandboxSettings(
                clock=self.clock.server, queued_seconds=0.5, validating_seconds=0.5, running_seconds=2.0,
                shuffle_seed=1, token_requests=60, **settings,
            )
        )  # fmt: skip
        self.wrong = check_requests(self.sandbox)  #: what a second reading of the contract has against requests
        self.inbox.mkdir(parents=True)
        (root / "mappings").mkdir()
        self.edition = 0
        self.edit()
        self.settings()
        self.dropped: list[Dropped] = []  #: whole files, by the time that their file system gives them
        self.asked: list[Asked] = []
        self.said = ""
        self.lives = 0  #: so far, and what else was done with the command
        self._lock = threading.Lock()
        self._names = itertools.count(1)
        self.growing: list[Dropped] = []  #: files that are whole a second after the next life has begun

    # -- what happens to it -----------------------------------------------------------------------------------------

    def settings(self, *, rescan_seconds: float = 5, unfinished: int = 3, lost_answer_seconds: float = 30) -> None:
        """Write etl.toml."""
        (self.root / "etl.toml").write_text(
            '[connect]\nbase_url = "http://127.0.0.1:9"\nscope = "playground"\napplication_id = 7\naccount_id = 11\n'
            f'client_id = "sandbox"\n[limits]\nlost_answer_seconds = {lost_answer_seconds}\n'
            f"max_records = 2\nunfinished = {unfinished}\n"
            f"[watch]\nsettle_seconds = 2\nrescan_seconds = {rescan_seconds}\n",
            encoding="utf-8",
        )

    def edit(self) -> None:
        """Somebody edits a mapping: another value in a field that comes from no column."""
        self.edition += 1
        for feed, text in MAPPING.items():
            (self.root / "mappings" / f"{feed}.yaml").write_text(text.format(edition=self.edition), encoding="utf-8")

    def file(self, feed: str, says: dict[str, str | None]) -> Dropped:
        """A file that is still to be dropped."""
        rows = "".join(f"{part},{'many' if value is None else value}\n" for part, value in says.items())
        return Dropped(feed, f"{feed}_{next(self._names):04}.csv", f"part,value\n{rows}", says)

    def drop(self, file: Dropped, *, upload: str = "whole") -> None:
        """Put a file into the inbox: `whole`, or `growing` under its name while the next life looks on."""
        if upload == "growing":
            (self.inbox / file.name).write_text(file.text[: len(file.text) // 2], encoding="utf-8")
            self.growing.append(file)
        else:
            self._write(file)

    def grow(self) -> None:
        """What comes piece by piece is whole now."""
        while self.growing:
            self._write(self.growing.pop(0))

    def _write(self, file: Dropped) -> None:
        path = self.inbox / file.name
        path.write_text(file.text, encoding="utf-8")
        self.dropped.append(file)
        self.clock.advance(0.01)
        moment = 1_700_000_000 + self.clock.passed
        os.utime(path, (moment, moment))

    def step(self, seconds: float) -> None:
        """The wall clock is set."""
        self.clock.offset += seconds

    def live(
        self, blow_at: int | None = None, stop_after: float = LONGEST_LIFE, patience: float = 120.0
    ) -> ExitStatus | None:
        """One `etl once --wait PATIENCE`; None when it died. `stop_after`: told seconds until SIGTERM."""
        blow = Blow(blow_at)
        self.lives += 1
        said = io.StringIO()
        self.clock.at(1.0, self.grow)
        self.clock.at(stop_after, lambda: os.kill(os.getpid(), signal.SIGTERM))
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.redirect_stdout(said))
                stack.enter_context(contextlib.redirect_stderr(said))
                stack.enter_context(self.wired(blow))
                stack.enter_context(mock.patch.object(scan, "_wake_on_changes", _deaf))
                stack.enter_context(telling(self.clock))
                return once(load_settings(self.root / "etl.toml"), as_json=True, verbose=False, patience=patience)
        except Killed:
            return None
        except EtlError as error:
            said.write(str(error))
            return error.exit_status
        finally:
            self.clock.forget()
            self.grow()
            self.said = said.getvalue()

    @contextlib.contextmanager
    def wired(self, blow: Blow | None = None) -> Iterator[None]:
        """The wire, the secret, and the points at which a process can die."""
        blow = blow or Blow()
        plain, read = Database._commit, Database.read

        def commit(database: Database, connection: Connection) -> None:
            blow.point()
            plain(database, connection)
            blow.point()

        def look(database: Database) -> contextlib.AbstractContextManager[Connection]:
            blow.still()
            return read(database)

        def send(_: Any, call: Call, *, on_sent: Callable[[], None]) -> Response:
            return self._exchange(call, on_sent, blow)

        with (
            mock.patch.dict(os.environ, ETL_CLIENT_SECRET="sandbox"),
            mock.patch.object(Database, "_commit", commit),
            mock.patch.object(Database, "read", look),
            mock.patch.object(HttpExchange, "send", send),
        ):
            yield

    def _exchange(self, request: Call, on_sent: Callable[[], None], blow: Blow) -> Response:
        body = request.payload.read_bytes() if request.payload else urlencode(request.form or {}).encode()
        url, params = urlsplit(request.url), {name: str(value) for name, value in (request.params or {}).items()}
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        call = ApiRequest(request.method, url.path, params, headers, body)
        blow.point()
        on_sent()
        with self._lock:
            given = self.sandbox.respond(call)
            seen = self.sandbox.request_log[-1]
            job = given.status == 200 and given.content_type == "application/json" and seen.fault != "truncated"
            known = (job or given.status in REFUSALS) and not given.reset and not given.hang
            self.asked.append(Asked(call.path, seen.digest, self._keys(call), known))
        self.clock.sleep(120.0 if given.hang else 0.02 + given.delay)
        if given.reset:
            raise translate_http_error(httpx.ReadError("reset"), once_only=request.once_only)
        if given.hang:
            raise translate_http_error(httpx.ReadTimeout("silence"), once_only=request.once_only)
        try:
            blow.point()
        except Killed:
            with self._lock:  # nobody was left to read the answer
                self.asked[-1] = Asked(call.path, seen.digest, self._keys(call), False)
            raise
        headers = {**given.headers, "Content-Type": given.content_type}
        return Response(given.status, httpx.Headers(headers), given.body)

    def _keys(self, call: ApiRequest) -> frozenset[str]:
        operation = self.sandbox.contract.operations.get(call.path.removeprefix(self.sandbox.contract.path_prefix))
        if operation is None:
            return frozenset()
        return frozenset(
            f"{operation.id} {key}" for item in call.payload for key in payload_validation.item_keys(item, operation)
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Another process works on the state folder."""
        self.state.mkdir(exist_ok=True)
        with (self.state / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write("process 4711\n")
            lock.flush()
            yield

    def forget(self) -> None:
        """What only tests keep: requests of long ago and the jobs they made."""
        sandbox = self.sandbox
        sandbox.request_log.clear()
        self.asked.clear()
        self.dropped.clear()
        for number in [number for number, job in sandbox._jobs.items() if job.final_status is not None][:-20]:
            del sandbox._jobs[number]

    def unstick(self) -> None:
        """Connect is itself again: nothing waits to go wrong, and what was stuck ends."""
        self.sandbox.faults.clear()
        for job in self.sandbox._jobs.values():
            job.faults = [fault for fault in job.faults if fault.kind not in ("job_stuck", "job_slow")]

    def twin(self) -> World:
        """The same folder and the same Connect, elsewhere."""
        other = copy.copy(self)
        other.root = self.root.with_name(self.root.name + "-twin")
        shutil.rmtree(other.root, ignore_errors=True)
        shutil.copytree(self.root, other.root)
        other.inbox, other.state = other.root / "inbox", other.root / "var"
        other.clock = Clock()
        other.clock.passed, other.clock.offset = self.clock.passed, self.clock.offset
        other.sandbox = Sandbox(replace(self.sandbox.settings, clock=other.clock.server))
        kept = (
            self.sandbox.store.records,
            self.sandbox._jobs,
            self.sandbox._last_job_id,
            self.sandbox.tokens.expiry_times,
        )
        records, jobs, last, tokens = copy.deepcopy((*kept,))
        other.sandbox.store.records, other.sandbox._jobs = records, jobs
        other.sandbox._last_job_id, other.sandbox.tokens.expiry_times = last, tokens
        other.asked, other.growing = [], []
        return other

    # -- what is seen of it -----------------------------------------------------------------------------------------

    def ledger(self) -> contextlib.AbstractContextManager[Ledger]:
        return Ledger.open(self.state)

    def archived(self, run: Run) -> str:
        """The text of a run's file, where it was filed away."""
        archived = run.archive / "source" / run.file if run.archive else None
        for path in (archived, run.claimed):  # closed, and not archived yet
            if path is not None and path.exists():
                return path.read_text(encoding="utf-8")
        raise AssertionError(f"the file of {run.id} is nowhere")

    def quiet(self) -> bool:
        """Whether there is nothing to do."""
        folders = (self.inbox, self.state / "claimed")
        return all(job.final_status is not None for job in self.sandbox._jobs.values()) and not any(
            path.is_file() for folder in folders for path in folder.rglob("*")
        )

    def places(self) -> Counter[tuple[str, str]]:
        """Every file of ours by name and text, once for each place where it is; what runs have again is a copy."""
        found: dict[int, tuple[str, str]] = {}
        for folder in (self.inbox, self.state / "claimed", self.state / "archive"):
            for path in folder.rglob("*.csv"):
                if path.name != "rejections.csv" and not AGAIN.search(str(path)):
                    found[path.stat().st_ino] = (path.name, path.read_text(encoding="utf-8"))
        return Counter(found.values())

    def accepted(self, ledger: Ledger, feed: str) -> dict[str, str]:
        """What counts as accepted, by part."""
        frame = accepted.read(self.state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed))
        if VALUE[feed] not in frame.columns:
            return {}
        off = frame["_deactivated"].to_list() if "_deactivated" in frame.columns else [False] * frame.height
        rows = zip(frame[KEY].to_list(), frame[VALUE[feed]].to_list(), off, strict=True)
        return {str(key).split("\x1f")[0]: GONE if gone else plain(value) for key, value, gone in rows}

    def stored(self, feed: str) -> dict[str, str]:
        """What Connect has, by part."""
        records = self.sandbox.records(OPERATION[feed])
        return {key.split("|")[0]: self._value(feed, record) for key, record in records.items()}

    def _value(self, feed: str, record: Any) -> str:
        return GONE if record.get("IsActive") is False else plain(record.get(VALUE[feed]))

    def taken(self, feed: str) -> dict[str, list[str]]:
        """For each part the values that ended jobs have brought, in the order in which they did."""
        found: dict[str, list[str]] = defaultdict(list)
        jobs = [
            job for job in self.sandbox._jobs.values() if job.final_status == 2 and job.operation_id == OPERATION[feed]
        ]
        operation = self.sandbox.contract.operations[OPERATION[feed]]
        for job in sorted(jobs, key=lambda job: (job.finish_at, job.id)):
            refused = [fault for fault in job.faults if fault.kind == "refuse"]
            for index, item in enumerate(job.items):
                (key,) = payload_validation.item_keys(item, operation)
                if index in job.failures or any(fault.matches_key(key) for fault in refused):
                    continue
                if item.get("IsActive") is False:
                    found[item["PartNo"]].append(GONE)
                elif VALUE[feed] in item:
                    found[item["PartNo"]].append(plain(item[VALUE[feed]]))
        return found


def plain(value: Any) -> str:
    """A number as text, however it is written."""
    return f"{float(value):g}" if value is not None else ""


def report(run: Run) -> Any:
    assert run.archive is not None
    return json.loads((run.archive / "report.json").read_bytes())


__all__ = ["GONE", "OPERATION", "ChunkState", "Dropped", "Killed", "RunState", "World", "plain"]
