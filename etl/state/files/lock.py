"""Locks a state folder for one working process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from etl.errors import StateError


@contextlib.contextmanager
def lock_state_folder(state: Path) -> Iterator[None]:
    """Lock a state folder until the block ends; the system releases the lock when the process ends.

    Files created during the block, also by libraries, are readable by this user only.

    Raises:
        StateError: another process holds the lock.
    """
    path = state / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    old_umask = os.umask(0o077)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 100, 0).decode(errors="replace").strip() or "another process"
            raise StateError(
                "state-in-use",
                f"the state folder is in use by {holder}",
                where=str(state),
                hint="wait for it to end, or stop it; `etl status` and `etl preview` work meanwhile",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.umask(old_umask)
        os.close(handle)
