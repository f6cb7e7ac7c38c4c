"""Tells whether the files that the ledger counts on are as they were written: their digests are in the ledger.

A flipped bit in a Parquet file may still be a readable value; believed, it would count as what Norce has. Files that an
older version wrote have no digest, and are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from etl import filesystem
from etl.errors import StateError
from etl.state.ledger.facade import Ledger


def save_digests(ledger: Ledger, paths: Iterable[Path]) -> None:
    """Files that are written and synced. Raises StateError."""
    digests = {}
    for path in paths:
        with filesystem.translate_os_errors(path):
            digests[path] = filesystem.digest(path)
    ledger.digests.save(digests)


def matches_digest(ledger: Ledger, path: Path) -> bool:
    """Whether a file is there, and as it was noted."""
    try:
        digest = filesystem.digest(path)
    except OSError:
        return False
    return ledger.digests.find(path) in (None, digest)


def check_files(ledger: Ledger, paths: Iterable[Path]) -> None:
    """Raises StateError `state-file-damaged` for the first that is not as it was noted."""
    for path in paths:
        if not matches_digest(ledger, path):
            raise damaged_file_error(path)


def damaged_file_error(path: Path) -> StateError:
    """A file that the ledger counts on cannot be believed."""
    return StateError(
        "state-file-damaged",
        f"a file of the state folder is {'not as it was written' if path.exists() else 'gone'}",
        where=str(path),
        hint="`etl state verify` names its purpose and the repair command",
    )
