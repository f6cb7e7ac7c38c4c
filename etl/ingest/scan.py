"""Watches the inbox: which files are there, and which of them are stable.

Repeated scans find every file. Events of the file system only start a scan early, because events get lost, come in
large numbers and do not exist on every file system.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl import terminal
from etl.errors import StateError
from etl.shutdown import ShutdownEvent

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent


#: Suffixes of the names that uploading programs use while they write.
UPLOAD_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", ".swp", "~")

#: Suffix of the files with rejected rows that suppliers get; never an export.
FEEDBACK_SUFFIX = ".rejections.csv"

#: Largest number of bytes of a name and of a relative path; the file system allows more, which our own folders need.
MAX_NAME_BYTES, MAX_PATH_BYTES = 200, 1000

#: Folders within each other, and entries of one folder, that a scan looks at.
MAX_FOLDER_DEPTH, MAX_FOLDER_ENTRIES = 32, 1_000_000

#: Skipped folders that a scan names; one supplier can make any number of them.
MAX_SKIPPED_FOLDERS = 100


class FileStat(NamedTuple):
    """A file as one scan saw it. `inode` tells a replaced file from a touched one."""

    size: int
    modified_ns: int  #: nanoseconds
    inode: int


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of a file and since when it has been the same, in seconds of the monotonic clock."""

    file_stat: FileStat
    since: float


Observations = Mapping[str, Observation]


def may_be_export(name: str) -> bool:
    """Return whether a relative name (forward slashes) may be an export.

    Files and folders that begin with a dot, names of uploads in progress, and our feedback files are none.
    """
    parts = name.split("/")
    return not any(part.startswith(".") for part in parts) and not parts[-1].lower().endswith(
        (*UPLOAD_SUFFIXES, FEEDBACK_SUFFIX)
    )


def unusable_name_reason(name: str) -> str | None:
    """Return why a file with this name is never claimed: it cannot be stored, or its characters act on a terminal."""
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in name):
        return "its name is not UTF-8"
    if terminal.printable(name) != name or "\n" in name or "\t" in name:
        return "its name holds characters that control a terminal"
    if any(len(part.encode()) > MAX_NAME_BYTES for part in name.split("/")) or len(name.encode()) > MAX_PATH_BYTES:
        return "its name is too long"
    return None


def find_stable(
    observations: Observations, file_stats: Mapping[str, FileStat], now: float, settle_seconds: float
) -> tuple[dict[str, Observation], frozenset[str]]:
    """Return the new observations, and the names of files that have not changed for long enough. Pure."""
    current = {}
    for name, file_stat in file_stats.items():
        before = observations.get(name)
        current[name] = before if before is not None and before.file_stat == file_stat else Observation(file_stat, now)
    return current, frozenset(
        name for name, observation in current.items() if now - observation.since >= settle_seconds
    )


class InboxContent(NamedTuple):
    """Regular files of an inbox, and folders that a scan did not look into, each with the reason. Relative names."""

    file_stats: dict[str, FileStat]
    skipped_folders: dict[str, str]  #: the first `MAX_SKIPPED_FOLDERS`

    def skip(self, folder: str, reason: str) -> None:
        """Note a folder that is not looked into."""
        if len(self.skipped_folders) < MAX_SKIPPED_FOLDERS:
            self.skipped_folders[folder] = reason


def scan(inbox_folder: Path) -> dict[str, FileStat]:
    """Return every regular file below the inbox by relative name; links are not followed. Raises StateError."""
    return scan_folders(inbox_folder).file_stats


def scan_folders(inbox_folder: Path) -> InboxContent:
    """Return the files of the inbox and the folders that were skipped.

    A folder that cannot be read, lies too deep or has too many entries costs its own files only. Raises StateError
    when the inbox itself cannot be read.
    """
    content = InboxContent({}, {})
    folders = [""]
    seen: set[tuple[int, int]] = set()
    while folders:
        prefix = folders.pop()
        try:
            subfolders = _scan_folder(inbox_folder, prefix, content, seen)
        except OSError as error:
            if not prefix:
                raise _unreadable_inbox(inbox_folder, error) from error
            if not isinstance(error, FileNotFoundError):  # else it was removed during the scan
                content.skip(prefix, f"it cannot be read: {error.strerror or error}")
            continue
        for name in subfolders:
            reason = _skip_reason(name)
            if reason is None:
                folders.append(name + "/")
            else:
                content.skip(name + "/", reason)
    return content


def _unreadable_inbox(inbox_folder: Path, error: OSError) -> StateError:
    return StateError(
        "inbox-unreadable",
        f"the inbox cannot be looked into: {error.strerror}",
        where=error.filename if isinstance(error.filename, str) else str(inbox_folder),
        hint="create the folder named by paths.inbox, or correct its permissions",
    )


def _skip_reason(folder: str) -> str | None:
    if folder.count("/") >= MAX_FOLDER_DEPTH:
        return f"it is more than {MAX_FOLDER_DEPTH} folders deep"
    if len(os.fsencode(folder)) > MAX_PATH_BYTES:
        return f"its path is longer than {MAX_PATH_BYTES} bytes"
    return None


def _scan_folder(inbox_folder: Path, prefix: str, content: InboxContent, seen: set[tuple[int, int]]) -> list[str]:
    """Add the files of one folder to `content`; return the names of its folders. Raises OSError.

    Args:
        seen: device and inode of the folders so far: a folder that is mounted within itself is entered once.
    """
    folder = os.path.join(inbox_folder, prefix)
    status = os.stat(folder, follow_symlinks=not prefix)
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    subfolders = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= MAX_FOLDER_ENTRIES:
                content.skip(prefix or "./", f"it has more than {MAX_FOLDER_ENTRIES} entries; the others wait")
                break
            name = prefix + entry.name
            if not may_be_export(name):
                continue
            # One entry costs itself only: it may vanish, or its file system may refuse to tell what it is.
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    subfolders.append(name)
                elif stat.S_ISREG(status.st_mode):
                    content.file_stats[name] = to_file_stat(status)
    return subfolders


def to_file_stat(status: os.stat_result) -> FileStat:
    """Return what tells whether a file has changed."""
    return FileStat(status.st_size, status.st_mtime_ns, status.st_ino)


def modification_time(path: Path) -> float:
    """Return the modification time of a waiting file in epoch seconds; 0 when it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def watch(
    inbox_folder: Path,
    settle_seconds: float,
    rescan_seconds: float,
    shutdown: ShutdownEvent,
    *,
    wake_event: threading.Event | None = None,
    is_patient: bool = False,
) -> Iterator[dict[str, FileStat]]:
    """Yield the stable files, as soon as there are any, when `wake_event` is set, and every `rescan_seconds`.

    A file is yielded again until it is claimed. Ends when `shutdown` is set.

    Args:
        is_patient: an inbox that cannot be read has no files until the next look; else it raises StateError.
    """
    wake_event = wake_event or threading.Event()
    shutdown.also_set(wake_event)
    with _wake_on_changes(inbox_folder, wake_event):
        snapshot: Observations = {}
        while True:
            wake_event.clear()
            # Check `shutdown` after clearing `wake_event`: a shutdown set in between must not be lost.
            if shutdown.is_set():
                return
            now = time.monotonic()
            try:
                file_stats = scan(inbox_folder)
            except StateError:
                if not is_patient:
                    raise
                file_stats = {}
            snapshot, ready = find_stable(snapshot, file_stats, now, settle_seconds)
            yield {name: snapshot[name].file_stat for name in ready}
            delays = [
                observation.since + settle_seconds - time.monotonic()
                for name, observation in snapshot.items()
                if name not in ready
            ]
            if wake_event.wait(max(0.01, min([rescan_seconds, *delays]))):
                shutdown.wait(0.02)  # let the events of one upload arrive together


@contextlib.contextmanager
def _wake_on_changes(inbox_folder: Path, wake_event: threading.Event) -> Iterator[None]:
    """Set `wake_event` on changes below the inbox. Where they cannot be watched, the rescan alone finds them."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class Waker(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type not in ("opened", "closed_no_write"):
                wake_event.set()

    observer = Observer()
    try:
        observer.schedule(Waker(), str(inbox_folder), recursive=True)
        observer.start()
    except (OSError, RecursionError):  # also one folder that cannot be watched, or folders without end
        observer = Observer()
        try:
            observer.schedule(Waker(), str(inbox_folder), recursive=False)
            observer.start()
        except OSError:
            yield
            return
    try:
        yield
    finally:
        observer.stop()
        observer.join()
