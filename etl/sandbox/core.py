"""The sandbox itself: state and rules, one lock, no web server."""

from __future__ import annotations

import copy
import json
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from etl.contract import spec
from etl.contract.spec import Operation
from etl.sandbox import catalogue, field_modes, header, http, jobs, payload_validation, products, rate_windows
from etl.sandbox.catalogue import ERROR, WARNING, Catalogue, ImportOutcome, LogLine
from etl.sandbox.faults import Fault, FaultList
from etl.sandbox.http import ApiRequest, ApiResponse, LoggedRequest, error_response, json_response
from etl.sandbox.jobs import ImportJob
from etl.sandbox.persistence import FolderStore
from etl.sandbox.settings import SandboxSettings
from etl.sandbox.tokens import TokenIssuer


class Sandbox:
    """Norce Connect in one process. Every public method may be called from any thread."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.contract = spec.load_contract()
        self.closing = False  #: the server is about to stop: nobody waits any longer
        self._lock = threading.RLock()
        self._folder_store = FolderStore(self.settings.state) if self.settings.state else None
        self._initialize()
        if self._folder_store:
            self.store.records, kept, self.tokens.expiry_times = self._folder_store.load()
            self._jobs.update(kept)
            self._last_job_id = max(self._jobs, default=0)

    def _initialize(self) -> None:
        settings = self.settings
        self.tokens = TokenIssuer(settings)
        self.faults = FaultList()
        self.store = Catalogue(settings)
        self.request_log: list[LoggedRequest] = []
        self.listed_but_absent: list[dict[str, Any]] = []
        self.unlisted_fields: Counter[str] = Counter()
        self._window = rate_windows.RollingLimit(settings.requests, settings.per_seconds)
        self._jobs: dict[int, ImportJob] = {}
        self._unsaved_jobs: set[int] = set()
        self._last_job_id = 0
        self._rng = None if settings.shuffle_seed is None else random.Random(settings.shuffle_seed)

    # ---- what a client sees

    def respond(self, request: ApiRequest) -> ApiResponse:
        """Answer one request, record it, and let due jobs do their work first."""
        with self._lock:
            now = self.settings.clock()
            self._finish_due_jobs(now)
            operation = self._find_operation(request.path)
            items = _item_count(request) if operation else None
            fault = self.faults.match_request(request.path, items, now, request.body)
            before = self._last_job_id
            response = self._faulty_response(request, fault, now) if fault else self._regular_response(request, now)
            job = self._last_job_id if self._last_job_id != before else None
            self.request_log.append(
                LoggedRequest(
                    now,
                    request.method,
                    request.path,
                    request.query,
                    0 if response.reset or response.hang else response.status,
                    _header_value(request),
                    http.body_digest(request.body),
                    len(request.body),
                    items,
                    job,
                    fault.kind if fault else None,
                )
            )
            self._save(tokens=request.path == self.contract.token_path)
            return response

    def _save(self, tokens: bool = False) -> None:
        if self._folder_store and (tokens or self.store.changed_keys or self._unsaved_jobs):
            records = [(name, key, self.store.records_of(name).get(key)) for name, key in self.store.changed_keys]
            self._folder_store.save(
                records, [self._jobs[number] for number in self._unsaved_jobs], self.tokens.expiry_times
            )
        self.store.changed_keys.clear()
        self._unsaved_jobs.clear()

    def _faulty_response(self, request: ApiRequest, fault: Fault, now: float) -> ApiResponse:
        kind = fault.kind
        if kind == "rate_limit":
            return error_response(429, fault.message or "too many requests", headers=fault.retry_headers(now))
        if kind == "unauthorized":
            self.tokens.revoke_all()
            return error_response(401, "the token was revoked")
        if kind == "status":
            if fault.accept:
                self._regular_response(request, now)
            text = fault.body or ""
            return ApiResponse(fault.status, text.encode(), "text/plain", fault.retry_headers(now))
        if kind == "too_large":
            return error_response(413, f"more than {fault.above} items")
        if kind == "html":
            return ApiResponse(200, (fault.body or "<html><body>Maintenance</body></html>").encode(), "text/html")
        if kind == "reset_before" or (kind == "hang" and not fault.accept):
            return ApiResponse(0, reset=kind == "reset_before", hang=kind == "hang")
        return _spoil(self._regular_response(request, now), fault)

    def _regular_response(self, request: ApiRequest, now: float) -> ApiResponse:
        if request.path == self.contract.token_path:
            return self._token_response(request, now) if request.method == "POST" else error_response(405, "POST only")
        prefix = self.contract.path_prefix
        if not request.path.startswith(prefix):
            return error_response(404, f"no such path: {request.path}")
        if not self.tokens.is_valid(request.headers.get("authorization", ""), now):
            return error_response(401, "no valid token", headers={"WWW-Authenticate": "Bearer"})
        wait = self._window.acquire(self.settings.client_id, now)
        if wait:
            return error_response(429, "too many requests", headers=self._retry_after_headers(wait, now))
        if not request.headers.get("application-id", "").strip():
            return error_response(400, "application-id is missing")
        name = request.path.removeprefix(prefix)
        operation = self.contract.operations.get(name)
        if operation:
            return (
                self._import_response(request, operation, now)
                if request.method == "POST"
                else error_response(405, "POST only")
            )
        return self._job_response(name, request, now)

    def _token_response(self, request: ApiRequest, now: float) -> ApiResponse:
        wait = self.tokens.acquire(request.peer, now)
        if wait:
            return json_response(429, {"error": "too_many_requests"}, self._retry_after_headers(wait, now))
        return self.tokens.token_response(request, now)

    def _retry_after_headers(self, wait: float, now: float) -> dict[str, str]:
        if self.settings.retry_after == "seconds":
            return {"Retry-After": str(int(wait) + 1)}
        if self.settings.retry_after == "date":
            return {"Retry-After": formatdate(now + wait + 1, usegmt=True)}
        return {}

    def _find_operation(self, path: str) -> Operation | None:
        return self.contract.operations.get(path.removeprefix(self.contract.path_prefix))

    # ---- imports

    def _import_response(self, request: ApiRequest, operation: Operation, now: float) -> ApiResponse:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return error_response(400, "Content-Type must be application/json")
        if "content-encoding" in request.headers:
            return error_response(400, "compressed bodies are not documented")
        if self.settings.max_bytes is not None and len(request.body) > self.settings.max_bytes:
            return error_response(413, f"more than {self.settings.max_bytes} bytes")
        try:
            asked = header.parse_header(request.headers.get("x-stormconnect-header"), operation)
            items = request.payload
        except header.InvalidHeader as refused:
            return error_response(400, *refused.messages)
        except ValueError as error:
            return error_response(400, f"the body is not JSON: {error}")
        if not isinstance(items, list):
            return error_response(400, "the body is not a JSON array")
        if not items and asked.full_file:
            return error_response(400, "FullFile with an empty array")
        if self.settings.max_items is not None and len(items) > self.settings.max_items:
            return error_response(413, f"more than {self.settings.max_items} items")
        job = self._submit_job(operation, asked, items, request.path, now)
        return json_response(
            200,
            {
                "StatusCode": "OK",
                "Description": "The import was accepted" if not job.failures else "Some items failed validation",
                "JobId": str(job.id),
                "ValidationSummary": jobs.validation_summary(job),
            },
        )

    def _submit_job(
        self, operation: Operation, request_header: header.RequestHeader, items: list[Any], path: str, now: float
    ) -> ImportJob:
        failures = payload_validation.validate_items(
            items, self.contract, operation, request_header.full_file, request_header.supplier_id
        )
        effects = self.faults.take_for_job(path, now)
        for index, item in enumerate(items):
            for fault in effects:
                keys = payload_validation.item_keys(item, operation, request_header.supplier_id)
                if fault.kind == "invalid" and any(fault.matches_key(key) for key in keys):
                    failures.setdefault(index, []).append(fault.message or "not valid")
        self._audit_items(
            operation, request_header, [item for index, item in enumerate(items) if index not in failures]
        )
        return self._enqueue_job(operation.id, request_header, items, failures, effects, now)

    def _enqueue_job(
        self,
        operation_id: str,
        request_header: header.RequestHeader,
        items: list[Any],
        failures: dict[int, list[str]],
        job_faults: list[Fault],
        now: float,
    ) -> ImportJob:
        self._last_job_id += 1
        validating, running, finish = jobs.job_times(self.settings, self._rng, now)
        finish += sum(fault.delay for fault in job_faults if fault.kind == "job_slow")
        job = ImportJob(
            self._last_job_id,
            operation_id,
            request_header,
            items,
            failures,
            now,
            validating,
            running,
            finish,
            job_faults,
        )
        self._jobs[job.id] = job
        self._unsaved_jobs.add(job.id)
        return job

    def _audit_items(self, operation: Operation, request_header: header.RequestHeader, items: list[Any]) -> None:
        mode, nodes = field_modes.field_modes(operation.id, request_header.flags), field_modes.field_tree(operation.id)
        for item in items:
            for mismatch in field_modes.find_mismatches(item, nodes, mode):
                if mismatch.kind == "unlisted":
                    self.unlisted_fields[f"{operation.id} {mismatch.path}"] += 1
                    continue
                keys = payload_validation.item_keys(item, operation, request_header.supplier_id)
                self.listed_but_absent.append(
                    {"operation": operation.id, "job": self._last_job_id + 1, "keys": keys, "path": mismatch.path}
                )

    def _finish_due_jobs(self, now: float | None) -> None:
        for job in jobs.due_jobs(list(self._jobs.values()), self._rng, now):
            self._finish_job(job)

    def _finish_job(self, job: ImportJob) -> None:
        outcome = ImportOutcome()
        self._unsaved_jobs.add(job.id)
        for index, messages in job.failures.items():
            outcome.add_failure(f"Validation failed: item {index}: {'; '.join(messages)}", job.items[index])
        if job.failures and self.settings.validation == "request":
            job.final_status = jobs.VALIDATION_FAILED
        elif job.has_fault("job_failed"):
            job.final_status = jobs.FAILED
            outcome.fail = len(job.items)
            outcome.lines.append(LogLine(ERROR, "The import failed"))
        else:
            self._apply_job(job, outcome)
            job.final_status = jobs.SUCCEEDED
        job.outcome = outcome

    def _apply_job(self, job: ImportJob, outcome: ImportOutcome) -> None:
        operation = self.contract.operations[job.operation_id]
        valid_items = [item for index, item in enumerate(job.items) if index not in job.failures]
        items = [
            item
            for item in (self._apply_faults(job, operation, item, outcome) for item in valid_items)
            if item is not None
        ]
        apply = products.import_products if operation.key.list_path else catalogue.import_items
        result = apply(self.store, operation, job.header, items, valid_items)
        outcome.insert, outcome.updates = result.insert, result.updates
        outcome.fail += result.fail
        outcome.lines += result.lines

    def _apply_faults(
        self, job: ImportJob, operation: Operation, item: Mapping[str, Any], outcome: ImportOutcome
    ) -> Mapping[str, Any] | None:
        keys = payload_validation.item_keys(item, operation, job.header.supplier_id)
        for fault in job.faults:
            key = next((key for key in keys if fault.matches_key(key)), None)
            if key is None or fault.kind not in ("refuse", "warn"):
                continue
            about = f"{key}: " if fault.name_row else ""
            shown = item if fault.name_row else None
            if fault.kind == "refuse":
                outcome.add_failure(f"{about}{fault.message or 'the record was not imported'}", shown)
                return None
            outcome.lines.append(LogLine(WARNING, f"{about}{fault.message or 'part of the record was dropped'}", shown))
            nodes = field_modes.field_tree(operation.id)  # a key cannot be dropped
            item = {name: value for name, value in item.items() if name not in fault.drop or nodes[name].is_identifying}
        return item

    # ---- the Job service

    def _job_response(self, name: str, request: ApiRequest, now: float) -> ApiResponse:
        paths = self.contract.jobs
        methods = {paths["get"]: "GET", paths["log"]: "GET", paths["list"]: "GET", paths["restart"]: "POST"}
        if name not in methods:
            return error_response(404, f"no such operation: {name}")
        if request.method != methods[name]:
            return error_response(405, f"{methods[name]} only")
        if name == paths["list"]:
            return json_response(
                200, [jobs.job_dto(job, now) for job in sorted(self._jobs.values(), key=lambda j: -j.id)]
            )
        text = request.query.get("id", "")
        if not text.isdecimal():
            return error_response(400, "id is required, an integer")
        job = self._jobs.get(int(text))
        if job is None or job.is_unknown(now):
            return error_response(404, f"no job {text}")
        if name == paths["get"]:
            return json_response(200, jobs.job_dto(job, now))
        if name == paths["log"]:
            return json_response(200, jobs.job_log(job, self.settings, now))
        return self._restart_job(job, now)

    def _restart_job(self, job: ImportJob, now: float) -> ApiResponse:
        if job.final_status not in self.contract.jobs["restartable"]:
            return error_response(400, f"job {job.id} cannot be restarted")
        if now - job.submitted_at > self.settings.retention_days * 86400:
            return error_response(400, f"the payload of job {job.id} is gone")
        again = self._enqueue_job(job.operation_id, job.header, job.items, job.failures, [], now)
        body = {"StatusCode": "OK", "Description": "Restarted", "JobId": str(again.id), "ValidationSummary": None}
        return json_response(200, body)

    # ---- what tests and the control endpoints see

    def inject(self, fault: Fault) -> Fault:
        """Add a fault; return it with its id."""
        with self._lock:
            return self.faults.add(fault, self.settings.clock())

    def finish_jobs(self) -> None:
        """Finish every job that can finish, without waiting for the clock."""
        with self._lock:
            self._finish_due_jobs(None)
            self._save()

    def records(self, operation_id: str) -> dict[str, dict[str, Any]]:
        """Return the catalogue of one operation by key; products by part number, each variant on its own."""
        with self._lock:
            self._finish_due_jobs(self.settings.clock())
            if self.contract.operations[operation_id].key.list_path:
                return copy.deepcopy(dict(products.products_by_part_number(self.store)))
            return {key: copy.deepcopy(record.data) for key, record in self.store.records_of(operation_id).items()}

    def catalogue(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the `records` of every operation that has any."""
        with self._lock:
            records = {name: self.records(name) for name in self.contract.operations}
            return {name: rows for name, rows in records.items() if rows}

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job with its operation, oldest first."""
        with self._lock:
            now = self.settings.clock()
            self._finish_due_jobs(now)
            return [{**jobs.job_dto(job, now), "Operation": job.operation_id} for job in self._jobs.values()]

    def requests(self) -> list[LoggedRequest]:
        """Return every request so far, including those for tokens and those with an error."""
        with self._lock:
            return list(self.request_log)

    def max_requests_in_window(self, seconds: float = 60) -> int:
        """Return the largest number of Connect requests (without tokens) within any so many seconds."""
        token = self.contract.token_path
        return rate_windows.max_in_window([seen.time for seen in self.requests() if seen.path != token], seconds)

    def audit(self) -> dict[str, Any]:
        """Return where headers and bodies disagreed: listed but absent fields, and fields that nothing listed."""
        with self._lock:
            return {"listed_but_absent": list(self.listed_but_absent), "unlisted_fields": dict(self.unlisted_fields)}

    def admin_edit(self, operation: str, key: str, path: str, value: Any) -> None:
        """Change a value as a person does in Admin: `Cultures[sv-SE].Name` of the record with that key."""
        with self._lock:
            self._finish_due_jobs(self.settings.clock())
            catalogue.edit_record(self.store, self.contract.operations[operation], key, path, value)
            self._save()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._initialize()
            if self._folder_store:
                self._folder_store.clear()


def _item_count(request: ApiRequest) -> int:
    try:
        items = request.payload
    except ValueError:
        return 0
    return len(items) if isinstance(items, list) else 0


def _header_value(request: ApiRequest) -> Any:
    text = request.headers.get("x-stormconnect-header")
    if text is None:
        return None
    try:
        return http.decode_json(text.encode())
    except ValueError:
        return text


def _spoil(given: ApiResponse, fault: Fault) -> ApiResponse:
    """Return what the client gets of the right response."""
    match fault.kind:
        case "reset_after":
            return replace(given, reset=True)
        case "hang":
            return replace(given, hang=True)
        case "slow":
            return replace(given, delay=fault.delay)
        case "odd" | "odd_entry":
            return replace(given, body=_make_odd(given.body, fault))
    return replace(given, body=given.body[: len(given.body) // 2])


def _make_odd(body: bytes, fault: Fault) -> bytes:
    """Return a JSON body with the values of the fault; another body, or one that is no list, stays as it is."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    if fault.kind == "odd_entry":
        answer = [*answer, dict(fault.values)] if isinstance(answer, list) else answer
    elif isinstance(answer, list):
        answer = [{**entry, **fault.values} for entry in answer]
    else:
        answer = {**answer, **fault.values}
    return json.dumps(answer).encode()
