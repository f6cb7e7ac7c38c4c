"""Claims stable files and archives them. A file is in exactly one place, and each move is one rename.

Order of writes (numbers of the crash table): 1 `claim` renames the file into `claimed/<run>/`; the run is opened
after it, so a crash between leaves a claimed file without a run, which `claimed_files` finds; 9 `archive_file` renames
it into `archive/<date>/<run>/` after the run was closed. Companions (done files) go into `claimed/<run>/.done/` before
their file and leave it before their file, so companions alone mean that a claim was interrupted: `restore_companions`
moves them into the inbox.
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

#: Name of the folder for the companions of a claimed file, within its claim folder.
_COMPANION_FOLDER = ".done"


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
    then in the inbox and has to become stable again. Raises StateError.
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
    """Return whether the moved file is the one that was checked; a copy to another file system has a new inode."""
    return after == before if renamed else after[:2] == before[:2]


def return_to_inbox(claimed_path: Path, state: Path, claim_id: str, inbox_folder: Path) -> bool:
    """Move a claimed file and its companions back into the inbox; False when a newer file has its name there.

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
    """Move the companions of a file that was not claimed back into the inbox; delete those that are replaced there."""
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
