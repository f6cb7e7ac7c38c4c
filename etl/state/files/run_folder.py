"""What a run keeps on disk while it is open: payloads, what was sent, rejections, facts of the plan.

All of it is synced before the ledger hears of it, and nothing of it counts before that.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem as durable

if TYPE_CHECKING:
    pass

#: What Norce had of the records that a run changes, and the run that an undo takes back.
BEFORE, UNDOES = "before.parquet", "undoes.json"

#: Folder within a run's archive that an undo needs.
KEPT = "undo"


def path(state: Path, run: str) -> Path:
    """The folder of an open run."""
    return state / "runs" / run


def files(state: Path, run: str) -> list[Path]:
    """What is in it besides payloads, whose digests are with their chunks."""
    return [file for file in sorted(path(state, run).glob("*")) if not file.stem.isdecimal() and file.is_file()]


def keep(state: Path, run: str, archive: Path) -> None:
    """What an undo of the run will need goes on in its archive: what was sent, and what Norce had before."""
    from etl.state.snapshots import accepted

    folder = archive / KEPT
    kept = [name for name in (accepted.sent_path(state, run), path(state, run) / BEFORE) if name.exists()]
    if kept:
        durable.make_folder(folder)
        for found in kept:
            with contextlib.suppress(FileExistsError):
                os.link(found, folder / found.name)
        durable.sync_folder(folder)


def archived(archive: Path) -> list[Path]:
    """What in an archived run's folder an undo reads."""
    return [archive / "report.json", *sorted((archive / KEPT).glob("*"))]


def facts(state: Path, run: str) -> dict[str, Any]:
    """What was remarkable about the plan of an open run."""
    return dict(json.loads((path(state, run) / "plan.json").read_bytes()))
