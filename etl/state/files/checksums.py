"""Compares files of the state folder with the digests that the ledger holds for them.

A Parquet file with a flipped bit may still be readable; the wrong value would count as an accepted one. Files without a
digest are trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from etl import filesystem
from etl.errors import StateError
from etl.state.ledger.facade import Ledger


def save_digests(ledger: Ledger, paths: Iterable[Path]) -> None:
    """Store the digests of files that are written and synced. Raises StateError."""
    digests = {}
    for path in paths:
        with filesystem.translate_os_errors(path):
            digests[path] = filesystem.digest(path)
    ledger.digests.save(digests)


def matches_digest(ledger: Ledger, path: Path) -> bool:
    """Return whether a file exists and matches its digest."""
    try:
        digest = filesystem.digest(path)
    except OSError:
        return False
    return ledger.digests.find(path) in (None, digest)


def check_files(ledger: Ledger, paths: Iterable[Path]) -> None:
    """Raise StateError `state-file-damaged` for the first file that does not match its digest."""
    for path in paths:
        if not matches_digest(ledger, path):
            raise damaged_file_error(path)


def damaged_file_error(path: Path) -> StateError:
    """Return the error for a damaged or missing file."""
    return StateError(
        "state-file-damaged",
        f"a file of the state folder is {'not as it was written' if path.exists() else 'gone'}",
        where=str(path),
        hint="`etl state verify` names its purpose and the repair command",
    )
