"""Tells whether somebody still has a file open for writing, by asking the system for a read lease on it.

A server that receives an upload keeps the file open until the client closes it, however long the line is silent. The
lease is given only while nobody writes, and given back at once. It is to be had for files of our own, and for
anybody's with CAP_LEASE; on network file systems mostly not at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

#: fcntl.h: which signal is sent to us when somebody opens the file while we hold the lease; the usual one is deadly.
_F_SETSIG = 10


def has_writer(path: Path) -> bool | None:
    """None when it cannot be told. Raises FileNotFoundError."""
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
