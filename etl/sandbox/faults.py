"""Trouble on request: what can go wrong between a client and Connect, matched on path and count."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from email.utils import formatdate
from typing import Any, Literal, get_args

HttpFaultKind = Literal[
    "rate_limit",  # 429; retry_after seconds, retry_after_date true for the HTTP date form, neither for none
    "unauthorized",  # every token is revoked, then 401
    "status",  # any other answer: 403, 500, 502, 503 ...; the import was taken in or not (`accept`)
    "too_large",  # 413 for imports of more than `above` items
    "reset_before",  # connection reset, nothing was taken in
    "reset_after",  # taken in, then the connection is reset
    "slow",  # answered after `delay` seconds
    "hang",  # taken in or not (`accept`), never answered
    "html",  # 200 with a web page
    "truncated",  # taken in, the answer's JSON is cut in half
    "odd",  # the right answer with `values` in its object, or in each object of its list
    "odd_entry",  # the right list with one more entry, `values`
]
JobFaultKind = Literal[
    "job_failed",  # ends with status 3, nothing imported
    "job_stuck",  # never ends
    "job_slow",  # takes `delay` seconds longer
    "job_unknown",  # Job/Get and GetLog do not know it, for the first `delay` seconds if there is one
    "refuse",  # records of `keys` are not imported: severity 3
    "warn",  # records of `keys` lose the top-level fields `drop`: severity 2
    "invalid",  # records of `keys` fail validation
    "empty_log",
    "no_finish",  # the log lacks its finish row
    "shuffled_log",
]
HTTP_KINDS: frozenset[str] = frozenset(get_args(HttpFaultKind))
JOB_KINDS: frozenset[str] = frozenset(get_args(JobFaultKind))
_IMPORT_FAULT_KINDS = JOB_KINDS | {"too_large"}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One kind of trouble. `path` is a part of the request path.

    `times`: None = once, or for as long as `seconds` lasts; 0 = until it is cleared.
    """

    kind: HttpFaultKind | JobFaultKind
    path: str = ""
    times: int | None = None
    after: int = 0  #: matching requests that are spared first
    seconds: float | None = None  #: how long it lasts, from the moment it was injected
    status: int = 500
    body: str | None = None
    retry_after: float | None = None
    retry_after_date: bool = False
    delay: float = 0.0
    accept: bool = False
    above: int = 0
    keys: tuple[str, ...] = ()
    message: str | None = None
    drop: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    name_row: bool = True  #: whether the log row tells which record it is about
    id: int = field(default=0, compare=False)
    since: float = field(default=0.0, compare=False)
    used: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in HTTP_KINDS | JOB_KINDS:
            raise ValueError(f"unknown fault {self.kind}")
        if self.times is None:
            self.times = 1 if self.seconds is None else 0
        self.keys, self.drop = tuple(self.keys), tuple(self.drop)

    def retry_headers(self, now: float) -> dict[str, str]:
        """Retry-After, in the form asked for."""
        if self.retry_after is None:
            return {}
        if self.retry_after_date:
            return {"Retry-After": formatdate(now + self.retry_after, usegmt=True)}
        return {"Retry-After": f"{self.retry_after:g}"}

    def matches_key(self, key: str) -> bool:
        """Whether `keys` names this record: by its whole key, by one part of it, or all with `*`."""
        return any(wanted == "*" or wanted == key or wanted in key.split("|") for wanted in self.keys)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class FaultList:
    """The injected faults, in their order."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, fault: Fault, now: float) -> Fault:
        fault.id, fault.since = next(self._ids), now
        self._faults.append(fault)
        return fault

    def remove(self, fault_id: int) -> bool:
        others = [fault for fault in self._faults if fault.id != fault_id]
        is_removed = len(others) < len(self._faults)
        self._faults = others
        return is_removed

    def clear(self) -> None:
        self._faults.clear()

    def all(self) -> list[Fault]:
        return list(self._faults)

    def match_request(self, path: str, items: int | None, now: float, body: bytes = b"") -> Fault | None:
        """Return the HTTP fault that this request gets, if any."""
        for fault in self._find_matching(HTTP_KINDS, path, items, now):
            if fault.keys and not any(f'"{key}"'.encode() in body for key in fault.keys):
                continue
            if fault.kind == "too_large" and (items or 0) <= fault.above:
                continue
            if fault.kind == "unauthorized" and path.endswith("/token"):
                continue
            if self._count_use(fault):
                return fault
        return None

    def take_for_job(self, path: str, now: float) -> list[Fault]:
        """Return all job faults that a new job gets."""
        return [fault for fault in self._find_matching(JOB_KINDS, path, 1, now) if self._count_use(fault)]

    def _find_matching(self, kinds: frozenset[str], path: str, items: int | None, now: float) -> list[Fault]:
        self._faults = [f for f in self._faults if f.seconds is None or now < f.since + f.seconds]
        return [
            fault
            for fault in self._faults
            if fault.kind in kinds
            and fault.path in path
            and (items is not None or fault.kind not in _IMPORT_FAULT_KINDS)
        ]

    def _count_use(self, fault: Fault) -> bool:
        fault.used += 1
        if fault.used <= fault.after:
            return False
        if fault.times and fault.used >= fault.after + fault.times:
            self.remove(fault.id)
        return True


def parse_fault(raw: Mapping[str, Any]) -> Fault:
    """Parse a fault in the form of the control endpoint. Raises ValueError for unknown names."""
    names = {item.name for item in fields(Fault)} - {"id", "since", "used"}
    unknown = _sorted(set(raw) - names)
    if unknown or "kind" not in raw:
        raise ValueError(f"unknown or missing: {', '.join(unknown) or 'kind'}")
    return Fault(**raw)


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names)
