"""The plan of a file: counts, rejected rows, batches, impact, and the reasons to hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model.runs import Counts
from etl.model.tables import Rejections
from etl.plan.batches.batch import Batch
from etl.plan.changes import guards, impact
from etl.plan.changes.previous_file import PreviousFile
from etl.plan.inputs import RequestLimits


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file comes to. Requests are made one by one (`etl.plan.requests`), so that only one is in memory."""

    mapping: Mapping
    layout: Layout
    request_limits: RequestLimits
    account_id: int
    counts: Counts  #: without requests, records_sent and values_sent, which show while encoding
    rejections: Rejections
    batches: tuple[Batch, ...]
    impact: impact.Impact
    missing_records: pl.DataFrame  #: accepted records that FullFile=true switches off because the file lacks them
    suppressed: int
    cleared: int
    full_file: bool = False  #: a full feed under FullFile=true, which retires what the file lacks
    scope_shared_with: tuple[str, ...] = ()  #: feeds for whose sake a full feed does without FullFile=true
    columns: tuple[str, ...] = ()  #: source columns in use
    unused_columns: tuple[str, ...] = ()  #: source columns that the mapping does not mention
    previous_file: PreviousFile | None = None
    rejected_cells: pl.DataFrame | None = None  #: of a workbook: cells of rejected rows as they came
    previous_records: pl.DataFrame | None = (
        None  #: what Norce has of the records that this run changes, for `etl.plan.undo`
    )
    undoes: str | None = None  #: the run that it takes back
    irreversible: tuple[dict[str, Any], ...] = ()  #: what cannot be taken back: field, reason, records, keys
    blocked_records: pl.DataFrame | None = (
        None  #: of a file of changes: records held back, which no later file will repeat
    )
    flush_first: bool = (
        False  #: what earlier files still owe has to be sent before this one (`etl.plan.changes.pending.apart`)
    )

    @property
    def change_sets_joined(self) -> int:
        """The number of change sets that share the request of another one."""
        return sum(batch.change_set_count - 1 for batch in self.batches)

    @property
    def guard_results(self) -> tuple[guards.GuardResult, ...]:
        """What every guard says of it."""
        facts = guards.GuardInput(
            self.mapping, self.counts, self.impact, self.rejections.frame, self.full_file, self.previous_file
        )
        return guards.evaluate(facts)

    @property
    def hold_reasons(self) -> tuple[str, ...]:
        """Why the run has to wait for a person's yes; empty when it may go."""
        asked = (f"undoes run {self.undoes}: inspect it first",) if self.undoes and self.batches else ()
        return (*asked, *guards.hold_reasons(self.guard_results))
