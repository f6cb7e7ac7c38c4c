"""Looks beside an export for what has to be there before it counts as complete: its done file, and a manifest that
lists it with the right checksum.

A done file says nothing of the content, so it is consumed with its export: left behind, it would vouch for the next
one of that name. A manifest vouches for its content whenever it stands there; it goes with the last of its files.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from etl import filesystem as durable
from etl.ingest import scan
from etl.ingest.routing import routes
from etl.mapping import companion_names as manifest
from etl.mapping.companion_names import Checksum
from etl.mapping.model import Mapping as Feed

#: Bytes of a manifest that are read.
LARGEST = 16 * 1024 * 1024


class Companions:
    """Of one inbox. Remembers checksums for as long as the files look the same."""

    def __init__(self, inbox: Path, feeds: Mapping[str, Feed], was_taken: Callable[[str, float], bool]) -> None:
        self._inbox = inbox
        self._feeds = feeds
        self._was_taken = was_taken
        self._sums: dict[tuple[str, str], tuple[scan.Look, str]] = {}

    def of(self, name: str, feeds: Iterable[Feed]) -> list[str] | str:
        """The companions that go with an export when it is claimed, or what it lacks, as a sentence."""
        found: list[str] = []
        for feed in feeds:
            if feed.source.done is not None:
                done = manifest.plain(feed.source.done, name) or ""
                if not durable.is_plain(self._inbox / done):
                    return f"its done file {posixpath.basename(done)} is not there yet"
                found.append(done)
            if feed.source.manifest is not None:
                vouching = self._vouching(feed.source.manifest, name)
                if isinstance(vouching, str):
                    return vouching
                found += [path for path, listed in vouching if self._is_spent(path, listed, name)]
        self._sums = {key: known for key, known in self._sums.items() if key[0] != name}
        return list(dict.fromkeys(found))

    def _vouching(self, pattern: str, name: str) -> list[tuple[str, Mapping[str, Checksum]]] | str:
        """Manifests that list the export with its checksum, or why there is none."""
        reason = "no manifest lists it yet"
        found = []
        for path in self._manifests(pattern, name):
            try:
                with durable.open_plain(self._inbox / path) as file:
                    text = file.read(LARGEST).decode("utf-8", errors="replace")
                listed = manifest.read(text, path)
            except OSError:
                continue
            except ValueError as error:
                reason = f"{path}: {error}"
                continue
            said = listed.get(name)
            if said is None:
                continue
            if self._sum(name, said.algorithm) == said.value:
                found.append((path, listed))
            else:
                reason = f"{path} gives it another {said.algorithm} than it has"
        return found or reason

    def _manifests(self, pattern: str, name: str) -> list[str]:
        plain = manifest.plain(pattern, name)
        if plain is not None:
            return [plain]
        below = posixpath.dirname(posixpath.join(posixpath.dirname(name), pattern))
        wanted = manifest.beside(pattern, name)
        try:
            names = sorted(posixpath.join(below, entry) for entry in os.listdir(self._inbox / below))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [path for path in names if wanted.fullmatch(path) and scan.is_wanted(path)]

    def _sum(self, name: str, algorithm: str) -> str:
        with durable.open_plain(self._inbox / name) as file:
            look = scan.look(os.fstat(file.fileno()))
            known = self._sums.get((name, algorithm))
            if known is None or known[0] != look:
                known = look, hashlib.file_digest(file, algorithm).hexdigest()
                self._sums[name, algorithm] = known
        return known[1]

    def _is_spent(self, path: str, listed: Mapping[str, Checksum], name: str) -> bool:
        """Whether all other files of a manifest that belong to a feed have been taken since it came."""
        arrived = (self._inbox / path).stat().st_ctime
        others = [other for other in listed if other != name and routes(other, self._feeds.values())]
        return all(not (self._inbox / other).exists() and self._was_taken(other, arrived) for other in others)
