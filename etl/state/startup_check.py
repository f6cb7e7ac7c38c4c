"""Checks of the state folder before a process works on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etl import filesystem as durable
from etl.errors import StateError
from etl.model.runs import ChunkState, Run, RunState
from etl.state.files import checksums as witness
from etl.state.files import run_folder
from etl.state.ledger import repair_steps as ledger_repair
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted

#: Folders of so many days are looked through for runs that the ledger does not know.
DAYS = 3


BEGIN_ANEW = "etl state rebuild --all"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be."""

    sentence: str
    where: Path
    repair: str  #: a command, or what to do


def check_start(ledger: Ledger, state: Path) -> None:
    """What a working command has to know before it goes on. Raises StateError."""
    lost = unknown_runs(ledger, state)
    if lost:
        raise StateError(
            "state-behind",
            f"the ledger does not know the run {lost[0].name}, which has a folder: it is older than its folders",
            where=str(lost[0]),
            hint=f"put ledger and folders of the same time together; else `{BEGIN_ANEW}`",
        )
    for run in ledger.open_runs():
        for problem in _run_files(ledger, state, run):
            raise StateError("state-file-damaged", problem.sentence, where=str(problem.where), hint=problem.repair)


def unknown_runs(ledger: Ledger, state: Path) -> list[Path]:
    """Folders of runs that the ledger has never heard of."""
    days = sorted((state / "archive").glob("*"), reverse=True)[:DAYS]
    folders = [*(state / "runs").glob("*"), *(folder for day in days for folder in day.glob("*"))]
    known = ledger_repair.known_runs(ledger.database, [folder.name for folder in folders])
    lost = (folder for folder in folders if folder.name not in known)
    return sorted(folder for folder in lost if any((folder / name).exists() for name in ("plan.json", "report.json")))


def _run_files(ledger: Ledger, state: Path, run: Run) -> Iterator[Problem]:
    if run.state is RunState.CLAIMED:
        return
    needed = [run_folder.path(state, run.id) / "plan.json"]
    given_up = (ChunkState.FAILED, ChunkState.SPLIT)
    if any(chunk.state not in given_up for chunk in ledger.chunks(run.id)):
        needed.append(accepted.sent_path(state, run.id))
    for file in dict.fromkeys([*needed, *run_folder.files(state, run.id)]):
        if not witness.is_sound(ledger, file) or (file.name == "plan.json" and not _is_json(file)):
            sentence = f"{file.name} of the open run {run.id} is {'not as it was written' if file.exists() else 'gone'}"
            yield Problem(sentence, file, f"etl state rebuild {run.id}")


def _payloads(ledger: Ledger, run: Run) -> Iterator[Problem]:
    for chunk in ledger.chunks(run.id, unfinished=True):
        try:
            sound = durable.digest(chunk.payload) == chunk.digest
        except OSError:
            sound = False
        if not sound:
            sentence = f"request {chunk.number} of the open run {run.id} is not what was planned"
            yield Problem(sentence, chunk.payload, f"etl state rebuild {run.id}")


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False
