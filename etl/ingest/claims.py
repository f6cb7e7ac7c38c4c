"""Finds settled files, claims them, files them away. A file is in exactly one place, and each move is one rename.

Truth is a scan: events of the file system only wake it early, because they get lost, come in storms and do not
exist on every file system. A file counts as settled when size and modification time have been still for the set
time, it does not carry an upload name, and nobody has it open for writing as far as the system tells.

Order of writes (numbers of the crash table): 1 `claim` renames the file into `claimed/<run>/`; the run is opened
after it, so a crash between leaves a claimed file without a run, which `claimed_files` finds; 9 `archive` renames it
into `archive/<date>/<run>/` after the run was closed. Companions (done files) go into `claimed/<run>/.done/` before
their file and leave it before their file, so companions alone mean that a claim was interrupted: `restore` puts them
back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl import filesystem as durable
from etl import open_writers as writers
from etl import terminal
from etl.errors import StateError
from etl.model.runs import SourceFile
from etl.shutdown import Stop

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

#: Ends of names that uploaders use while they write.
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", ".swp", "~")

#: End of the names under which suppliers get their rejected rows back; never an export.
FEEDBACK = ".rejections.csv"

#: Where the companions of a claimed file wait, within its claim folder.
_COMPANIONS = ".done"


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


def claim(
    inbox: Path, name: str, state: Path, run_id: str, settled: Look | None = None, companions: Iterable[str] = ()
) -> SourceFile | None:
    """Move a settled file and its companions out of the inbox.

    None when somebody was faster, or when it is not still after all: somebody writes to it, or it no longer looks as
    it did when it had `settled`. It is in the inbox then, and has to settle anew. Raises StateError.
    """
    folder = claim_folder(state, run_id)
    target = folder / name
    try:
        before = look((inbox / name).stat(follow_symlinks=False))
        if (settled is not None and before != settled) or writers.has_writer(inbox / name):
            return None
        for companion in companions:
            durable.move(inbox / companion, folder / _COMPANIONS / companion)
        durable.move(inbox / name, target)
    except (FileNotFoundError, BlockingIOError):
        restore(state, run_id, inbox)
        _remove_empty(target.parent, folder.parent)
        return None
    except OSError as error:
        raise _cannot_move("claimed", inbox / name, error) from error
    source = look_at(target) if durable.is_plain(target) and not writers.has_writer(target) else None
    renamed = inbox.stat().st_dev == folder.stat().st_dev
    if source is None or not _is_same(before, look(target.stat(follow_symlinks=False)), renamed=renamed):
        put_back(target, state, run_id, inbox)
        return None
    for path in (target, *_companions(state, run_id)):
        durable.restrict(path)
    return replace(source, name=name)


def _is_same(before: Look, now: Look, *, renamed: bool) -> bool:
    """Whether what was moved is what was looked at; a copy over a border of file systems is another inode."""
    return now == before if renamed else now[:2] == before[:2]


def put_back(claimed: Path, state: Path, run_id: str, inbox: Path) -> bool:
    """A claimed file and its companions go back to where they came from; False when a newer file stands there.

    Raises StateError.
    """
    folder = claim_folder(state, run_id)
    try:
        durable.move_new(claimed, inbox / claimed.relative_to(folder))
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_move("put back", claimed, error) from error
    restore(state, run_id, inbox)
    _remove_empty(claimed.parent, folder.parent)
    return True


def restore(state: Path, run_id: str, inbox: Path) -> None:
    """Companions whose file was not claimed go back; where new ones stand already, the old ones mean nothing."""
    folder = claim_folder(state, run_id) / _COMPANIONS
    for path in _companions(state, run_id):
        try:
            durable.move_new(path, inbox / path.relative_to(folder))
        except FileExistsError:
            path.unlink()
        except OSError as error:
            raise _cannot_move("put back", path, error) from error
        _remove_empty(path.parent, folder.parent.parent)


def keep_beside(state: Path, run_id: str, name: str, content: bytes) -> None:
    """Something of ours that goes with a claimed file, as its companions do. Raises StateError."""
    path = claim_folder(state, run_id) / _COMPANIONS / name
    with durable.translated(path):
        durable.make_folder(path.parent)
    durable.write(path, content)


def kept_beside(state: Path, run_id: str, name: str) -> bytes:
    """Raises StateError."""
    path = claim_folder(state, run_id) / _COMPANIONS / name
    with durable.translated(path):
        return path.read_bytes()


def _companions(state: Path, run_id: str) -> list[Path]:
    folder = claim_folder(state, run_id) / _COMPANIONS
    return sorted(path for path in folder.rglob("*") if path.is_file())


def look_at(path: Path) -> SourceFile:
    """Size, time and digest of a file that is ours. Raises StateError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
    except OSError as error:
        raise _cannot_move("read", path, error) from error
    return SourceFile(path=path, name=path.name, size=status.st_size, modified=status.st_mtime, digest=digest)


def claim_folder(state: Path, run_id: str) -> Path:
    """Where the file of an open run waits, under the relative name it came with."""
    return state / "claimed" / run_id


def claimed_files(state: Path) -> dict[str, Path]:
    """Run ids to the files that were claimed for them and not filed away yet."""
    found = {}
    for folder in sorted((state / "claimed").glob("*")):
        for file in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
            if file.is_file() and not file.is_symlink() and not hidden:
                found[folder.name] = file
    return found


def interrupted(state: Path) -> list[str]:
    """Run ids of claims that got no further than the companions."""
    found = claimed_files(state)
    folders = (path.name for path in sorted((state / "claimed").glob("*")))
    return [run for run in folders if run not in found and _companions(state, run)]


def archive_folder(state: Path, run_id: str, day: date) -> Path:
    """Where a finished run's file, rejections and report are kept."""
    return state / "archive" / day.isoformat() / run_id


def archive(claimed: Path, folder: Path, state: Path) -> Path:
    """File a claimed file away, its companions first; done already is fine. Raises StateError."""
    target = folder / claimed.name
    run_id = claimed.relative_to(state / "claimed").parts[0]
    try:
        for path in _companions(state, run_id):
            durable.move(path, folder / path.name)
            _remove_empty(path.parent, claim_folder(state, run_id))
        durable.move(claimed, target)
    except FileNotFoundError:
        if not target.exists():
            raise _cannot_move("filed away", claimed, FileNotFoundError(2, "it is gone")) from None
    except OSError as error:
        raise _cannot_move("filed away", claimed, error) from error
    _remove_empty(claimed.parent, state / "claimed")
    return target


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove folders that became empty, up to but without `top`."""
    while folder != top and top in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


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


def _cannot_move(what: str, path: Path, error: OSError) -> StateError:
    return StateError(
        "file-not-moved",
        f"a file cannot be {what}: {error.strerror}",
        where=str(path),
        hint="check permissions and free space of the inbox and of the folder named by paths.state",
    )
