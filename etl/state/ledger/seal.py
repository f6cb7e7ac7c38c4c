"""Seals the ledger's file with its digest, stored in a file beside it, and checks the seal.

SQLite finds a torn page, but not a flipped bit within a value. While the program works, the main file does not change:
new data is in the journal (WAL), whose frames carry SQLite's own checksums. Only `Database.checkpoint` copies the
journal into the main file: it removes the seal before the copy and writes a new one after it. A seal that does not
match means that something else has written to the file; no seal means that a crash interrupted a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from etl import filesystem
from etl.errors import StateError


def seal_path(ledger: Path) -> Path:
    """Return the path of a ledger's seal."""
    return ledger.with_suffix(".seal")


def write_seal(ledger: Path, handle: int) -> None:
    """Seal the file as it is now, read through an open file descriptor. Raises StateError.

    The file must not be opened and closed here: when a process closes any descriptor of a file, it loses all its POSIX
    locks on the file, SQLite's among them, and another process would believe that it is alone.
    """
    with filesystem.translate_os_errors(ledger), open(handle, "rb", closefd=False) as file:
        file.seek(0)
        content = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": os.fstat(handle).st_size}
    filesystem.write_atomically(seal_path(ledger), json.dumps(content).encode())


def remove_seal(ledger: Path) -> None:
    """Remove the seal before the file changes. Raises StateError."""
    seal = seal_path(ledger)
    with filesystem.translate_os_errors(seal):
        seal.unlink(missing_ok=True)
        filesystem.sync_folder(seal.parent)


def has_seal(ledger: Path) -> bool:
    """Return whether the ledger has a seal."""
    return seal_path(ledger).exists()


def check_seal(ledger: Path) -> None:
    """Raise StateError `state-corrupt` when the ledger has a seal that does not match it."""
    seal = seal_path(ledger)
    try:
        text = seal.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise filesystem.disk_error(error, seal) from error
    try:
        is_match = json.loads(text) == {"sha256": filesystem.digest(ledger), "bytes": ledger.stat().st_size}
    except (OSError, ValueError):
        is_match = False
    if not is_match:
        raise StateError(
            "state-corrupt",
            "the ledger is not as this program left it: damaged, exchanged, or changed by something else",
            where=str(ledger),
            hint="`etl state verify` shows the problem and its repair command",
        )
