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

from etl import filesystem as durable
from etl import terminal
from etl.errors import FileRefused
from etl.mapping import dependencies as mapping_links
from etl.mapping.model import Mapping
from etl.model.runs import Run
from etl.state.files.archive import archived_file, digest_of, number_of

ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")  #: how a .zip begins; workbooks do, too


@dataclass(frozen=True, slots=True)
class Part:
    """What one run takes of a file: all of it, or a member of an archive."""

    mapping: Mapping
    name: str  #: for people: below the inbox, and with the member behind it
    number: int = 0  #: place of the member in its archive; 0: the file is no archive

    def run_id(self, base: str) -> str:
        """`base` tells the claimed file, the rest what is taken of it."""
        member = f"-m{self.number}" if self.number else ""
        return f"{base}{member}-{self.mapping.feed}"

    def digest(self, whole: str) -> str:
        """Of the file, or one that differs for each of its members."""
        return digest_of(whole, self.number)


def routes(name: str, mappings: Iterable[Mapping]) -> list[Mapping]:
    """The feeds that a file belongs to by its name below the inbox, in the order in which they are to run."""
    known = list(mappings)
    order = mapping_links.ranks(known)
    found = [m for m in known if any(fnmatchcase(name, pattern) for pattern in m.source.files)]
    return sorted(found, key=lambda m: order[m.feed])


def parts(path: Path, name: str, mappings: Iterable[Mapping]) -> list[Part]:
    """What runs are to be opened for a file, in their order. An archive that cannot be opened is a file as it is."""
    known = list(mappings)
    own = routes(name, known)
    inside = _members(path)
    if inside is None:
        within = [m for m in known if m not in own and any(_split(name, pattern) for pattern in m.source.files)]
        return [Part(m, name) for m in (*own, *within)]
    if not inside:
        return [Part(m, name) for m in own]
    order = mapping_links.ranks(known)
    found = [
        Part(m, f"{name}/{shown(member)}", number)
        for number, member in enumerate(inside, 1)
        for m in known
        if m in own or any(fnmatchcase(member, end) for pattern in m.source.files for end in _split(name, pattern))
    ]
    return sorted(found, key=lambda part: (order[part.mapping.feed], part.number))


def unrouted(path: Path, name: str, found: Iterable[Part]) -> list[str]:
    """Members of an archive that belong to no feed, for people."""
    taken = {part.number for part in found}
    return [f"{name}/{shown(member)}" for number, member in enumerate(_members(path) or (), 1) if number not in taken]


def _split(name: str, pattern: str) -> list[str]:
    """The ends of a pattern that are left for members, where its beginning fits the archive."""
    cuts = [at for at, sign in enumerate(pattern) if sign == "/"]
    return [pattern[at + 1 :] for at in cuts if fnmatchcase(name, pattern[:at])]


def _members(path: Path) -> tuple[str, ...] | None:
    """Names in an archive; () for what is none, None for one that is damaged."""
    try:
        with durable.open_plain(path) as raw:
            if raw.read(4) not in ARCHIVES:
                return ()
            from etl import formats

            return formats.members(durable.by_handle(raw, path))
    except FileRefused:
        return None
    except OSError:
        return ()


def shown(member: str) -> str:
    """A member's name for people."""
    return terminal.printable(member).replace("\n", "�").replace("\t", "�")[:200]


def member_of(run: Run) -> str | None:
    """What a run takes of its claimed archive; None: the file as it is. Raises FileRefused."""
    number = number_of(run)
    if not number or run.claimed is None:
        return None
    from etl import formats

    names = formats.members(run.claimed)
    if number > len(names):
        raise FileRefused(
            "member-missing",
            f"the archive has {len(names)} files, the run wants number {number}",
            where=run.file,
            hint="drop the archive into the inbox again",
        )
    return names[number - 1]


__all__ = [
    "Part",
    "archived_file",
    "digest_of",
    "file_before",
    "member_of",
    "number_of",
    "parts",
    "routes",
    "shown",
    "unrouted",
]
