"""Settings of a sandbox: its behaviour, also where the documentation leaves it open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Where JobCompletedEvent goes."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)  #: static ones, as they are set in Admin
    client: int = 1  #: ClientId
    pause_factor: float = 1.0  #: the contract's pauses between repeated posts are multiplied by it


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Defaults are strict and quick; every undocumented reading is a switch."""

    client_id: str = "sandbox"
    client_secret: str = "sandbox"
    scope: str | None = None  #: the one scope that is granted; None = any that is not empty
    expires_in: float = 3600

    requests: int = 60  #: imports and Job calls together, per customer
    per_seconds: float = 60
    retry_after: Literal["none", "seconds", "date"] = "none"
    token_requests: int = 3
    token_per_seconds: float = 60
    token_burst: int = 20

    max_items: int | None = None
    max_bytes: int | None = None
    validation: Literal["request", "item"] = "request"  #: what one bad item rejects
    known_parts: Literal["any", "required"] = "any"  #: also for price lists and related records
    log_ignored: bool = False  #: whether a row of an unknown part or list leaves a warning
    create_only: Literal["created", "empty"] = "created"  #: docs.norce.io or storm.io reading
    imported_row: Literal["null", "cut", "full"] = "cut"

    queued_seconds: float = 0.01
    validating_seconds: float = 0.01
    running_seconds: float = 0.03
    shuffle_seed: int | None = None  #: unfinished jobs then overtake each other, repeatably
    retention_days: int = 14

    events: EventSettings | None = None
    state: Path | None = None  #: folder that keeps the state over restarts
    clock: Callable[[], float] = time.time
