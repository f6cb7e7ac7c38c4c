"""Tells whether somebody still has a file open for writing, by asking the system for a read lease on it.

A server that receives an upload keeps the file open until the client closes it, however long the line is silent. The
lease is granted only while nobody writes, and is released at once. The system grants it for our own files, for all
files with CAP_LEASE, and mostly not on network file systems.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

#: fcntl.h: which signal is sent when somebody opens the file while we hold the lease; the usual one ends the process.
_F_SETSIG = 10


def has_writer(path: Path) -> bool | None:
    """Return whether a process has the file open for writing; None when it cannot be told. Raises FileNotFoundError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        fcntl.fcntl(handle, _F_SETSIG, signal.SIGURG)  # ignored unless somebody asks for it
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(handle)
    return False
