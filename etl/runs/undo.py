"""Opens the run that undoes another one, and builds its plan from the files that the archive keeps.

The id of the undone run is written to the new run's folder before the ledger knows the new run, so that a start after
a crash can build the plan again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from etl import filesystem
from etl.errors import StateError, UsageError
from etl.ingest import intake
from etl.mapping.model import Mapping
from etl.model import plan_facts
from etl.model.runs import Run, RunState
from etl.plan import undo
from etl.plan.inputs import OriginalRun, PlanInputs
from etl.plan.model import Plan
from etl.state.files import checksums, run_folder
from etl.state.ledger.facade import Ledger
from etl.state.snapshots.sent_records import select_accepted


def open_undo_run(ledger: Ledger, state: Path, original_run: Run) -> Run:
    """Open a run that undoes a completed one. Raises UsageError or StateError when that is not possible."""
    _check_has_changes(ledger, original_run)
    _find_preserved_folder(original_run)
    _check_feed_is_idle(ledger, original_run)
    run = Run(
        id=f"{intake.new_run_prefix()}-undo-{original_run.feed}",
        feed=original_run.feed,
        operation=original_run.operation,
        file=original_run.file,
        digest=original_run.digest,
        state=RunState.CLAIMED,
        kind="undo",
        content=original_run.content,
        started=datetime.now(UTC),
    )
    folder = run_folder.folder_path(state, run.id)
    filesystem.make_folder(folder)
    filesystem.write_atomically(folder / run_folder.UNDO_TARGET_FILE, json.dumps({"run": original_run.id}).encode())
    ledger.open_run(run)
    return run


def _check_has_changes(ledger: Ledger, original_run: Run) -> None:
    if original_run.state is not RunState.COMPLETED:
        is_held = original_run.state is RunState.HELD
        raise UsageError(
            "undo-not-done",
            f"run {original_run.id} is {original_run.state.value}: it has not ended",
            hint="`etl discard` it, if it is held" if is_held else "`etl status` lists the runs",
        )
    if not ledger.feeds.overlay_of_run(original_run.id).ranges:
        raise UsageError(
            "undo-nothing",
            f"run {original_run.id} has changed nothing in Norce",
            hint="`etl show` shows the counts of a run",
        )


def _check_feed_is_idle(ledger: Ledger, original_run: Run) -> None:
    """Refuse while other runs of the feed may still change what Norce has: the plan would be outdated."""
    open_run = next(
        (run for run in ledger.runs.list_open() if run.feed == original_run.feed and run.state is not RunState.HELD),
        None,
    )
    if open_run is not None:
        raise StateError(
            "undo-feed-open",
            f"run {open_run.id} of {original_run.feed} is open, and its accepted records may still change",
            where=original_run.id,
            hint="run `etl once` first to end it",
        )
    unsent = next(iter(ledger.runs.list_awaiting_merge(original_run.feed)), None)
    if unsent is not None:
        raise StateError(
            "undo-feed-open",
            f"the records of {unsent.file} (run {unsent.id}) have not been sent yet, and an undo would drop them",
            where=original_run.id,
            hint="run `etl once` first to send them",
        )


def build_undo_plan(ledger: Ledger, state: Path, run: Run, mapping: Mapping, inputs: PlanInputs) -> Plan:
    """Build the plan that restores what Norce had before the undone run. Raises StateError."""
    target = json.loads((run_folder.folder_path(state, run.id) / run_folder.UNDO_TARGET_FILE).read_bytes())
    original_run = ledger.runs.find(target["run"])
    if original_run is None:
        raise StateError("run-lost", f"run {target['run']} is no longer in the ledger", hint="restore the state folder")
    return undo.build_reverse_plan(mapping, _read_original_run(ledger, state, original_run, inputs), inputs)


def _read_original_run(ledger: Ledger, state: Path, run: Run, inputs: PlanInputs) -> OriginalRun:
    folder = _find_preserved_folder(run)
    assert run.archive is not None
    checksums.check_files(ledger, run_folder.list_undo_files(run.archive))
    sent_records = pl.read_parquet(folder / run_folder.sent_records_path(state, run.id).name)
    previous = folder / run_folder.PREVIOUS_FILE
    facts = plan_facts.facts_of_report(json.loads((run.archive / run_folder.REPORT_FILE).read_bytes()))
    return OriginalRun(
        id=run.id,
        columns=tuple(facts.columns) if facts is not None else (),
        sent_records=select_accepted(sent_records, ledger.feeds.overlay_of_run(run.id)),
        previous_records=pl.read_parquet(previous)
        if previous.exists()
        else inputs.accepted_records.collect_schema().to_frame(),
    )


def _find_preserved_folder(original_run: Run) -> Path:
    """Return the folder of the archive that an undo reads. Raises StateError when it is gone."""
    archive = original_run.archive
    if archive is not None:
        folder = archive / run_folder.UNDO_FOLDER
        if (archive / run_folder.REPORT_FILE).exists() and folder.exists():
            return folder
    raise StateError(
        "undo-not-kept",
        f"the archive lacks the records that run {original_run.id} changed",
        where=str(archive or original_run.id),
        hint="drop the export that was right before it into the inbox again",
    )
