"""Tells whether the ledger's file is as it was written: its digest, in a file beside it.

SQLite finds a torn page, but not a flipped bit within a value. While we work the main file does not change: what is
new is in the journal (WAL), whose frames carry checksums of SQLite's own. Only `Database.settle` copies the
journal into the main file: it breaks the seal before, and seals anew behind it. So a seal that does not fit means that
something else has written there, and no seal means that a crash came in the middle of a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from etl import filesystem
from etl.errors import StateError


def seal_path(ledger: Path) -> Path:
    """Where the seal of a ledger is."""
    return ledger.with_suffix(".seal")


def write_seal(ledger: Path, handle: int) -> None:
    """Seal the file as it is now, read through a handle of the system's. Raises StateError.

    Who has connections to the ledger must not open and close it here: with the first handle that is closed a process
    gives up all its locks on a file, SQLite's among them, and another process would take itself for the only one.
    """
    with filesystem.translate_os_errors(ledger), open(handle, "rb", closefd=False) as file:
        file.seek(0)
        found = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": os.fstat(handle).st_size}
    filesystem.write_atomically(seal_path(ledger), json.dumps(found).encode())


def remove_seal(ledger: Path) -> None:
    """The file is about to change. Raises StateError."""
    seal = seal_path(ledger)
    with filesystem.translate_os_errors(seal):
        seal.unlink(missing_ok=True)
        filesystem.sync_folder(seal.parent)


def has_seal(ledger: Path) -> bool:
    """Whether there is a seal."""
    return seal_path(ledger).exists()


def check_seal(ledger: Path) -> None:
    """Raises StateError `state-corrupt` when there is a seal and the file is not the one that was sealed."""
    seal = seal_path(ledger)
    try:
        said = seal.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise filesystem.disk_error(error, seal) from error
    try:
        found = json.loads(said)
        fits = found == {"sha256": filesystem.digest(ledger), "bytes": ledger.stat().st_size}
    except (OSError, ValueError):
        fits = False
    if not fits:
        raise StateError(
            "state-corrupt",
            "the ledger is not as this program left it: damaged, exchanged, or changed by something else",
            where=str(ledger),
            hint="`etl state verify` shows the problem and its repair command",
        )
