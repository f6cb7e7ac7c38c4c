"""Which feeds a file belongs to by its name, and the files within an archive, each a run of its own.

A pattern names a file below the inbox, an archive (all of its files then), or files within archives:
`erp/day_*.zip/prices*.csv`, the archive before one slash and the member behind it. Names of members are only compared
and shown, never used as paths: what a run reads is told by the number in its id.
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

ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  #: how a .zip begins; workbooks do, too


@dataclass(frozen=True, slots=True)
class FilePart:
    """What one run takes of a file: all of it, or a member of an archive."""

    mapping: Mapping
    display_name: str  #: for people: below the inbox, and with the member behind it
    member_number: int = 0  #: place of the member in its archive; 0: the file is no archive

    def run_id(self, claim_id: str) -> str:
        """`base` tells the claimed file, the rest what is taken of it."""
        member = f"-m{self.member_number}" if self.member_number else ""
        return f"{claim_id}{member}-{self.mapping.feed}"

    def digest(self, file_digest: str) -> str:
        """Of the file, or one that differs for each of its members."""
        return part_digest(file_digest, self.member_number)


def match_mappings(name: str, mappings: Iterable[Mapping]) -> list[Mapping]:
    """The feeds that a file belongs to by its name below the inbox, in the order in which they are to run."""
    known = list(mappings)
    order = dependencies.run_order(known)
    found = [m for m in known if any(fnmatchcase(name, pattern) for pattern in m.source.files)]
    return sorted(found, key=lambda m: order[m.feed])


def route_file(path: Path, name: str, mappings: Iterable[Mapping]) -> list[FilePart]:
    """What runs are to be opened for a file, in their order. An archive that cannot be opened is a file as it is."""
    known = list(mappings)
    own = match_mappings(name, known)
    inside = _list_members(path)
    if inside is None:
        within = [
            m for m in known if m not in own and any(_member_patterns(name, pattern) for pattern in m.source.files)
        ]
        return [FilePart(m, name) for m in (*own, *within)]
    if not inside:
        return [FilePart(m, name) for m in own]
    order = dependencies.run_order(known)
    found = [
        FilePart(m, f"{name}/{display_name(member)}", number)
        for number, member in enumerate(inside, 1)
        for m in known
        if m in own
        or any(fnmatchcase(member, end) for pattern in m.source.files for end in _member_patterns(name, pattern))
    ]
    return sorted(found, key=lambda part: (order[part.mapping.feed], part.member_number))


def unrouted_members(path: Path, name: str, parts: Iterable[FilePart]) -> list[str]:
    """Members of an archive that belong to no feed, for people."""
    taken = {part.member_number for part in parts}
    return [
        f"{name}/{display_name(member)}"
        for number, member in enumerate(_list_members(path) or (), 1)
        if number not in taken
    ]


def _member_patterns(name: str, pattern: str) -> list[str]:
    """The ends of a pattern that are left for members, where its beginning fits the archive."""
    cuts = [at for at, sign in enumerate(pattern) if sign == "/"]
    return [pattern[at + 1 :] for at in cuts if fnmatchcase(name, pattern[:at])]


def _list_members(path: Path) -> tuple[str, ...] | None:
    """Names in an archive; () for what is none, None for one that is damaged."""
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
    """A member's name for people."""
    return terminal.printable(member).replace("\n", "�").replace("\t", "�")[:200]


def member_name(run: Run) -> str | None:
    """What a run takes of its claimed archive; None: the file as it is. Raises FileRefused."""
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
