"""Names the folders of claimed and archived files, and finds the archived file of a run."""

from __future__ import annotations

import hashlib
import re
from datetime import date
from pathlib import Path

from etl.model.runs import Run


def part_digest(file_digest: str, member_number: int) -> str:
    """Return the digest of a run: that of its file, or for a member one derived from it."""
    return hashlib.sha256(f"{file_digest}/{member_number}".encode()).hexdigest() if member_number else file_digest


def member_number(run: Run) -> int:
    """Return the number of the archive's member that a run reads; 0: it reads the whole file."""
    match = re.fullmatch(r".*-m(\d+)", run.id.removesuffix(f"-{run.feed}"))
    return int(match[1]) if match else 0


def archived_file(run: Run) -> Path | None:
    """Return the archived file of an ended run, or None; for a member, the file that contains it."""
    if run.archive is None:
        return None
    path = source_path(run.archive, (run.claimed or Path(run.file)).name)
    return path if path.exists() else None


def source_path(archive: Path, name: str) -> Path:
    """Return where an archive folder keeps the file of its run.

    Files of suppliers have folders of their own there, so that no name of theirs can be one of ours.
    """
    return archive / "source" / name


def companion_folder(archive: Path) -> Path:
    """Return where an archive folder keeps the companions of its run's file."""
    return archive / "companions"


def claim_folder(state: Path, claim_id: str) -> Path:
    """Return the folder of a claimed file, which has its name below the inbox there."""
    return state / "claimed" / claim_id


def archive_folder(state: Path, run_id: str, day: date) -> Path:
    """Return the folder of an ended run's file, rejections and report."""
    return state / "archive" / day.isoformat() / run_id
