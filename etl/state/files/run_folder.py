"""What a run keeps on disk while it is open: payloads, what was sent, rejections, facts of the plan.

All of it is synced before the ledger hears of it, and nothing of it counts before that.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem

if TYPE_CHECKING:
    pass

#: What Norce had of the records that a run changes, and the run that an undo takes back.
PREVIOUS_FILE, UNDO_TARGET_FILE = "before.parquet", "undoes.json"

#: Folder within a run's archive that an undo needs.
UNDO_FOLDER = "undo"


def folder_path(state: Path, run_id: str) -> Path:
    """The folder of an open run."""
    return state / "runs" / run_id


def list_plan_files(state: Path, run_id: str) -> list[Path]:
    """What is in it besides payloads, whose digests are with their chunks."""
    return [
        file for file in sorted(folder_path(state, run_id).glob("*")) if not file.stem.isdecimal() and file.is_file()
    ]


def preserve_for_undo(state: Path, run_id: str, archive: Path) -> None:
    """What an undo of the run will need goes on in its archive: what was sent, and what Norce had before."""
    from etl.state.snapshots import accepted

    folder = archive / UNDO_FOLDER
    kept = [
        name
        for name in (accepted.sent_records_path(state, run_id), folder_path(state, run_id) / PREVIOUS_FILE)
        if name.exists()
    ]
    if kept:
        filesystem.make_folder(folder)
        for found in kept:
            with contextlib.suppress(FileExistsError):
                os.link(found, folder / found.name)
        filesystem.sync_folder(folder)


def list_undo_files(archive: Path) -> list[Path]:
    """What in an archived run's folder an undo reads."""
    return [archive / "report.json", *sorted((archive / UNDO_FOLDER).glob("*"))]


def load_plan_facts(state: Path, run_id: str) -> dict[str, Any]:
    """What was remarkable about the plan of an open run."""
    return dict(json.loads((folder_path(state, run_id) / "plan.json").read_bytes()))
