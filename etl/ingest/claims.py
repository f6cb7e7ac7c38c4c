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

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from etl import filesystem, open_writers
from etl.errors import StateError
from etl.ingest.scan import FileStat, to_file_stat
from etl.model.tables import SourceFile
from etl.state.files.archive import claim_folder

#: Where the companions of a claimed file wait, within its claim folder.
_COMPANION_FOLDER = ".done"


def claim(
    inbox_folder: Path,
    name: str,
    state: Path,
    claim_id: str,
    stable_stat: FileStat | None = None,
    companions: Iterable[str] = (),
) -> SourceFile | None:
    """Move a settled file and its companions out of the inbox.

    None when somebody was faster, or when it is not still after all: somebody writes to it, or it no longer looks as
    it did when it had `settled`. It is in the inbox then, and has to settle anew. Raises StateError.
    """
    folder = claim_folder(state, claim_id)
    target = folder / name
    try:
        before = to_file_stat((inbox_folder / name).stat(follow_symlinks=False))
        if (stable_stat is not None and before != stable_stat) or open_writers.has_writer(inbox_folder / name):
            return None
        for companion in companions:
            filesystem.move(inbox_folder / companion, folder / _COMPANION_FOLDER / companion)
        filesystem.move(inbox_folder / name, target)
    except (FileNotFoundError, BlockingIOError):
        restore_companions(state, claim_id, inbox_folder)
        _remove_empty_folders(target.parent, folder.parent)
        return None
    except OSError as error:
        raise _move_error("claimed", inbox_folder / name, error) from error
    source = hash_file(target) if filesystem.is_regular_file(target) and not open_writers.has_writer(target) else None
    renamed = inbox_folder.stat().st_dev == folder.stat().st_dev
    if source is None or not _is_same_file(before, to_file_stat(target.stat(follow_symlinks=False)), renamed=renamed):
        return_to_inbox(target, state, claim_id, inbox_folder)
        return None
    for path in (target, *_companion_paths(state, claim_id)):
        filesystem.restrict_to_owner(path)
    return replace(source, name=name)


def _is_same_file(before: FileStat, after: FileStat, *, renamed: bool) -> bool:
    """Whether what was moved is what was looked at; a copy over a border of file systems is another inode."""
    return after == before if renamed else after[:2] == before[:2]


def return_to_inbox(claimed_path: Path, state: Path, claim_id: str, inbox_folder: Path) -> bool:
    """A claimed file and its companions go back to where they came from; False when a newer file stands there.

    Raises StateError.
    """
    folder = claim_folder(state, claim_id)
    try:
        filesystem.move_without_replacing(claimed_path, inbox_folder / claimed_path.relative_to(folder))
    except FileExistsError:
        return False
    except OSError as error:
        raise _move_error("put back", claimed_path, error) from error
    restore_companions(state, claim_id, inbox_folder)
    _remove_empty_folders(claimed_path.parent, folder.parent)
    return True


def restore_companions(state: Path, claim_id: str, inbox_folder: Path) -> None:
    """Companions whose file was not claimed go back; where new ones stand already, the old ones mean nothing."""
    folder = claim_folder(state, claim_id) / _COMPANION_FOLDER
    for path in _companion_paths(state, claim_id):
        try:
            filesystem.move_without_replacing(path, inbox_folder / path.relative_to(folder))
        except FileExistsError:
            path.unlink()
        except OSError as error:
            raise _move_error("put back", path, error) from error
        _remove_empty_folders(path.parent, folder.parent.parent)


def attach(state: Path, claim_id: str, name: str, content: bytes) -> None:
    """Something of ours that goes with a claimed file, as its companions do. Raises StateError."""
    path = claim_folder(state, claim_id) / _COMPANION_FOLDER / name
    with filesystem.translate_os_errors(path):
        filesystem.make_folder(path.parent)
    filesystem.write_atomically(path, content)


def read_attachment(state: Path, claim_id: str, name: str) -> bytes:
    """Raises StateError."""
    path = claim_folder(state, claim_id) / _COMPANION_FOLDER / name
    with filesystem.translate_os_errors(path):
        return path.read_bytes()


def _companion_paths(state: Path, claim_id: str) -> list[Path]:
    folder = claim_folder(state, claim_id) / _COMPANION_FOLDER
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hash_file(path: Path) -> SourceFile:
    """Size, time and digest of a file that is ours. Raises StateError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
    except OSError as error:
        raise _move_error("read", path, error) from error
    return SourceFile(path=path, name=path.name, size=status.st_size, modified_at=status.st_mtime, digest=digest)


def claimed_files(state: Path) -> dict[str, Path]:
    """Run ids to the files that were claimed for them and not filed away yet."""
    found = {}
    for folder in sorted((state / "claimed").glob("*")):
        for file in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
            if file.is_file() and not file.is_symlink() and not hidden:
                found[folder.name] = file
    return found


def incomplete_claims(state: Path) -> list[str]:
    """Run ids of claims that got no further than the companions."""
    found = claimed_files(state)
    folders = (path.name for path in sorted((state / "claimed").glob("*")))
    return [run for run in folders if run not in found and _companion_paths(state, run)]


def archive_file(claimed_path: Path, folder: Path, state: Path) -> Path:
    """File a claimed file away, its companions first; done already is fine. Raises StateError."""
    target = folder / claimed_path.name
    run_id = claimed_path.relative_to(state / "claimed").parts[0]
    try:
        for path in _companion_paths(state, run_id):
            filesystem.move(path, folder / path.name)
            _remove_empty_folders(path.parent, claim_folder(state, run_id))
        filesystem.move(claimed_path, target)
    except FileNotFoundError:
        if not target.exists():
            raise _move_error("filed away", claimed_path, FileNotFoundError(2, "it is gone")) from None
    except OSError as error:
        raise _move_error("filed away", claimed_path, error) from error
    _remove_empty_folders(claimed_path.parent, state / "claimed")
    return target


def _remove_empty_folders(folder: Path, top: Path) -> None:
    """Remove folders that became empty, up to but without `top`."""
    while folder != top and top in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _move_error(action: str, path: Path, error: OSError) -> StateError:
    return StateError(
        "file-not-moved",
        f"a file cannot be {action}: {error.strerror}",
        where=str(path),
        hint="check permissions and free space of the inbox and of the folder named by paths.state",
    )
