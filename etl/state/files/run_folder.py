"""Files of a run while it is open: payloads, sent records, rejections, facts of the plan.

All of them are synced before the ledger refers to them, and none of them counts before that.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from etl import filesystem
from etl.model import plan_facts
from etl.model.plan_facts import PlanFacts

#: Facts of the plan, what Norce had of the records that a run changes, and the run that an undo takes back.
PLAN_FILE, PREVIOUS_FILE, UNDO_TARGET_FILE = "plan.json", "before.parquet", "undoes.json"

#: In a run's archive: its report, the same as a page, and the folder that an undo needs.
REPORT_FILE, PAGE_FILE, UNDO_FOLDER = "report.json", "report.html", "undo"


def folder_path(state: Path, run_id: str) -> Path:
    """The folder of an open run."""
    return state / "runs" / run_id


def sent_records_path(state: Path, run_id: str) -> Path:
    """Return the file with the records that the run sends (`etl.state.snapshots.sent_records`)."""
    return folder_path(state, run_id) / "sent.parquet"


def list_plan_files(state: Path, run_id: str) -> list[Path]:
    """What is in it besides payloads, whose digests are with their chunks."""
    return [
        file for file in sorted(folder_path(state, run_id).glob("*")) if not file.stem.isdecimal() and file.is_file()
    ]


def preserve_for_undo(state: Path, run_id: str, archive: Path) -> None:
    """What an undo of the run will need goes on in its archive: what was sent, and what Norce had before."""
    folder = archive / UNDO_FOLDER
    kept = [
        name for name in (sent_records_path(state, run_id), folder_path(state, run_id) / PREVIOUS_FILE) if name.exists()
    ]
    if kept:
        filesystem.make_folder(folder)
        for found in kept:
            with contextlib.suppress(FileExistsError):
                os.link(found, folder / found.name)
        filesystem.sync_folder(folder)


def list_undo_files(archive: Path) -> list[Path]:
    """What in an archived run's folder an undo reads."""
    return [archive / REPORT_FILE, *sorted((archive / UNDO_FOLDER).glob("*"))]


def load_plan_facts(state: Path, run_id: str) -> PlanFacts:
    """Read the facts of an open run's plan."""
    return plan_facts.parse_facts(json.loads((folder_path(state, run_id) / PLAN_FILE).read_bytes()))
