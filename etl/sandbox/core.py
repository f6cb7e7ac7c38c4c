"""The sandbox itself: state and rules, one lock, no web server."""

from __future__ import annotations

import copy
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from etl.contract import spec as api
from etl.contract.spec import Operation
from etl.sandbox import catalogue, header, jobs, products
from etl.sandbox import field_modes as fields
from etl.sandbox import http as wire
from etl.sandbox import payload_validation as payload
from etl.sandbox import rate_windows as limits
from etl.sandbox.catalogue import ERROR, WARNING, Catalogue, Line, Outcome
from etl.sandbox.faults import Fault, Faults
from etl.sandbox.http import Answer, Call, Seen, answer, refusal
from etl.sandbox.jobs import Job
from etl.sandbox.persistence import Keep
from etl.sandbox.settings import Settings
from etl.sandbox.tokens import Tokens


class Sandbox:
    """Norce Connect in one process. Every public method may be called from any thread."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.contract = api.load()
        self.closing = False  #: the server is about to stop: nobody waits any longer
        self._lock = threading.RLock()
        self._keep = Keep(self.settings.state) if self.settings.state else None
        self._start()
        if self._keep:
            self.store.records, kept, self.tokens.live = self._keep.load()
            self._jobs.update(kept)
            self._last_job = max(self._jobs, default=0)

    def _start(self) -> None:
        settings = self.settings
        self.tokens = Tokens(settings)
        self.faults = Faults()
        self.store = Catalogue(settings)
        self.seen: list[Seen] = []
        self.listed_but_absent: list[dict[str, Any]] = []
        self.unlisted_fields: Counter[str] = Counter()
        self._window = limits.Window(settings.requests, settings.per_seconds)
        self._jobs: dict[int, Job] = {}
        self._changed_jobs: set[int] = set()
        self._last_job = 0
        self._chance = None if settings.shuffle_seed is None else random.Random(settings.shuffle_seed)

    # ---- what a client sees

    def answer(self, call: Call) -> Answer:
        """Answer one request, record it, and let due jobs do their work first."""
        with self._lock:
            now = self.settings.clock()
            self._settle(now)
            operation = self._operation(call.path)
            items = _count(call) if operation else None
            fault = self.faults.strike(call.path, items, now, call.body)
            before = self._last_job
            given = self._faulty(call, fault, now) if fault else self._answer(call, now)
            job = self._last_job if self._last_job != before else None
            self.seen.append(
                Seen(
                    now, call.method, call.path, call.query, 0 if given.reset or given.hang else given.status,
                    _header(call), wire.digest(call.body), len(call.body), items, job, fault.kind if fault else None,
                )
            )  # fmt: skip
            self._save(tokens=call.path == self.contract.token_path)
            return given

    def _save(self, tokens: bool = False) -> None:
        if self._keep and (tokens or self.store.changed or self._changed_jobs):
            records = [(name, key, self.store.of(name).get(key)) for name, key in self.store.changed]
            self._keep.save(records, [self._jobs[number] for number in self._changed_jobs], self.tokens.live)
        self.store.changed.clear()
        self._changed_jobs.clear()

    def _faulty(self, call: Call, fault: Fault, now: float) -> Answer:
        kind = fault.kind
        if kind == "rate_limit":
            return refusal(429, fault.message or "too many requests", headers=fault.headers(now))
        if kind == "unauthorized":
            self.tokens.revoke()
            return refusal(401, "the token was revoked")
        if kind == "status":
            text = fault.body or ""
            return Answer(fault.status, text.encode(), "text/plain", fault.headers(now))
        if kind == "too_large":
            return refusal(413, f"more than {fault.above} items")
        if kind == "html":
            return Answer(200, (fault.body or "<html><body>Maintenance</body></html>").encode(), "text/html")
        if kind == "reset_before" or (kind == "hang" and not fault.accept):
            return Answer(0, reset=kind == "reset_before", hang=kind == "hang")
        given = self._answer(call, now)
        if kind == "reset_after":
            return replace(given, reset=True)
        if kind == "hang":
            return replace(given, hang=True)
        if kind == "slow":
            return replace(given, delay=fault.delay)
        return replace(given, body=given.body[: len(given.body) // 2])

    def _answer(self, call: Call, now: float) -> Answer:
        if call.path == self.contract.token_path:
            return self._token(call, now) if call.method == "POST" else refusal(405, "POST only")
        prefix = self.contract.prefix
        if not call.path.startswith(prefix):
            return refusal(404, f"no such path: {call.path}")
        if not self.tokens.valid(call.headers.get("authorization", ""), now):
            return refusal(401, "no valid token", headers={"WWW-Authenticate": "Bearer"})
        wait = self._window.take(self.settings.client_id, now)
        if wait:
            return refusal(429, "too many requests", headers=self._retry_after(wait, now))
        if not call.headers.get("application-id", "").strip():
            return refusal(400, "application-id is missing")
        name = call.path.removeprefix(prefix)
        operation = self.contract.operations.get(name)
        if operation:
            return self._import(call, operation, now) if call.method == "POST" else refusal(405, "POST only")
        return self._job_call(name, call, now)

    def _token(self, call: Call, now: float) -> Answer:
        wait = self.tokens.wait(call.peer, now)
        if wait:
            return answer(429, {"error": "too_many_requests"}, self._retry_after(wait, now))
        return self.tokens.answer(call, now)

    def _retry_after(self, wait: float, now: float) -> dict[str, str]:
        if self.settings.retry_after == "seconds":
            return {"Retry-After": str(int(wait) + 1)}
        if self.settings.retry_after == "date":
            return {"Retry-After": formatdate(now + wait + 1, usegmt=True)}
        return {}

    def _operation(self, path: str) -> Operation | None:
        return self.contract.operations.get(path.removeprefix(self.contract.prefix))

    # ---- imports

    def _import(self, call: Call, operation: Operation, now: float) -> Answer:
        if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refusal(400, "Content-Type must be application/json")
        if "content-encoding" in call.headers:
            return refusal(400, "compressed bodies are not documented")
        if self.settings.max_bytes is not None and len(call.body) > self.settings.max_bytes:
            return refusal(413, f"more than {self.settings.max_bytes} bytes")
        try:
            asked = header.parse(call.headers.get("x-stormconnect-header"), operation)
            items = call.payload
        except header.HeaderRefused as refused:
            return refusal(400, *refused.messages)
        except ValueError as error:
            return refusal(400, f"the body is not JSON: {error}")
        if not isinstance(items, list):
            return refusal(400, "the body is not a JSON array")
        if not items and asked.full_file:
            return refusal(400, "FullFile with an empty array")
        if self.settings.max_items is not None and len(items) > self.settings.max_items:
            return refusal(413, f"more than {self.settings.max_items} items")
        job = self._submit(operation, asked, items, call.path, now)
        return answer(
            200,
            {
                "StatusCode": "OK",
                "Description": "The import was accepted" if not job.failures else "Some items failed validation",
                "JobId": str(job.id),
                "ValidationSummary": jobs.summary(job),
            },
        )

    def _submit(self, operation: Operation, asked: header.Header, items: list[Any], path: str, now: float) -> Job:
        failures = payload.check(items, self.contract, operation, asked.full_file, asked.supplier_id)
        effects = self.faults.for_job(path, now)
        for index, item in enumerate(items):
            for fault in effects:
                keys = payload.keys(item, operation, asked.supplier_id)
                if fault.kind == "invalid" and any(fault.concerns(key) for key in keys):
                    failures.setdefault(index, []).append(fault.message or "not valid")
        self._audit(operation, asked, [item for index, item in enumerate(items) if index not in failures])
        return self._enqueue(operation.id, asked, items, failures, effects, now)

    def _enqueue(
        self,
        operation_id: str,
        asked: header.Header,
        items: list[Any],
        failures: dict[int, list[str]],
        effects: list[Fault],
        now: float,
    ) -> Job:
        self._last_job += 1
        validating, running, finish = jobs.schedule(self.settings, self._chance, now)
        finish += sum(fault.delay for fault in effects if fault.kind == "job_slow")
        job = Job(
            self._last_job, operation_id, asked, items, failures, now, validating, running, finish, effects
        )  # fmt: skip
        self._jobs[job.id] = job
        self._changed_jobs.add(job.id)
        return job

    def _audit(self, operation: Operation, asked: header.Header, items: list[Any]) -> None:
        mode, nodes = fields.modes(operation.id, asked.flags), fields.tree(operation.id)
        for item in items:
            for found in fields.mismatches(item, nodes, mode):
                if found.kind == "unlisted":
                    self.unlisted_fields[f"{operation.id} {found.path}"] += 1
                    continue
                keys = payload.keys(item, operation, asked.supplier_id)
                self.listed_but_absent.append(
                    {"operation": operation.id, "job": self._last_job + 1, "keys": keys, "path": found.path}
                )

    def _settle(self, now: float | None) -> None:
        for job in jobs.due(list(self._jobs.values()), self._chance, now):
            self._finish(job)

    def _finish(self, job: Job) -> None:
        outcome = Outcome()
        self._changed_jobs.add(job.id)
        for index, messages in job.failures.items():
            outcome.refuse(f"Validation failed: item {index}: {'; '.join(messages)}", job.items[index])
        if job.failures and self.settings.validation == "request":
            job.ended = jobs.VALIDATION_FAILED
        elif job.has("job_failed"):
            job.ended = jobs.FAILED
            outcome.fail = len(job.items)
            outcome.lines.append(Line(ERROR, "The import failed"))
        else:
            self._apply(job, outcome)
            job.ended = jobs.SUCCEEDED
        job.outcome = outcome

    def _apply(self, job: Job, outcome: Outcome) -> None:
        operation = self.contract.operations[job.operation]
        good = [item for index, item in enumerate(job.items) if index not in job.failures]
        taken = [item for item in (self._struck(job, operation, item, outcome) for item in good) if item is not None]
        apply = products.apply if operation.key.row else catalogue.apply
        done = apply(self.store, operation, job.header, taken, good)
        outcome.insert, outcome.updates = done.insert, done.updates
        outcome.fail += done.fail
        outcome.lines += done.lines

    def _struck(
        self, job: Job, operation: Operation, item: Mapping[str, Any], outcome: Outcome
    ) -> Mapping[str, Any] | None:
        keys = payload.keys(item, operation, job.header.supplier_id)
        for fault in job.effects:
            key = next((key for key in keys if fault.concerns(key)), None)
            if key is None or fault.kind not in ("refuse", "warn"):
                continue
            about = f"{key}: " if fault.name_row else ""
            shown = item if fault.name_row else None
            if fault.kind == "refuse":
                outcome.refuse(f"{about}{fault.message or 'the record was not imported'}", shown)
                return None
            outcome.lines.append(Line(WARNING, f"{about}{fault.message or 'part of the record was dropped'}", shown))
            nodes = fields.tree(operation.id)  # a key cannot be dropped
            item = {name: value for name, value in item.items() if name not in fault.drop or nodes[name].identity}
        return item

    # ---- the Job service

    def _job_call(self, name: str, call: Call, now: float) -> Answer:
        paths = self.contract.jobs
        methods = {paths["get"]: "GET", paths["log"]: "GET", paths["list"]: "GET", paths["restart"]: "POST"}
        if name not in methods:
            return refusal(404, f"no such operation: {name}")
        if call.method != methods[name]:
            return refusal(405, f"{methods[name]} only")
        if name == paths["list"]:
            return answer(200, [jobs.shown(job, now) for job in sorted(self._jobs.values(), key=lambda j: -j.id)])
        text = call.query.get("id", "")
        if not text.isdecimal():
            return refusal(400, "id is required, an integer")
        job = self._jobs.get(int(text))
        if job is None or job.has("job_unknown"):
            return refusal(404, f"no job {text}")
        if name == paths["get"]:
            return answer(200, jobs.shown(job, now))
        if name == paths["log"]:
            return answer(200, jobs.log(job, self.settings, now))
        return self._restart(job, now)

    def _restart(self, job: Job, now: float) -> Answer:
        if job.ended not in self.contract.jobs["restartable"]:
            return refusal(400, f"job {job.id} cannot be restarted")
        if now - job.submitted > self.settings.retention_days * 86400:
            return refusal(400, f"the payload of job {job.id} is gone")
        again = self._enqueue(job.operation, job.header, job.items, job.failures, [], now)
        given = {"StatusCode": "OK", "Description": "Restarted", "JobId": str(again.id), "ValidationSummary": None}
        return answer(200, given)

    # ---- what tests and the control endpoints see

    def inject(self, fault: Fault) -> Fault:
        """Let something go wrong; the fault comes back with its id."""
        with self._lock:
            return self.faults.add(fault, self.settings.clock())

    def settle(self) -> None:
        """Finish every job that can finish, without waiting for the clock."""
        with self._lock:
            self._settle(None)
            self._save()

    def records(self, operation_id: str) -> dict[str, dict[str, Any]]:
        """The catalogue of one operation by key; products by part number, each variant on its own."""
        with self._lock:
            self._settle(self.settings.clock())
            if self.contract.operations[operation_id].key.row:
                return copy.deepcopy(dict(products.by_part(self.store)))
            return {key: copy.deepcopy(record.data) for key, record in self.store.of(operation_id).items()}

    def catalogue(self) -> dict[str, dict[str, dict[str, Any]]]:
        """`records` of every operation that has any."""
        with self._lock:
            found = {name: self.records(name) for name in self.contract.operations}
            return {name: held for name, held in found.items() if held}

    def jobs(self) -> list[dict[str, Any]]:
        """Every job with its operation, oldest first."""
        with self._lock:
            now = self.settings.clock()
            self._settle(now)
            return [{**jobs.shown(job, now), "Operation": job.operation} for job in self._jobs.values()]

    def requests(self) -> list[Seen]:
        """Every request so far, tokens and refused ones included."""
        with self._lock:
            return list(self.seen)

    def most_in_window(self, seconds: float = 60) -> int:
        """The largest number of Connect requests (tokens apart) that came within any so many seconds."""
        token = self.contract.token_path
        return limits.most_in_window([seen.time for seen in self.requests() if seen.path != token], seconds)

    def audit(self) -> dict[str, Any]:
        """Where headers and bodies disagreed: listed but absent fields, and fields that nothing listed."""
        with self._lock:
            return {"listed_but_absent": list(self.listed_but_absent), "unlisted_fields": dict(self.unlisted_fields)}

    def admin_edit(self, operation: str, key: str, path: str, value: Any) -> None:
        """A person changes a value in Admin: `Cultures[sv-SE].Name` of the record with that key."""
        with self._lock:
            self._settle(self.settings.clock())
            catalogue.edit(self.store, self.contract.operations[operation], key, path, value)
            self._save()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._start()
            if self._keep:
                self._keep.clear()


def _count(call: Call) -> int:
    try:
        items = call.payload
    except ValueError:
        return 0
    return len(items) if isinstance(items, list) else 0


def _header(call: Call) -> Any:
    text = call.headers.get("x-stormconnect-header")
    if text is None:
        return None
    try:
        return wire.load(text.encode())
    except ValueError:
        return text
