"""Routes a file to its feeds by name; each member of an archive is a run of its own.

A pattern names a file below the inbox, an archive (then all of its members), or members of archives:
`erp/day_*.zip/prices*.csv`, the archive before a slash and the member behind it. Names of members are compared and
displayed only, never used as paths: a run identifies its member by the number in its id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from etl import filesystem, terminal
from etl.errors import InvalidFileError
from etl.mapping import dependencies
from etl.mapping.model import Mapping
from etl.model.runs import Run
from etl.state.files.archive import member_number, part_digest

ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  #: first bytes of a .zip file; workbooks have them, too


@dataclass(frozen=True, slots=True)
class FilePart:
    """The part of a file that one run reads: all of it, or a member of an archive."""

    mapping: Mapping
    display_name: str  #: the name below the inbox, followed by that of the member
    member_number: int = 0  #: place of the member in its archive, from 1; 0: the file is no archive

    def run_id(self, claim_id: str) -> str:
        """Return the id of the run, which begins with the id of the claim."""
        member = f"-m{self.member_number}" if self.member_number else ""
        return f"{claim_id}{member}-{self.mapping.feed}"

    def digest(self, file_digest: str) -> str:
        """Return the digest of the part: that of the file, or one that differs for each of its members."""
        return part_digest(file_digest, self.member_number)


@dataclass(frozen=True, slots=True)
class Route:
    """The parts of a file in the order of their runs, and the display names of members that belong to no feed."""

    parts: tuple[FilePart, ...] = ()
    unrouted_members: tuple[str, ...] = ()


def match_mappings(name: str, mappings: Iterable[Mapping]) -> list[Mapping]:
    """Return the mappings that a file belongs to by its name below the inbox, in the order of their runs."""
    mappings = list(mappings)
    order = dependencies.run_order(mappings)
    matching = [mapping for mapping in mappings if _matches_file(name, mapping)]
    return sorted(matching, key=lambda mapping: order[mapping.feed])


def route_file(path: Path, name: str, mappings: Iterable[Mapping]) -> Route:
    """Return the runs that a file needs. A damaged archive goes to its feeds as one file, so that their runs say so.

    Args:
        name: the file's name below the inbox, which may differ from that of `path`.
    """
    mappings = list(mappings)
    members = _list_members(path)
    if not members:
        matching = match_mappings(name, mappings)
        if members is None:
            matching += [mapping for mapping in mappings if mapping not in matching and _member_patterns(name, mapping)]
        return Route(tuple(FilePart(mapping, name) for mapping in matching))
    order = dependencies.run_order(mappings)
    parts = [
        FilePart(mapping, f"{name}/{display_name(member)}", number)
        for number, member in enumerate(members, 1)
        for mapping in mappings
        if _matches_file(name, mapping) or any(fnmatchcase(member, end) for end in _member_patterns(name, mapping))
    ]
    routed = {part.member_number for part in parts}
    unrouted = (member for number, member in enumerate(members, 1) if number not in routed)
    return Route(
        tuple(sorted(parts, key=lambda part: (order[part.mapping.feed], part.member_number))),
        tuple(f"{name}/{display_name(member)}" for member in unrouted),
    )


def _matches_file(name: str, mapping: Mapping) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in mapping.source.files)


def _member_patterns(name: str, mapping: Mapping) -> list[str]:
    """Return the ends of the mapping's patterns that apply to members of the archive `name`."""
    return [
        pattern[position + 1 :]
        for pattern in mapping.source.files
        for position, character in enumerate(pattern)
        if character == "/" and fnmatchcase(name, pattern[:position])
    ]


def _list_members(path: Path) -> tuple[str, ...] | None:
    """Return the names in an archive; () for a file that is none, None for a damaged archive."""
    try:
        with filesystem.open_regular_file(path) as raw:
            if raw.read(4) not in ZIP_SIGNATURES:
                return ()
            from etl import formats

            return formats.archive_members(filesystem.descriptor_path(raw, path))
    except InvalidFileError:
        return None
    except OSError:
        return ()


def display_name(member: str) -> str:
    """Return a member's name without control characters, at most 200 characters long."""
    return terminal.printable(member).replace("\n", "�").replace("\t", "�")[:200]


def member_name(run: Run) -> str | None:
    """Return the member that a run reads; None for the whole file.

    Raises:
        InvalidFileError: the archive has no such member.
    """
    number = member_number(run)
    if not number or run.claimed is None:
        return None
    from etl import formats

    names = formats.archive_members(run.claimed)
    if number > len(names):
        raise InvalidFileError(
            "member-missing",
            f"the archive has {len(names)} files, the run wants number {number}",
            where=run.file,
            hint="drop the archive into the inbox again",
        )
    return names[number - 1]
