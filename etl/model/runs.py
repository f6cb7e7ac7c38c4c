"""The frozen values that packages share on the way from a file to a job.

polars is imported for type checking only: `etl status` and `etl --help` must not pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal


class RunState(StrEnum):
    """The state of a run."""

    CLAIMED = "claimed"  #: the file is ours, nothing is planned yet
    PLANNED = "planned"  #: plan, chunks and payloads are on disk
    HELD = "held"  #: planned, waits for a person's yes
    SENDING = "sending"  #: at least one chunk has left or is about to
    COMPLETED = "completed"  #: every chunk has ended, accepted or not
    INVALID = "invalid"  #: the file as a whole could not be read or checked; nothing was sent
    MERGED = "merged"  #: nothing was sent: its pending records go with a later run of the feed
    SUPERSEDED = "superseded"  #: a newer full file of the feed made this one pointless
    DISCARDED = "discarded"  #: held, and a person said no

    @property
    def is_final(self) -> bool:
        return self in (*PROCESSED_STATES, RunState.INVALID, RunState.SUPERSEDED, RunState.DISCARDED)


#: What the run's file says has been taken in: sent, or owed.
PROCESSED_STATES = (RunState.COMPLETED, RunState.MERGED)


class ChunkState(StrEnum):
    """The state of a request."""

    READY = "ready"  #: to be sent
    SENDING = "sending"  #: marked before the request leaves; after a crash: in doubt
    SUBMITTED = "submitted"  #: Connect gave a job id
    ACCEPTED = "accepted"  #: the job ended; all but the refused keys are accepted
    FAILED = "failed"  #: nothing of it is accepted
    SPLIT = "split"  #: replaced by two halves

    @property
    def is_final(self) -> bool:
        return self in (ChunkState.ACCEPTED, ChunkState.FAILED, ChunkState.SPLIT)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The records of one request, ready to send: header and payload never change after planning."""

    run: str
    number: int  #: 1-based within the run
    wave: int  #: chunks of wave n+1 may only leave when those of wave n have ended (they share keys)
    operation: str  #: e.g. "Product/ImportOnhands"
    header: Mapping[str, Any]  #: the X-StormConnect-Header object
    payload: Path  #: file holding the JSON array, written and synced before the chunk exists
    digest: str  #: sha256 of the payload, hex
    records: int  #: elements of the array
    values: int  #: field values sent, keys not counted
    state: ChunkState = ChunkState.READY
    origin_chunk: int = 0  #: number of the planned chunk these records belong to (itself unless split)
    first: int = 0  #: index of the first record here within the array of `origin_chunk`
    attempts: int = 0
    job_id: int | None = None
    job_status: int | None = None
    sent_at: float | None = None  #: epoch seconds of the latest attempt
    polled_at: float | None = None
    polls: int = 0
    absent_since: float | None = None  #: epoch seconds of the first list without a job that may be the chunk's
    retry_after: float | None = None  #: epoch seconds before which it must not be tried again
    error: str | None = None  #: why it failed, in words without cell values
    #: Indexes of the array of `origin_chunk`, from `first` on, that are left out because their records failed.
    excluded_indexes: tuple[int, ...] = ()
    repeats: int = 0  #: how often these very records went again because their job failed without a reason
    validation_failures: int = 0  #: of the import's answer
    messages: tuple[str, ...] = ()  #: of the import's answer; may hold cell values
    job_counts: str = ""  #: the numbers that the job said last, to notice a change
    job_total: int | None = None  #: items that the job of an accepted chunk counts
    warnings: tuple[str, ...] = ()  #: of that job, about none of its records; may hold cell values
    resolution: str | None = None  #: how an unknown outcome was resolved: "adopted", "resubmitted"

    @property
    def indexes(self) -> tuple[int, ...]:
        """The elements of the array of `origin_chunk` that these records are, in order."""
        excluded = frozenset(self.excluded_indexes)
        span = range(self.first, self.first + self.records + len(excluded))
        return tuple(index for index in span if index not in excluded)


@dataclass(frozen=True, slots=True)
class AcceptedRange:
    """Records of one planned chunk that Connect took: `indexes` of its array, except those of the refused keys."""

    origin_chunk: int  #: number of the planned chunk
    indexes: tuple[int, ...]
    failed_keys: frozenset[str]  #: keys that Connect did not take when this origin was sent
    partial_keys: frozenset[str] = frozenset()  #: those of them that it took in part, without saying which


@dataclass(frozen=True, slots=True)
class Overlay:
    """What one run has had accepted so far; laid over the feed's base in the order of the runs."""

    run: str
    ranges: tuple[AcceptedRange, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What Job/Get says. A number that it does not say is None."""

    id: int
    status: int
    finished: bool
    total: int | None = None
    failed: int | None = None
    inserted: int | None = None
    updated: int | None = None
    storage_name: str | None = None
    started: str | None = None

    @property
    def counts(self) -> str:
        """Return the numbers as text, to compare."""
        return f"{self.total} {self.failed} {self.inserted} {self.updated}"


@dataclass(frozen=True, slots=True)
class JobList:
    """What Job/List says, as far as it can be read."""

    jobs: tuple[Job, ...]
    odd_ids: tuple[int | None, ...] = ()  #: ids of the entries that cannot be read; None where even the id cannot


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of Job/GetLog, or of a ValidationSummary (severity 3 then)."""

    severity: int
    message: str
    imported_row: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to an import request."""

    job_id: int
    validation_failures: int = 0
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordError:
    """A record that Connect did not take, traced back to our key."""

    key: str  #: as in the `_key` column of what was sent
    severity: int
    message: str
    source_row: int | None = None
    source_file: str | None = None  #: where that row is, and the run that has read it; None: the run's own file
    source_run: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of one run, in rows and keys of the source."""

    rows: int = 0
    rejected: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    requests: int = 0
    records_sent: int = 0
    values_sent: int = 0
    failed: int = 0  #: records that Norce did not take
    skipped: int = 0  #: rows that the mapping leaves out (`keep`)
    blocked: int = 0  #: records not sent until what they refer to is accepted


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger holds it."""

    id: str
    feed: str
    operation: str
    file: str
    digest: str
    state: RunState
    counts: Counts = field(default_factory=Counts)
    kind: Literal["file", "full", "rerun", "resend", "undo", "flush"] = "file"
    content: Literal["full", "changes"] = "full"  #: as the mapping said when the run was opened
    started: datetime | None = None
    ended: datetime | None = None
    error: str | None = None  #: the whole error text, when the file is invalid
    claimed: Path | None = None  #: where the file waits while the run is open
    archive: Path | None = None  #: folder of the filed-away file, rejections and report
    merged_into: str | None = None  #: of a merged run: the run that has its records; None until then

    @property
    def has_unknown_outcome(self) -> bool:
        """Whether it is held because a person has to decide on a request without a response.

        Its keys stay barred until then; a run that is held by a guard has sent nothing.
        """
        return self.state is RunState.HELD and self.error is not None

    @property
    def has_file(self) -> bool:
        """Whether it works on a file; others work on what earlier runs have left."""
        return self.kind not in ("undo", "flush")

    @property
    def is_comparison(self) -> bool:
        """Whether it holds a file of the feed against what Norce has, so that its counts tell of that file."""
        return self.has_file and self.kind != "full"
