"""Checks the state folder before a process works on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etl import filesystem
from etl.errors import StateError
from etl.model.runs import ChunkState, Run, RunState
from etl.state.files import checksums, run_folder
from etl.state.ledger.facade import Ledger

#: Days of the archive in which `find_unknown_runs` looks.
RECENT_DAYS = 3


RESET_COMMAND = "etl state rebuild --all"


@dataclass(frozen=True, slots=True)
class StateProblem:
    """A damaged, missing or unexpected file or row."""

    message: str
    where: Path
    repair: str  #: a command, or what to do


def check_startup(ledger: Ledger, state: Path) -> None:
    """Raise StateError when the ledger is older than its folders, or files of an open run are damaged."""
    unknown = find_unknown_runs(ledger, state)
    if unknown:
        raise StateError(
            "state-behind",
            f"the ledger does not know the run {unknown[0].name}, which has a folder: it is older than its folders",
            where=str(unknown[0]),
            hint=f"put ledger and folders of the same time together; else `{RESET_COMMAND}`",
        )
    for run in ledger.runs.list_open():
        for problem in check_run_files(ledger, state, run):
            raise StateError("state-file-damaged", problem.message, where=str(problem.where), hint=problem.repair)


def find_unknown_runs(ledger: Ledger, state: Path) -> list[Path]:
    """Return recent folders of runs that the ledger does not know, sorted."""
    days = sorted((state / "archive").glob("*"), reverse=True)[:RECENT_DAYS]
    folders = [*(state / "runs").glob("*"), *(folder for day in days for folder in day.glob("*"))]
    run_ids = ledger.runs.find_existing([folder.name for folder in folders])
    unknown = (folder for folder in folders if folder.name not in run_ids)
    return sorted(
        folder for folder in unknown if any((folder / name).exists() for name in ("plan.json", "report.json"))
    )


def check_run_files(ledger: Ledger, state: Path, run: Run) -> Iterator[StateProblem]:
    """Yield the missing and damaged files of an open run, without its payloads."""
    if run.state is RunState.CLAIMED:
        return
    needed = [run_folder.folder_path(state, run.id) / "plan.json"]
    given_up = (ChunkState.FAILED, ChunkState.SPLIT)
    if any(chunk.state not in given_up for chunk in ledger.chunks.list_by_run(run.id)):
        needed.append(run_folder.sent_records_path(state, run.id))
    for file in dict.fromkeys([*needed, *run_folder.list_plan_files(state, run.id)]):
        if not checksums.matches_digest(ledger, file) or (file.name == "plan.json" and not _is_json_object(file)):
            message = f"{file.name} of the open run {run.id} is {'not as it was written' if file.exists() else 'gone'}"
            yield StateProblem(message, file, f"etl state rebuild {run.id}")


def check_payloads(ledger: Ledger, run: Run) -> Iterator[StateProblem]:
    """Yield the missing and damaged payloads of the unfinished chunks of a run."""
    for chunk in ledger.chunks.list_by_run(run.id, unfinished=True):
        try:
            is_sound = filesystem.digest(chunk.payload) == chunk.digest
        except OSError:
            is_sound = False
        if not is_sound:
            message = f"request {chunk.number} of the open run {run.id} is not as it was planned"
            yield StateProblem(message, chunk.payload, f"etl state rebuild {run.id}")


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False
