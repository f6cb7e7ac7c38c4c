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
    """The plan of a file. `etl.plan.requests` makes its requests one by one, so that only one is in memory."""

    mapping: Mapping
    layout: Layout
    request_limits: RequestLimits
    account_id: int
    counts: Counts  #: without requests, records_sent and values_sent, which are counted while encoding
    rejections: Rejections
    batches: tuple[Batch, ...]
    impact: impact.Impact
    missing_records: pl.DataFrame  #: accepted records that FullFile=true retires because the file lacks them
    suppressed: int
    cleared: int
    full_file: bool = False  #: sent with FullFile=true, which retires missing records
    scope_shared_with: tuple[str, ...] = ()  #: feeds whose records in the same scopes rule out FullFile=true
    columns: tuple[str, ...] = ()  #: source columns in use
    unused_columns: tuple[str, ...] = ()  #: source columns that the mapping does not use
    previous_file: PreviousFile | None = None
    rejected_cells: pl.DataFrame | None = None  #: of a workbook: cells of rejected rows as they came
    previous_records: pl.DataFrame | None = None  #: accepted records that this run changes, for `etl.plan.undo`
    undoes: str | None = None  #: the run that it reverts
    irreversible: tuple[dict[str, Any], ...] = ()  #: what an undo run cannot restore: field, reason, records, keys
    blocked_records: pl.DataFrame | None = None  #: of a change file, because no later file repeats them
    flush_first: bool = False  #: pending records must be sent before this file, see `must_flush_first`

    @property
    def change_sets_joined(self) -> int:
        """The number of change sets that share the request of another one."""
        return sum(batch.change_set_count - 1 for batch in self.batches)

    @property
    def guard_results(self) -> tuple[guards.GuardResult, ...]:
        """The result of every guard."""
        guard_input = guards.GuardInput(
            self.mapping, self.counts, self.impact, self.rejections.frame, self.full_file, self.previous_file
        )
        return guards.evaluate(guard_input)

    @property
    def hold_reasons(self) -> tuple[str, ...]:
        """Why the run needs an approval; empty if it does not."""
        undo_reason = (f"undoes run {self.undoes}: inspect it first",) if self.undoes and self.batches else ()
        return (*undo_reason, *guards.hold_reasons(self.guard_results))
