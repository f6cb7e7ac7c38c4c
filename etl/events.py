"""Events: what the program reports while it works, as log lines and on the display.

An event has a name (a noun and a past verb) and keys that hold no cell values. `EVENTS` is the one list; a test
compares it with the calls in the code. docs/glossary.md describes each event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Level = Literal["debug", "info", "warning"]


class EventSink(Protocol):
    """A receiver of events; called from any thread."""

    def __call__(self, event: str, /, **facts: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Event:
    """An event that the code may emit."""

    name: str
    level: Level
    keys: frozenset[str]  #: the keys of all its calls; a call may lack some


def _event(name: str, level: Level, *keys: str) -> Event:
    return Event(name, level, frozenset(keys))


_LIST = (
    # Files on a server and in the inbox
    _event("file_fetched", "info", "source", "file", "bytes"),
    _event("fetch_progressed", "debug", "source", "file", "done", "total"),
    _event("fetch_failed", "warning", "source", "code", "reason", "hint"),
    _event("remote_file_removed", "info", "source", "file", "after"),
    _event("file_not_ready", "info", "source", "file", "reason"),
    _event("file_still_changing", "info", "file", "reason"),
    _event("file_claimed", "info", "file", "bytes"),
    _event("folder_skipped", "warning", "folder", "reason"),
    _event("file_unclaimed", "warning", "file", "reason"),
    _event("member_unclaimed", "info", "file", "reason"),
    _event("file_put_back", "warning", "file", "run"),
    _event("file_replaced", "warning", "file", "run"),
    # Runs
    _event(
        "plan_made",
        "info",
        *("run", "state", "rows", "rejected", "new", "changed", "requests"),
        *("suppressed", "cleared", "change_sets_joined"),
    ),
    _event("plan_postponed", "info", "run", "earlier_run"),
    _event("run_started", "info", "run", "requests"),
    _event("run_stalled", "warning", "run", "code"),
    _event("run_invalid", "warning", "run", "code"),
    _event("run_merged", "info", "run", "into", "new", "changed"),
    _event("run_superseded", "info", "run", "reason"),
    _event(
        "run_completed",
        "info",
        *("run", "rows", "rejected", "failed", "unchanged", "new", "changed", "gone", "requests"),
    ),
    _event("dependency_dropped", "warning", "run", "earlier_run"),
    _event("feedback_failed", "info", "run", "reason"),
    # Requests and jobs
    _event("chunk_submitted", "info", "run", "chunk", "job", "records"),
    _event("chunk_halved", "info", "run", "chunk", "records", "reason"),
    _event("chunk_failed", "warning", "run", "chunk", "records", "reason"),
    _event("job_finished", "info", "run", "chunk", "job", "status", "failed", "traced", "untraced"),
    _event("outcome_unknown", "info", "run", "chunk", "reason"),
    _event("outcome_resolved", "info", "run", "chunk", "resolution", "job"),
    _event("request_throttled", "info", "run", "chunk", "seconds"),
    _event("connect_paused", "warning", "seconds", "reason"),
    _event("connect_resumed", "info", "failures"),
    _event("restart_awaited", "info", "job"),
    # The program itself
    _event("alert_raised", "warning", "alert", "message"),
    _event("alert_resolved", "info", "alert"),
    _event("retention_applied", "info", "folders", "runs"),
    _event("webhook_opened", "info", "address"),
    _event("webhook_denied", "warning", "status", "reason", "others_since"),
    _event("job_event_received", "debug", "job"),
    _event("secret_exposed", "warning", "variable", "reason"),
    _event("service_stopped", "info"),
)

EVENTS = {event.name: event for event in _LIST}


def ignore(_event: str, /, **_facts: object) -> None:
    """Drop an event: the sink of a caller that shows nothing."""
