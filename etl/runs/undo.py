"""Opens the run that takes another one back, and makes its plan from what the archive has kept.

Which run is taken back is written before the new run is in the ledger, so that a start after a crash can make the
plan again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etl import filesystem
from etl.errors import StateError, UsageError
from etl.ingest import intake
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.state.files import checksums, run_folder
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.plan.inputs import PlanInputs
    from etl.plan.model import Plan


def open_undo_run(ledger: Ledger, state: Path, original_run: Run) -> Run:
    """A new run that takes `old` back. Raises UsageError, StateError when it cannot be taken back."""
    if original_run.state is not RunState.COMPLETED:
        hint = (
            "`etl discard` it, if it is held" if original_run.state is RunState.HELD else "`etl status` lists the runs"
        )
        raise UsageError(
            "undo-not-done", f"run {original_run.id} is {original_run.state.value}: it has not ended", hint=hint
        )
    if not ledger.overlay_of_run(original_run.id).ranges:
        raise UsageError(
            "undo-nothing",
            f"run {original_run.id} has changed nothing in Norce",
            hint="`etl show` says what a run has done",
        )
    _find_preserved_folder(original_run)
    busy = next(
        (run for run in ledger.list_open_runs() if run.feed == original_run.feed and run.state is not RunState.HELD),
        None,
    )
    if busy is not None:
        raise StateError(
            "undo-feed-open",
            f"run {busy.id} of {original_run.feed} is open, and what Norce has may still change",
            where=original_run.id,
            hint="let it end with `etl once` first",
        )
    unsent = next(iter(ledger.runs_awaiting_merge(original_run.feed)), None)
    if unsent is not None:
        raise StateError(
            "undo-feed-open",
            f"the records of {unsent.file} (run {unsent.id}) have not been sent yet, and an undo would drop them",
            where=original_run.id,
            hint="let them be sent with `etl once` first",
        )
    run = Run(
        id=f"{intake.new_run_prefix()}-undo-{original_run.feed}",
        feed=original_run.feed,
        operation=original_run.operation,
        file=original_run.file,
        digest=original_run.digest,
        state=RunState.CLAIMED,
        kind="undo",
        started=datetime.now(UTC),
    )
    folder = run_folder.folder_path(state, run.id)
    filesystem.make_folder(folder)
    filesystem.write_atomically(folder / run_folder.UNDO_TARGET_FILE, json.dumps({"run": original_run.id}).encode())
    ledger.open_run(run)
    return run


def build_undo_plan(ledger: Ledger, state: Path, run: Run, mapping: Mapping, inputs: PlanInputs) -> Plan:
    """Build the plan that takes the other run back, as things stand now. Raises StateError."""
    import polars as pl

    from etl.plan import undo
    from etl.plan.inputs import OriginalRun
    from etl.state.snapshots import accepted

    told = json.loads((run_folder.folder_path(state, run.id) / run_folder.UNDO_TARGET_FILE).read_bytes())
    old = ledger.find_run(told["run"])
    if old is None:
        raise StateError("run-lost", f"run {told['run']} is no longer in the ledger", hint="restore the state folder")
    folder = _find_preserved_folder(old)
    assert old.archive is not None
    checksums.check_files(ledger, run_folder.list_undo_files(old.archive))
    went = accepted.select_accepted(
        pl.read_parquet(folder / accepted.sent_records_path(state, old.id).name), ledger.overlay_of_run(old.id)
    )
    before = folder / run_folder.PREVIOUS_FILE
    had = pl.read_parquet(before) if before.exists() else inputs.accepted_records.head(0).collect()
    columns = json.loads((old.archive / "report.json").read_bytes())["plan"]["columns"]
    return undo.build_reverse_plan(mapping, OriginalRun(old.id, tuple(columns), went, had), inputs)


def _find_preserved_folder(original_run: Run) -> Path:
    """The folder of the archive that an undo needs. Raises StateError when it is gone."""
    if (
        original_run.archive is not None
        and (original_run.archive / "report.json").exists()
        and (original_run.archive / run_folder.UNDO_FOLDER).exists()
    ):
        return original_run.archive / run_folder.UNDO_FOLDER
    raise StateError(
        "undo-not-kept",
        f"the archive has not kept what run {original_run.id} changed",
        where=str(original_run.archive or original_run.id),
        hint="drop the export that was right before it into the inbox again",
    )
