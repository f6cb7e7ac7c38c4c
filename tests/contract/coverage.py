"""How much of the contract the program reaches: `python -m tests.contract.coverage`, or `make contract-coverage`.

Every generated mapping is read, its rows are planned, and the requests are sent to the strict sandbox. A field
counts when it was in a payload that the sandbox took, a flag when it was in such a request's header.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from etl.contract.spec import Operation
from etl.sandbox import Sandbox, SandboxSettings
from etl.sandbox.http import ApiRequest, decode_json, encode_json
from tests.contract import every, strict
from tests.contract.every import CONTRACT, Way
from tests.support import builders as build

FORM = "application/x-www-form-urlencoded"
LEFT_OUT = {
    "none": "flags of the array that have no field in this operation",
    "deprecated": "flags that the documentation calls deprecated; the sandbox refuses them",
}


@dataclass
class Reached:
    """What was sent and taken, and what anybody had against it."""

    flags: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Reached) -> None:
        self.flags |= other.flags
        self.fields |= other.fields
        self.wrong += other.wrong


class Client:
    """Posts to a sandbox without a socket and waits for each job."""

    def __init__(self) -> None:
        self.sandbox = Sandbox(SandboxSettings(requests=100_000))
        body = b"grant_type=client_credentials&client_id=sandbox&client_secret=sandbox&scope=playground"
        call = ApiRequest("POST", CONTRACT.token_path, headers={"content-type": FORM}, body=body)
        self.token = decode_json(self.sandbox.respond(call).body)["access_token"]

    def call(self, method: str, path: str, body: bytes = b"", header: str = "", **query: str) -> Any:
        headers = {"authorization": f"Bearer {self.token}", "application-id": "1", "content-type": "application/json"}
        headers["x-stormconnect-header"] = header
        answer = self.sandbox.respond(ApiRequest(method, CONTRACT.path_prefix + path, query, headers, body))
        return answer.status, decode_json(answer.body)

    def send(self, operation: Operation, header: dict[str, Any], payload: bytes) -> list[str]:
        """What the sandbox has against a request: refusals, rows that failed, every line of the log that is no news."""
        status, answer = self.call("POST", operation.id, payload, encode_json(header).decode())
        if status != 200:
            return list(answer["Messages"])
        self.sandbox.finish_jobs()
        _, job = self.call("GET", "Job/Get", id=answer["JobId"])
        _, log = self.call("GET", "Job/GetLog", id=answer["JobId"])
        found = [row["Message"] for row in log if row["SeverityId"] != 1] + answer["ValidationSummary"]["Messages"]
        return found if job["StatusId"] == 2 else [f"the job ended with {job['StatusId']}", *found]


def reach(operation: Operation, way: Way) -> Reached:
    """Send what one way of writing the mapping comes to."""
    made = every.make(operation, way)
    outcome = build.run(build.mapping(made.text), build.table(made.rows), full=way.full)
    client = Client()
    reached = Reached(wrong=[f"rejected: {code}" for code in outcome.codes])
    for sent in outcome.sent:
        second = strict.Request(operation.id, encode_json(sent.request.header).decode(), sent.request.payload)
        wrong = client.send(operation, sent.request.header, sent.request.payload) + second.problems()
        reached.wrong += wrong
        if not wrong:
            reached.flags |= sent.names
            for record in sent.records:
                reached.fields |= set(_paths(record, ""))
    reached.wrong += [f"{kind}: {entry}" for kind, entries in client.sandbox.audit().items() for entry in entries]
    if not outcome.sent:
        reached.wrong.append("nothing was sent")
    return reached


def _paths(value: Any, path: str) -> list[str]:
    if isinstance(value, dict):
        return [found for name, part in value.items() for found in _paths(part, f"{path}.{name}".lstrip("."))]
    if isinstance(value, list):
        return [found for part in value for found in _paths(part, path + "[]")]
    return [] if value is None else [path]


def documented(operation: Operation) -> set[str]:
    """The flags that have to be reached."""
    return {flag.id for flag in operation.flags if flag.kind != "none" and not flag.deprecated}


def left_out(operation: Operation) -> dict[str, int]:
    """Flags that need not be reached, by reason."""
    flags = [flag for flag in operation.flags if flag.kind == "none" or flag.deprecated]
    deprecated = sum(flag.deprecated for flag in flags)
    return {"none": len(flags) - deprecated, "deprecated": deprecated}


def main() -> int:
    """Print the table; exit status 1 where something is missing."""
    line = "{:<30} {:>9} {:>9} {:>5} {:>11} {:>10}"
    print(line.format("operation", "flags", "fields", "ways", "no field", "deprecated"))
    missing: list[str] = []
    for operation in CONTRACT.operations.values():
        reached, ways = Reached(), every.ways(operation)
        for way in ways:
            one = reach(operation, way)
            reached.add(one)
            missing += [f"{operation.id}, {way.name}: {text}" for text in one.wrong[:3]]
        flags, fields = documented(operation), set(every.paths(operation))
        counts = (f"{len(flags & reached.flags)}/{len(flags)}", f"{len(fields & reached.fields)}/{len(fields)}")
        out = left_out(operation)
        print(line.format(operation.id, *counts, len(ways), out["none"], out["deprecated"]))
        missing += [f"{operation.id}: {name} not reached" for name in sorted(flags - reached.flags)]
        missing += [f"{operation.id}: {name} not reached" for name in sorted(fields - reached.fields)]
    print(f"\nnot counted: no field = {LEFT_OUT['none']};")
    print(f"deprecated = {LEFT_OUT['deprecated']}. JobId, StorageName and SerializationType are header")
    print("properties that a client must not send, and deprecated fields are no part of any mapping.")
    for text in missing:
        print(f"missing: {text}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
