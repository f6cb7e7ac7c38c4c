"""Folders of claimed and archived files, and the archived file of a run."""

from __future__ import annotations

import hashlib
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from etl.model.runs import Run

if TYPE_CHECKING:
    pass


def part_digest(file_digest: str, member_number: int) -> str:
    """The digest that a run keeps: of its file, or of a member of it."""
    return hashlib.sha256(f"{file_digest}/{member_number}".encode()).hexdigest() if member_number else file_digest


def member_number(run: Run) -> int:
    """Place of a run's member in its archive; 0: none."""
    found = re.fullmatch(r".*-m(\d+)", run.id.removesuffix(f"-{run.feed}"))
    return int(found[1]) if found else 0


def archived_file(run: Run) -> Path | None:
    """Where the file of a finished run is kept; for a member, its archive."""
    if run.archive is None:
        return None
    path = run.archive / (run.claimed or Path(run.file)).name
    return path if path.exists() else None


def claim_folder(state: Path, claim_id: str) -> Path:
    """Where the file of an open run waits, under the relative name it came with."""
    return state / "claimed" / claim_id


def archive_folder(state: Path, run_id: str, day: date) -> Path:
    """Where a finished run's file, rejections and report are kept."""
    return state / "archive" / day.isoformat() / run_id
