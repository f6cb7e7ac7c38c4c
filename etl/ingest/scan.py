"""Watches the inbox: which files are there, and which of them are stable."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl import terminal
from etl.errors import StateError
from etl.shutdown import Stop

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent


#: Ends of names that uploaders use while they write.
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", ".swp", "~")


#: End of the names under which suppliers get their rejected rows back; never an export.
FEEDBACK = ".rejections.csv"


#: Bytes of a name and of all names on the way: the rest of what a file system takes is for what we put around them.
LONGEST_NAME, LONGEST_PATH = 200, 1000


class Look(NamedTuple):
    """A file as one scan saw it. `inode` tells a replaced file from a touched one."""

    size: int
    modified: int  #: nanoseconds
    inode: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A look and since when it has been the same, in seconds of the watching clock."""

    look: Look
    since: float


Snapshot = Mapping[str, Seen]


def is_wanted(name: str) -> bool:
    """Whether a relative name (forward slashes) may be an export: no dot files or folders, no upload names, nothing
    of what we write for suppliers."""
    parts = name.split("/")
    return not any(part.startswith(".") for part in parts) and not parts[-1].lower().endswith((*UNFINISHED, FEEDBACK))


def unfit(name: str) -> str | None:
    """Why a file is not taken whatever it feeds: its name could not be kept, or would fool whoever reads it."""
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in name):
        return "its name is not UTF-8; it stays where it is"
    if terminal.printable(name) != name or "\n" in name or "\t" in name:
        return "its name holds signs that act on a terminal; it stays where it is"
    if any(len(part.encode()) > LONGEST_NAME for part in name.split("/")) or len(name.encode()) > LONGEST_PATH:
        return "its name is too long; it stays where it is"
    return None


def settled(
    previous: Snapshot, looks: Mapping[str, Look], now: float, settle_seconds: float
) -> tuple[dict[str, Seen], frozenset[str]]:
    """The new snapshot and the names that have been still long enough. Pure."""
    current = {}
    for name, look in looks.items():
        before = previous.get(name)
        current[name] = before if before is not None and before.look == look else Seen(look, now)
    return current, frozenset(name for name, seen in current.items() if now - seen.since >= settle_seconds)


def scan(inbox: Path) -> dict[str, Look]:
    """Every regular file below the inbox by relative name; links are not followed. Raises StateError."""
    found: dict[str, Look] = {}

    def walk(folder: str, prefix: str) -> None:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            if prefix:
                return  # a folder that was removed while we looked
            raise
        for entry in entries:
            name = prefix + entry.name
            if not is_wanted(name) or entry.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    walk(entry.path, name + "/")
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found[name] = look(status)

    try:
        walk(str(inbox), "")
    except OSError as error:
        raise StateError(
            "inbox-unreadable",
            f"the inbox cannot be looked into: {error.strerror}",
            where=error.filename if isinstance(error.filename, str) else str(inbox),
            hint="create the folder named by paths.inbox, or correct its permissions",
        ) from error
    return found


def look(status: os.stat_result) -> Look:
    """What tells whether a file has changed."""
    return Look(status.st_size, status.st_mtime_ns, status.st_ino)


def scan_time(path: Path) -> float:
    """Modification time of a waiting file, epoch seconds; 0 when it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def watch(
    inbox: Path,
    settle_seconds: float,
    rescan_seconds: float,
    stop: Stop,
    *,
    clock: Callable[[], float] = time.monotonic,
    events: bool = True,
    wake: threading.Event | None = None,
) -> Iterator[dict[str, Look]]:
    """Settled names with the look that was still, as soon as there are any, when others set `wake`, and every
    `rescan_seconds` (maybe empty).

    A name comes again until its file is claimed. Ends when `stop` is set.
    """
    wake = wake or threading.Event()
    stop.wakes(wake)
    with _hints(inbox, wake) if events else contextlib.nullcontext():
        snapshot: Snapshot = {}
        while True:
            wake.clear()
            if stop.is_set():  # asked after clearing, so that its word is not lost
                return
            now = clock()
            snapshot, ready = settled(snapshot, scan(inbox), now, settle_seconds)
            yield {name: snapshot[name].look for name in ready}
            restless = [seen.since + settle_seconds - clock() for name, seen in snapshot.items() if name not in ready]
            if wake.wait(max(0.01, min([rescan_seconds, *restless]))):
                stop.wait(0.02)  # events are let gather for a moment


@contextlib.contextmanager
def _hints(inbox: Path, wake: threading.Event) -> Iterator[None]:
    """Wake the scan on changes; where that cannot be had (no inotify left), the rescan is enough."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class Waker(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type not in ("opened", "closed_no_write"):
                wake.set()

    observer = Observer()
    try:
        observer.schedule(Waker(), str(inbox), recursive=True)
        observer.start()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        observer.join()
