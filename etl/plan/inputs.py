"""What a plan depends on besides the file and its mapping, and which records it sends."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import polars as pl

from etl.plan.changes.previous_file import PreviousFile

#: What merging change sets saves: minutes at the rate limit ("budget"), or requests also within a minute ("strict").
Packing = Literal["budget", "strict"]


class SendMode(Enum):
    """Which records of a file a plan sends."""

    CHANGED = "changed"  #: those that differ from the accepted records
    ALL = "all"  #: every record, whatever was accepted
    SELECTED = "selected"  #: the records of the selected keys, whatever was accepted, and no others
    FULL_FILE = "full file"  #: every record under FullFile=true, which retires missing records

    @property
    def sends_unchanged(self) -> bool:
        """Whether records that equal the accepted ones are sent too."""
        return self is not SendMode.CHANGED


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may hold, and how many requests one minute may carry."""

    max_records: int = 1000
    requests_per_minute: int = 60
    packing: Packing = "budget"
    max_bytes: int = 4_000_000


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan depends on besides the file and its mapping: the same inputs give the same requests."""

    accepted_records: pl.LazyFrame  #: KEY and, where known, ITEM, DEACTIVATED, PARTIAL and the columns of the leaves
    account_id: int  #: the system account that writes are attributed to
    request_limits: RequestLimits = RequestLimits()
    reference_values: Map[str, pl.Series] = field(default_factory=dict)  #: accepted values by the field that refers
    previous_file: PreviousFile | None = None
    sibling_feeds: Map[str, pl.DataFrame] = field(default_factory=dict)  #: accepted records of feeds of the same import
    pending_records: pl.DataFrame | None = None  #: what Norce has not accepted yet of earlier change files
    selected_keys: Collection[str] = ()  #: part numbers or other parts of keys, for SendMode.SELECTED
    owner_records: Map[str, pl.DataFrame] = field(default_factory=dict)  #: accepted records of feeds it yields to


@dataclass(frozen=True, slots=True)
class OriginalRun:
    """The run that an undo run reverts."""

    id: str
    columns: tuple[str, ...]  #: source columns that it used
    sent_records: pl.DataFrame  #: what Norce accepted of it, as it was sent
    previous_records: pl.DataFrame  #: what Norce had of those records when the run was planned
