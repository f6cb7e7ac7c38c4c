"""Opens the run that takes another one back, and makes its plan from what the archive has kept.

Which run is taken back is written before the new run is in the ledger, so that a start after a crash can make the
plan again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etl import filesystem as durable
from etl.errors import StateError, UsageError
from etl.ingest import intake
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.state import compaction as compact
from etl.state.files import checksums as witness
from etl.state.files import run_folder
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    import polars as pl

    from etl.plan.model import Plan, Terms


def opened(ledger: Ledger, state: Path, old: Run) -> Run:
    """A new run that takes `old` back. Raises UsageError, StateError when it cannot be taken back."""
    if old.state is not RunState.DONE:
        hint = "`etl discard` it, if it is held" if old.state is RunState.HELD else "`etl status` lists the runs"
        raise UsageError("undo-not-done", f"run {old.id} is {old.state.value}: it has not ended", hint=hint)
    if not ledger.overlay(old.id).ranges:
        raise UsageError(
            "undo-nothing", f"run {old.id} has changed nothing in Norce", hint="`etl show` says what a run has done"
        )
    _kept(old)
    busy = next((run for run in ledger.open_runs() if run.feed == old.feed and run.state is not RunState.HELD), None)
    if busy is not None:
        raise StateError(
            "undo-feed-open",
            f"run {busy.id} of {old.feed} is open, and what Norce has may still change",
            where=old.id,
            hint="let it end with `etl once` first",
        )
    unsent = next(iter(ledger.carried(old.feed)), None)
    if unsent is not None:
        raise StateError(
            "undo-feed-open",
            f"the records of {unsent.file} (run {unsent.id}) have not been sent yet, and an undo would drop them",
            where=old.id,
            hint="let them be sent with `etl once` first",
        )
    run = Run(
        id=f"{intake.new_id()}-undo-{old.feed}",
        feed=old.feed,
        operation=old.operation,
        file=old.file,
        digest=old.digest,
        state=RunState.CLAIMED,
        kind="undo",
        started=datetime.now(UTC),
    )
    folder = run_folder.path(state, run.id)
    durable.make_folder(folder)
    durable.write(folder / run_folder.UNDOES, json.dumps({"run": old.id}).encode())
    ledger.open_run(run)
    return run


def plan(ledger: Ledger, state: Path, run: Run, mapping: Mapping, terms: Terms, owned: dict[str, pl.DataFrame]) -> Plan:
    """What takes the other run back, as things stand now. Raises StateError."""
    import polars as pl

    from etl.plan import undo
    from etl.state.snapshots import accepted

    told = json.loads((run_folder.path(state, run.id) / run_folder.UNDOES).read_bytes())
    old = ledger.run(told["run"])
    if old is None:
        raise StateError("run-lost", f"run {told['run']} is no longer in the ledger", hint="restore the state folder")
    folder = _kept(old)
    assert old.archive is not None
    witness.check(ledger, run_folder.archived(old.archive))
    now = compact.read_accepted(ledger, state, old.feed)
    went = accepted.taken(pl.read_parquet(folder / accepted.sent_path(state, old.id).name), ledger.overlay(old.id))
    before = folder / run_folder.BEFORE
    had = pl.read_parquet(before) if before.exists() else now.clear()
    columns = json.loads((old.archive / "report.json").read_bytes())["plan"]["columns"]
    return undo.make(mapping, columns, went, had, now, terms, old.id, owned)


def _kept(old: Run) -> Path:
    """The folder of the archive that an undo needs. Raises StateError when it is gone."""
    if old.archive is not None and (old.archive / "report.json").exists() and (old.archive / run_folder.KEPT).exists():
        return old.archive / run_folder.KEPT
    raise StateError(
        "undo-not-kept",
        f"the archive has not kept what run {old.id} changed",
        where=str(old.archive or old.id),
        hint="drop the export that was right before it into the inbox again",
    )
