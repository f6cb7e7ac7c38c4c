"""Writes and moves files so that each is complete or absent, also after a power cut.

The names of half-written files are always the same for one target, so that trying again after a crash writes over
them. What the disk refuses becomes a StateError here: it concerns the operator, not the file that is being processed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etl.errors import StateError

TEMP_SUFFIX = ".tmp"


@contextlib.contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of a file of ours as a StateError with a hint."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path | None = None) -> StateError:
    """Return the StateError for an OSError."""
    where = str(path or error.filename or "the state folder")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code, hint = "state-disk-full", "make room; nothing is lost, and the next start goes on where this one stopped"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        code, hint = (
            "state-not-writable",
            "make the folder named by paths.state writable for this user, and start again",
        )
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        code, hint = "state-too-many-files", "raise the limit of open files (ulimit -n), and start again"
    else:
        code, hint = "state-disk-failed", "look at the disk; nothing is lost, and the next start goes on from there"
    return StateError(code, f"the disk reports an error: {error.strerror or error}", where=where, hint=hint)


def is_shortage(error: OSError) -> bool:
    """Return whether an error is about the machine, not about the file: a full or failing disk, too many open files."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write through a temporary neighbour: temp, fsync, rename, fsync of the folder. Raises StateError."""
    with open_atomically(path, mode) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Open a file to be written piece by piece; it gets its name when the block has ended without an error."""
    temporary = temp_path(path)
    with translate_os_errors(path):
        try:
            with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def temp_path(path: Path) -> Path:
    """Return where a file is written before it gets its name."""
    return path.with_name(f".{path.name}{TEMP_SUFFIX}")


def delete_temp_files(folder: Path) -> None:
    """Remove what a crash left half-written anywhere below a folder."""
    for path in folder.rglob(f".*{TEMP_SUFFIX}"):
        path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename, on another file system copy, sync and remove; the target folder is made. Raises OSError."""
    make_folder(target.parent)
    try:
        source.rename(target)
        if source.exists() and source.samefile(target):
            source.unlink()  # two names of one file: a rename leaves both
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_and_remove(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def move_without_replacing(source: Path, target: Path) -> None:
    """Move a file as `move` does, but raise FileExistsError rather than replace a file."""
    make_folder(target.parent)
    if _rename_without_replacing(source, target):
        sync_folder(target.parent)
        sync_folder(source.parent)
        return
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    move(source, target)


def _rename_without_replacing(source: Path, target: Path) -> bool:
    """Rename without replacing, in one step; False where the system or the file system cannot."""
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, without_replacing = -100, 1  # AT_FDCWD, RENAME_NOREPLACE
    if rename(here, os.fsencode(source), here, os.fsencode(target), without_replacing) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(source))


def _copy_and_remove(source: Path, target: Path) -> None:
    temporary = temp_path(target)
    before = source.lstat()
    try:
        with open_regular_file(source) as original, _create(temporary) as copy:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fchmod(copy.fileno(), stat.S_IMODE(before.st_mode))
            os.utime(copy.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
            os.fsync(copy.fileno())
            inode = os.fstat(copy.fileno()).st_ino
        now = source.lstat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise BlockingIOError(errno.EAGAIN, "it is still being written", str(source))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if target.lstat().st_ino != inode:
        raise OSError(errno.EEXIST, "somebody has replaced the copy", str(target))
    sync_folder(target.parent)
    try:
        source.unlink()
    except OSError:
        target.unlink()  # a file is in one place
        raise


def _create(path: Path) -> IO[bytes]:
    """Open a new file for writing; whatever has the name, be it a link, is removed and never followed."""
    path.unlink(missing_ok=True)
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def hard_link(path: Path, link: Path) -> None:
    """Give a file a second name; where a link is not allowed (it belongs to somebody else), make a copy.

    Raises OSError.
    """
    try:
        os.link(path, link)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
            raise
        temporary = temp_path(link)
        with open_regular_file(path) as original, _create(temporary) as copy:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fsync(copy.fileno())
        temporary.replace(link)
    sync_folder(link.parent)


def make_folder(path: Path) -> None:
    """Make a folder with its parents, and sync each into its own parent. Raises OSError."""
    missing = [path, *path.parents]
    missing = missing[: next((n for n, folder in enumerate(missing) if folder.is_dir()), len(missing))]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True, mode=0o700)
        sync_folder(folder.parent)


def open_regular_file(path: Path) -> io.BufferedReader:
    """Open a regular file for reading, without following a link or waiting. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return io.BufferedReader(io.FileIO(handle))
    os.close(handle)
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def descriptor_path(file: io.BufferedReader, path: Path) -> Path:
    """Return a path to an open file that stays the same file whatever happens to its name `path`."""
    held = Path(f"/proc/self/fd/{file.fileno()}")
    return held if held.exists() else path


def is_regular_file(path: Path) -> bool:
    """Whether there is a regular file; links are none."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def restrict_to_owner(path: Path) -> None:
    """Restrict a file to its owner; what belongs to somebody else is in a folder that nobody else may enter."""
    with contextlib.suppress(OSError), open_regular_file(path) as file:
        os.fchmod(file.fileno(), 0o600)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; silent where the system cannot."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO):
            raise
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
