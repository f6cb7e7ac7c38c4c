"""Decides whether the records of a change file are merged into a newer file or sent by a flush run.

A change file is *merged* when a newer file of its feed already waits: its plan is built and checked, its run ends
unsent, and its records are sent with the newer file, so that many waiting files need the requests of one. A flush run
sends the merged records when the newer file cannot take them along as it is, or does not come through.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl.ingest import intake
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.plan.changes import pending
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.plan.model import Plan

#: How many files in a row are merged, for how long, and up to how many records. Then the records are sent, however
#: many files wait.
MAX_MERGED_FILES, MAX_MERGE_SECONDS, MAX_MERGED_RECORDS = 100, 300.0, 250_000

#: Runs of a feed that are searched for the last flush run.
_RUN_LOOKBACK = 1000


def may_merge(ledger: Ledger, run: Run, plan: Plan, now: datetime) -> bool:
    """Return whether the records of a file may be merged into a newer one that waits."""
    if run.kind != "file" or plan.mapping.source.content != "changes" or plan.hold_reasons:
        return False
    if not pending.can_merge(plan.layout):
        return False
    merged_runs = ledger.runs.list_awaiting_merge(run.feed)
    began = min((other.ended for other in merged_runs if other.ended is not None), default=now)
    if len(merged_runs) >= MAX_MERGED_FILES or not 0 <= (now - began).total_seconds() < MAX_MERGE_SECONDS:
        return False
    return 0 < sum(batch.records for batch in plan.batches) <= MAX_MERGED_RECORDS


def needs_flush(ledger: Ledger, mapping: Mapping, *, only_if_idle: bool = False) -> bool:
    """Return whether a feed has merged records that no run under way sends.

    False after a flush run of theirs that ended otherwise: they go with the next file then, or with `etl retry`.

    Args:
        only_if_idle: a file that waits to be planned counts as under way too.
    """
    merged_runs = ledger.runs.list_awaiting_merge(mapping.feed) if mapping.source.content == "changes" else ()
    if not merged_runs:
        return False
    open_runs = [run for run in ledger.runs.list_open() if run.feed == mapping.feed]
    if (only_if_idle and open_runs) or any(
        run.kind != "file" or run.state is not RunState.CLAIMED for run in open_runs
    ):
        return False
    for run in ledger.runs.list_recent(_RUN_LOOKBACK, mapping.feed):
        if run.id == merged_runs[-1].id:
            return True
        if run.kind == "flush":
            return False
    return True


def open_flush_run(ledger: Ledger, mapping: Mapping) -> Run:
    """Open a run that sends the pending records of a feed; it gets the file name of the newest processed run."""
    newest = next(iter(ledger.runs.list_recent(1, mapping.feed, *PROCESSED_STATES)), None)
    run = Run(
        id=f"{intake.new_run_prefix()}-flush-{mapping.feed}",
        feed=mapping.feed,
        operation=mapping.operation.id,
        file=newest.file if newest is not None else "",
        digest="",
        state=RunState.CLAIMED,
        kind="flush",
        content="changes",
        started=datetime.now(UTC),
    )
    ledger.open_run(run)
    return run
