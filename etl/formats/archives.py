"""Packed files: .gz and the members of a .zip, unpacked within bounds into a temporary file.

A zip file that is a workbook counts as a workbook. The directory of an archive may hold wrong sizes, so the unpacked
bytes are counted.
"""

from __future__ import annotations

import gzip
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from etl.errors import InvalidFileError
from etl.formats import errors
from etl.formats.limits import ReadLimits

COPY_CHUNK = 1 << 20
#: What Python's zipfile and gzip raise about damaged archives.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
WORKBOOK_PARTS = frozenset(("[content_types].xml", "content.xml", "_rels/.rels", "xl/workbook.xml", "xl/workbook.bin"))


def archive_kind(path: Path) -> str:
    """Return "gz", "zip" or "" by the first bytes, not by the name."""
    with path.open("rb") as raw:
        head = raw.read(4)
    if head[:2] == b"\x1f\x8b":
        return "gz"
    if head != b"PK\x03\x04" and head != b"PK\x05\x06":
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.replace("\\", "/").lower() for name in archive.namelist()}
    except ARCHIVE_ERRORS:
        return "zip"
    return "" if names & WORKBOOK_PARTS else "zip"


def member_names(path: Path, limits: ReadLimits) -> tuple[str, ...]:
    """Return the names of the files in an archive; () for a file that is no archive."""
    if archive_kind(path) != "zip":
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [part for part in archive.infolist() if not part.is_dir()]
    except ARCHIVE_ERRORS:
        raise _damaged_archive(path.name) from None
    names = tuple(part.filename for part in parts if not _is_system_file(part.filename))
    if len(names) > limits.members:
        raise errors.file_too_big(path.name, f"the number of its members ({len(names):,})", limits.members)
    return names


def _is_system_file(name: str) -> bool:
    """Return whether a member is a file that desktop programs add to archives."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "__MACOSX" in parts or parts[-1:] == ("Thumbs.db",) or (bool(parts) and parts[-1].startswith("."))


@contextmanager
def unpack(path: Path, member: str | None, limits: ReadLimits) -> Iterator[Path]:
    """Yield the file itself, or the file that is packed in it, unpacked under its own name."""
    packed = archive_kind(path)
    if not packed:
        if member is not None:
            raise InvalidFileError(
                "member-missing", "the file is no archive", where=path.name, hint="ask for the file without a member"
            )
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="etl-unpacked-") as folder:
        try:
            if packed == "gz":
                name = path.name.removesuffix(".gz") or path.name
                with gzip.open(path) as stream:
                    inner = _copy_within_limits(stream, Path(folder, name), path, path.stat().st_size, limits)
            else:
                inner = _unpack_member(path, member, Path(folder), limits)
        except ARCHIVE_ERRORS as error:
            if isinstance(error, RuntimeError) and "password" in str(error):
                raise InvalidFileError(
                    "archive-encrypted",
                    "the archive is protected by a password",
                    where=path.name,
                    hint="pack it without a password",
                ) from None
            raise _damaged_archive(path.name) from None
        yield inner


def _unpack_member(path: Path, member: str | None, folder: Path, limits: ReadLimits) -> Path:
    names = member_names(path, limits)
    if member is None and len(names) == 1:
        member = names[0]
    if member is None or member not in names:
        what = f"there is no member {member!r}" if member else f"the archive holds {len(names)} files"
        raise InvalidFileError(
            "archive-members",
            f"{what}: {', '.join(names[:10])}",
            where=path.name,
            hint="every member is a file of its own: name one of them",
        )
    with zipfile.ZipFile(path) as archive:
        packed = archive.getinfo(member).compress_size
        with archive.open(member) as stream:
            name = PurePosixPath(member.replace("\\", "/")).name
            return _copy_within_limits(stream, folder / name, path, packed, limits)


def _copy_within_limits(
    source: IO[bytes] | gzip.GzipFile, target: Path, path: Path, packed_size: int, limits: ReadLimits
) -> Path:
    size = 0
    with target.open("wb") as out:
        while piece := source.read(COPY_CHUNK):
            size += len(piece)
            check_unpacked_size(path.name, size, packed_size, limits)
            out.write(piece)
    return target


def check_unpacked_size(name: str, unpacked_size: int, packed_size: int, limits: ReadLimits) -> None:
    """Raise InvalidFileError when a file is larger than allowed, or far larger than its packed size."""
    if unpacked_size > limits.unpacked_bytes:
        raise errors.file_too_big(name, "its unpacked size", limits.unpacked_bytes, unit=" bytes")
    if unpacked_size > limits.ratio_min_bytes and unpacked_size > packed_size * limits.unpack_ratio:
        raise errors.file_too_big(name, "the ratio of its unpacked to its packed size", limits.unpack_ratio)


def _damaged_archive(name: str) -> InvalidFileError:
    return InvalidFileError(
        "archive-unreadable",
        "the archive is damaged or cut off",
        where=name,
        hint="ask the source to pack and send it again",
    )


__all__ = ["ARCHIVE_ERRORS", "archive_kind", "check_unpacked_size", "member_names", "unpack"]
