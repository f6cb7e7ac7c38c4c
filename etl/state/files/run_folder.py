"""Names the files of an open run (payloads, sent records, rejections, plan facts), and those that its archive keeps.

All of them are synced before the ledger refers to them, and none counts before that.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from etl import filesystem
from etl.model import plan_facts
from etl.model.plan_facts import PlanFacts

#: Facts of the plan, the accepted records that a run changes, and the run whose values an undo restores.
PLAN_FILE, PREVIOUS_FILE, UNDO_TARGET_FILE = "plan.json", "before.parquet", "undoes.json"

#: In a run's archive: its report as JSON and as HTML, and the folder that an undo needs.
REPORT_FILE, PAGE_FILE, UNDO_FOLDER = "report.json", "report.html", "undo"


def folder_path(state: Path, run_id: str) -> Path:
    """Return the folder of an open run."""
    return state / "runs" / run_id


def sent_records_path(state: Path, run_id: str) -> Path:
    """Return the file with the records that the run sends (`etl.state.snapshots.sent_records`)."""
    return folder_path(state, run_id) / "sent.parquet"


def list_plan_files(state: Path, run_id: str) -> list[Path]:
    """Return the files of the run's folder but the payloads, whose digests are stored with their chunks."""
    return [
        file for file in sorted(folder_path(state, run_id).glob("*")) if not file.stem.isdecimal() and file.is_file()
    ]


def preserve_for_undo(state: Path, run_id: str, archive: Path) -> None:
    """Link the files that an undo of the run needs into its archive: sent records, and the values before them."""
    folder = archive / UNDO_FOLDER
    needed = (sent_records_path(state, run_id), folder_path(state, run_id) / PREVIOUS_FILE)
    existing = [path for path in needed if path.exists()]
    if existing:
        filesystem.make_folder(folder)
        for path in existing:
            with contextlib.suppress(FileExistsError):
                os.link(path, folder / path.name)
        filesystem.sync_folder(folder)


def list_undo_files(archive: Path) -> list[Path]:
    """Return the files of an archived run that an undo reads."""
    return [archive / REPORT_FILE, *sorted((archive / UNDO_FOLDER).glob("*"))]


def load_plan_facts(state: Path, run_id: str) -> PlanFacts:
    """Read the facts of an open run's plan."""
    return plan_facts.parse_facts(json.loads((folder_path(state, run_id) / PLAN_FILE).read_bytes()))
