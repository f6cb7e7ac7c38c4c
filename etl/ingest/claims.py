"""Claims stable files and archives them. A file is in exactly one place, and each move is one rename.

Order of writes (numbers of the crash table): 1 `claim` renames the file into `claimed/<run>/`; the run is opened
after it, so a crash between leaves a claimed file without a run, which `claimed_files` finds; 9 `archive_file` renames
it into `archive/<date>/<run>/source/` after the run was closed. Companions (done files) go into `claimed/<run>/.done/`
before their file and leave it before their file, so companions alone mean that a claim was interrupted:
`restore_companions` moves them into the inbox.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from etl import filesystem, open_writers
from etl.errors import StateError
from etl.ingest import real_folder
from etl.ingest.scan import FileStat, to_file_stat
from etl.model.tables import SourceFile
from etl.state.files.archive import claim_folder, companion_folder, source_path

#: Name of the folder for the companions of a claimed file, within its claim folder.
_COMPANION_FOLDER = ".done"


class UnmovableFileError(Exception):
    """A file cannot be moved out of its folder in the inbox, or back into it; the message says why."""


def claim(
    inbox_folder: Path,
    name: str,
    state: Path,
    claim_id: str,
    stable_stat: FileStat | None = None,
    companions: Iterable[str] = (),
) -> SourceFile | None:
    """Move a stable file and its companions out of the inbox.

    None when the file is gone or not stable any more: a program writes to it, or it differs from `stable_stat`. It is
    then in the inbox and has to become stable again.

    Raises:
        UnmovableFileError: the file or its folder does not allow it; it stays in the inbox.
        StateError: the state folder cannot be written to.
    """
    folder = claim_folder(state, claim_id)
    target = folder / name
    with filesystem.translate_os_errors(folder):
        filesystem.make_folder(target.parent)
    try:
        status = _take(inbox_folder, name, folder, stable_stat, companions)
    except (FileNotFoundError, NotADirectoryError, BlockingIOError):  # also when its folder has become a link
        _abandon_claim(state, claim_id, target, inbox_folder)
        return None
    except OSError as error:
        _abandon_claim(state, claim_id, target, inbox_folder)
        if filesystem.is_shortage(error):
            raise filesystem.disk_error(error, folder) from error
        raise UnmovableFileError(f"it cannot be taken out of its folder: {error.strerror or error}") from error
    if status is None:
        _abandon_claim(state, claim_id, target, inbox_folder)
        return None
    if not _is_same_file(status, target) and return_to_inbox(target, state, claim_id, inbox_folder):
        return None
    if not filesystem.is_regular_file(target):
        raise UnmovableFileError("something that is no file has taken its place, and cannot be put back")
    for path in (target, *_companion_paths(state, claim_id)):
        filesystem.restrict_to_owner(path)
    return replace(hash_file(target), name=name)


def _take(
    inbox_folder: Path, name: str, folder: Path, stable_stat: FileStat | None, companions: Iterable[str]
) -> os.stat_result | None:
    """Move a file with its companions into a claim folder; return its status before, None when it is not stable."""
    with real_folder.open_parent(inbox_folder, name) as source:
        status = source.lstat()
        if (stable_stat is not None and to_file_stat(status) != stable_stat) or open_writers.has_writer(source):
            return None
        for companion in companions:
            with real_folder.open_parent(inbox_folder, companion) as path:
                filesystem.move(path, folder / _COMPANION_FOLDER / companion)
        filesystem.move(source, folder / name)
    return status


def _is_same_file(before: os.stat_result, target: Path) -> bool:
    """Return whether the moved file is the one that was checked, and nobody writes to it.

    A copy from another file system has another inode.
    """
    if not filesystem.is_regular_file(target) or open_writers.has_writer(target):
        return False
    after = target.lstat()
    if before.st_dev == after.st_dev:
        return to_file_stat(before) == to_file_stat(after)
    return to_file_stat(before)[:2] == to_file_stat(after)[:2]


def _abandon_claim(state: Path, claim_id: str, target: Path, inbox_folder: Path) -> None:
    """Move the companions of a file that was not claimed back, and remove the folders that were made for it."""
    restore_companions(state, claim_id, inbox_folder)
    _remove_empty_folders(target.parent, state / "claimed")


def return_to_inbox(claimed_path: Path, state: Path, claim_id: str, inbox_folder: Path) -> bool:
    """Move a claimed file and its companions back into the inbox; return whether it is there.

    It stays claimed when a newer file has its name in the inbox, or when its folder there does not take it.
    """
    folder = claim_folder(state, claim_id)
    if not _put_back(claimed_path, inbox_folder, claimed_path.relative_to(folder).as_posix()):
        return False
    restore_companions(state, claim_id, inbox_folder)
    _remove_empty_folders(claimed_path.parent, folder.parent)
    return True


def restore_companions(state: Path, claim_id: str, inbox_folder: Path) -> None:
    """Move the companions of a file that was not claimed back into the inbox.

    Those that are replaced there are deleted. Those that their folder does not take stay, and the next start tries
    again.
    """
    folder = claim_folder(state, claim_id) / _COMPANION_FOLDER
    for path in _companion_paths(state, claim_id):
        name = path.relative_to(folder).as_posix()
        if _put_back(path, inbox_folder, name) or filesystem.is_regular_file(inbox_folder / name):
            path.unlink(missing_ok=True)
        _remove_empty_folders(path.parent, folder.parent.parent)


def _put_back(path: Path, inbox_folder: Path, name: str) -> bool:
    """Move a file to a name below the inbox; False where that is taken, or cannot be written to."""
    try:
        with real_folder.open_parent(inbox_folder, name, create=True) as target:
            filesystem.move_without_replacing(path, target)
    except OSError as error:
        if filesystem.is_shortage(error):
            raise filesystem.disk_error(error, inbox_folder / name) from error
        return False
    return True


def attach(state: Path, claim_id: str, name: str, content: bytes) -> None:
    """Write a file of ours that is archived with a claimed file, as its companions are. Raises StateError."""
    path = claim_folder(state, claim_id) / _COMPANION_FOLDER / name
    with filesystem.translate_os_errors(path):
        filesystem.make_folder(path.parent)
    filesystem.write_atomically(path, content)


def read_attachment(state: Path, claim_id: str, name: str) -> bytes:
    """Read a file that `attach` wrote. Raises StateError."""
    path = claim_folder(state, claim_id) / _COMPANION_FOLDER / name
    with filesystem.translate_os_errors(path):
        return path.read_bytes()


def _companion_paths(state: Path, claim_id: str) -> list[Path]:
    folder = claim_folder(state, claim_id) / _COMPANION_FOLDER
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hash_file(path: Path) -> SourceFile:
    """Return size, time and digest of a claimed file. Raises StateError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
    except OSError as error:
        raise _move_error("read", path, error) from error
    return SourceFile(path=path, name=path.name, size=status.st_size, modified_at=status.st_mtime, digest=digest)


def claimed_files(state: Path) -> dict[str, Path]:
    """Return the claimed files that are not archived yet, by run id."""
    files = {}
    for folder in sorted((state / "claimed").glob("*")):
        for file in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
            if file.is_file() and not file.is_symlink() and not hidden:
                files[folder.name] = file
    return files


def incomplete_claims(state: Path) -> list[str]:
    """Return the run ids of claims that were interrupted after the companions were moved."""
    files = claimed_files(state)
    folders = (path.name for path in sorted((state / "claimed").glob("*")))
    return [run for run in folders if run not in files and _companion_paths(state, run)]


def archive_file(claimed_path: Path, folder: Path, state: Path) -> Path:
    """Move a claimed file into the archive, its companions first; a second call does nothing. Raises StateError."""
    target = source_path(folder, claimed_path.name)
    run_id = claimed_path.relative_to(state / "claimed").parts[0]
    companions = claim_folder(state, run_id) / _COMPANION_FOLDER
    try:
        for path in _companion_paths(state, run_id):
            filesystem.move(path, companion_folder(folder) / path.relative_to(companions))
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
