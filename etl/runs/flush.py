"""What a feed of changes owes Norce: when records are left to a newer file, and when they are sent by themselves.

A file of changes is *carried* when a newer one of its feed waits already: its plan is made and judged, its run ends,
and its records go with the newer file, so that many waiting files need the requests of one. Whatever becomes of the
newer file, what has been carried is sent: when that file cannot take it along as it is, or does not come through, a
run of its own (`owed`) sends it.
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

#: So many files are carried one after the other, for so many seconds and up to so many records; then what has come
#: together is sent, however many files wait.
MAX_MERGED_FILES, MAX_MERGE_SECONDS, MAX_MERGED_RECORDS = 100, 300.0, 250_000

#: Runs of a feed that are looked through.
_RUN_LOOKBACK = 1000


def may_merge(ledger: Ledger, run: Run, plan: Plan, now: datetime) -> bool:
    """Whether the records of a file may be left to a newer one that waits."""
    if run.kind != "file" or plan.mapping.source.content != "changes" or plan.hold_reasons:
        return False
    if not pending.can_merge(plan.layout):
        return False
    before = ledger.runs_awaiting_merge(run.feed)
    began = min((other.ended for other in before if other.ended is not None), default=now)
    if len(before) >= MAX_MERGED_FILES or not 0 <= (now - began).total_seconds() < MAX_MERGE_SECONDS:
        return False
    return 0 < sum(batch.records for batch in plan.batches) <= MAX_MERGED_RECORDS


def needs_flush(ledger: Ledger, mapping: Mapping, *, only_if_idle: bool = False) -> bool:
    """Whether something has been carried and no run under way takes it along; `alone`: nor may a file that waits.

    Not once more when its own run was refused or discarded: it goes with the next file then, or with `etl retry`.
    """
    carried = ledger.runs_awaiting_merge(mapping.feed) if mapping.source.content == "changes" else ()
    if not carried:
        return False
    under_way = [run for run in ledger.list_open_runs() if run.feed == mapping.feed]
    if (only_if_idle and under_way) or any(
        run.kind != "file" or run.state is not RunState.CLAIMED for run in under_way
    ):
        return False
    for run in ledger.list_runs(_RUN_LOOKBACK, mapping.feed):
        if run.id == carried[-1].id:
            return True
        if run.kind == "flush":
            return False
    return True


def open_flush_run(ledger: Ledger, mapping: Mapping) -> Run:
    """A new run that sends what the feed owes; it is called after the newest file that was worked."""
    newest = next(iter(ledger.list_runs(1, mapping.feed, *PROCESSED_STATES)), None)
    run = Run(
        id=f"{intake.new_run_prefix()}-flush-{mapping.feed}",
        feed=mapping.feed,
        operation=mapping.operation.id,
        file=newest.file if newest is not None else "",
        digest="",
        state=RunState.CLAIMED,
        kind="flush",
        started=datetime.now(UTC),
    )
    ledger.open_run(run)
    return run
