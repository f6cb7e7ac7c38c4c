"""Opens folders of the inbox without following links.

Suppliers may write to their folders: one of these can become a link to any other folder at any time. So each folder on
the way is opened within the one before it, and files are then reached through the opened folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: An opened folder is only a place: searching it is enough, its names need not be readable.
_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY


@contextlib.contextmanager
def open_parent(inbox_folder: Path, name: str, *, create: bool = False) -> Iterator[Path]:
    """Yield the path of a file whose relative name below the inbox is `name`; no link can lead it elsewhere.

    The path is valid within the block. With `create`, missing folders are made. The inbox itself may be a link.

    Raises:
        OSError: a folder on the way is missing, or is a link (NotADirectoryError).
    """
    relative = PurePosixPath(name)
    with contextlib.ExitStack() as opened:
        handle = os.open(inbox_folder, _FLAGS)
        opened.callback(os.close, handle)
        for part in relative.parent.parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=handle)
            handle = os.open(part, _FLAGS | os.O_NOFOLLOW, dir_fd=handle)
            opened.callback(os.close, handle)
        held = Path(f"/proc/self/fd/{handle}")
        yield (held if held.exists() else inbox_folder / relative.parent) / relative.name
