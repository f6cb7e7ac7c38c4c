"""A clock that stands still until told, and a client that talks to the core without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from etl.sandbox import Sandbox, SandboxSettings
from etl.sandbox.http import ApiRequest, ApiResponse, decode_json, encode_json

FORM = "application/x-www-form-urlencoded"


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Client:
    """Sends what a test says; `send` fills in a correct envelope."""

    sandbox: Sandbox
    clock: Clock
    token: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"application-id": "1", "content-type": "application/json"})

    def login(
        self, secret: str = "sandbox", grant: str = "client_credentials", scope: str = "playground"
    ) -> ApiResponse:
        body = f"grant_type={grant}&client_id=sandbox&client_secret={secret}&scope={scope}"
        path = self.sandbox.contract.token_path
        answer = self.sandbox.respond(ApiRequest("POST", path, headers={"content-type": FORM}, body=body.encode()))
        if answer.status == 200:
            self.token = decode_json(answer.body)["access_token"]
        return answer

    def call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, **query: Any
    ) -> ApiResponse:
        if not self.token:
            self.login()
        sent = {"authorization": f"Bearer {self.token}", **self.headers, **(headers or {})}
        texts = {name: str(value) for name, value in query.items()}
        return self.sandbox.respond(ApiRequest(method, self.sandbox.contract.path_prefix + path, texts, sent, body))

    def header(self, operation_id: str, flags: dict[str, list[Any]], full: bool = False, **more: Any) -> dict[str, Any]:
        operation = self.sandbox.contract.operations[operation_id]
        header: dict[str, Any] = {"AccountId": 7}
        if operation.full_file.is_supported:
            header["FullFile"] = full
        for name in operation.key.header_fields:
            header[name] = 3
        header |= {name: [] for name, array in operation.arrays.items() if array.always_sent}
        return {**header, **flags, **more}

    def post(self, operation_id: str, header: dict[str, Any], items: Any) -> ApiResponse:
        return self.call("POST", operation_id, encode_json(items), {"x-stormconnect-header": json.dumps(header)})

    def send(
        self, operation_id: str, flags: dict[str, list[Any]], items: list[Any], full: bool = False
    ) -> dict[str, Any]:
        """Import, let the job end, and give back the job."""
        answer = self.post(operation_id, self.header(operation_id, flags, full), items)
        assert answer.status == 200, answer.body
        self.sandbox.finish_jobs()
        return self.job(decode_json(answer.body)["JobId"])

    def job(self, job_id: Any) -> dict[str, Any]:
        found: dict[str, Any] = decode_json(self.call("GET", "Job/Get", id=job_id).body)
        return found

    def log(self, job_id: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = decode_json(self.call("GET", "Job/GetLog", id=job_id).body)
        return rows

    def records(self, operation_id: str) -> dict[str, Any]:
        return self.sandbox.records(operation_id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Callable[..., Client]:
    """A client of a sandbox with these settings; the request limit is out of the way unless set."""

    def build(**settings: Any) -> Client:
        settings = {"requests": 10_000, **settings}
        return Client(Sandbox(SandboxSettings(clock=clock, **settings)), clock)

    return build


@pytest.fixture
def client(make: Callable[..., Client]) -> Client:
    return make()


def number(text: str) -> Decimal:
    return Decimal(text)
