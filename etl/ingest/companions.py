"""Finds the companion files without which an export is not complete: its done file, and a checksum manifest that lists
it with the right checksum.

A done file says nothing of the content, so it is claimed with its export: left behind, it would count for the next file
of that name. A manifest holds checksums of the content, so it may stay; it is claimed with the last of its files.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from etl import filesystem
from etl.ingest import scan
from etl.ingest.routing import match_mappings
from etl.mapping import companion_names
from etl.mapping.companion_names import Checksum
from etl.mapping.model import Mapping as Feed

#: Largest number of bytes of a manifest.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


#: Manifests that are kept in memory.
MAX_KEPT_MANIFESTS = 50


class CompanionFinder:
    """The companion files of one inbox. Caches checksums and manifests until size, time or inode of a file change."""

    def __init__(
        self, inbox_folder: Path, mappings: Mapping[str, Feed], has_run_since: Callable[[str, float], bool]
    ) -> None:
        self._inbox_folder = inbox_folder
        self._mappings_by_feed = mappings
        self._has_run_since = has_run_since
        self._checksums: dict[tuple[str, str], tuple[scan.FileStat, str]] = {}
        self._manifests: dict[str, tuple[scan.FileStat, Mapping[str, Checksum] | str]] = {}

    def required_for(self, name: str, mappings: Iterable[Feed]) -> list[str] | str:
        """Return the companions that are claimed with an export, or why it is not ready, as a sentence."""
        try:
            return self._required_for(name, mappings)
        except OSError as error:  # a file can vanish, or become another thing, between two looks
            if filesystem.is_shortage(error):
                raise filesystem.disk_error(error, self._inbox_folder / name) from error
            return f"it or a file that belongs to it cannot be read: {error.strerror or error}"

    def _required_for(self, name: str, mappings: Iterable[Feed]) -> list[str] | str:
        companions: list[str] = []
        for feed in mappings:
            if feed.source.done is not None:
                done = companion_names.single_name(feed.source.done, name) or ""
                if not filesystem.is_regular_file(self._inbox_folder / done):
                    return f"its done file {posixpath.basename(done)} is not there yet"
                companions.append(done)
            if feed.source.manifest is not None:
                manifests = self._matching_manifests(feed.source.manifest, name)
                if isinstance(manifests, str):
                    return manifests
                companions += [path for path, listed in manifests if self._is_used_up(path, listed, name)]
        self._checksums = {key: checksum for key, checksum in self._checksums.items() if key[0] != name}
        return list(dict.fromkeys(companions))

    def _matching_manifests(self, pattern: str, name: str) -> list[tuple[str, Mapping[str, Checksum]]] | str:
        """Return the manifests that list the export with its checksum, or why there is none, as a sentence."""
        reason = "no manifest lists it yet"
        manifests = []
        for path in self._manifest_paths(pattern, name):
            try:
                listed = self._read_manifest(path)
            except OSError:
                continue
            if isinstance(listed, str):
                reason = f"{path}: {listed}"
                continue
            checksum = listed.get(name)
            if checksum is None:
                continue
            if self._checksum(name, checksum.algorithm) == checksum.value:
                manifests.append((path, listed))
            else:
                reason = f"{path} gives it another {checksum.algorithm} than it has"
        return manifests or reason

    def _read_manifest(self, path: str) -> Mapping[str, Checksum] | str:
        """Return the checksums of a manifest by name, or why it is none. Raises OSError."""
        with filesystem.open_regular_file(self._inbox_folder / path) as file:
            file_stat = scan.to_file_stat(os.fstat(file.fileno()))
            entry = self._manifests.get(path)
            if entry is not None and entry[0] == file_stat:
                return entry[1]
            if file_stat.size > MAX_MANIFEST_BYTES:
                return f"it is larger than {MAX_MANIFEST_BYTES // 1024 // 1024} MiB"
            text = file.read(MAX_MANIFEST_BYTES).decode("utf-8", errors="replace")
        listed: Mapping[str, Checksum] | str
        try:
            listed = companion_names.parse_manifest(text, path)
        except ValueError as error:
            listed = str(error)
        if len(self._manifests) >= MAX_KEPT_MANIFESTS:
            self._manifests.clear()
        self._manifests[path] = file_stat, listed
        return listed

    def _manifest_paths(self, pattern: str, name: str) -> list[str]:
        plain = companion_names.single_name(pattern, name)
        if plain is not None:
            return [plain]
        below = posixpath.dirname(posixpath.join(posixpath.dirname(name), pattern))
        wanted = companion_names.name_regex(pattern, name)
        try:
            names = sorted(posixpath.join(below, entry) for entry in os.listdir(self._inbox_folder / below))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [path for path in names if wanted.fullmatch(path) and scan.may_be_export(path)]

    def _checksum(self, name: str, algorithm: str) -> str:
        with filesystem.open_regular_file(self._inbox_folder / name) as file:
            file_stat = scan.to_file_stat(os.fstat(file.fileno()))
            entry = self._checksums.get((name, algorithm))
            if entry is None or entry[0] != file_stat:
                entry = file_stat, hashlib.file_digest(file, algorithm).hexdigest()
                self._checksums[name, algorithm] = entry
        return entry[1]

    def _is_used_up(self, path: str, checksums: Mapping[str, Checksum], name: str) -> bool:
        """Return whether all other files of a manifest that belong to a feed were claimed after it arrived."""
        arrived = (self._inbox_folder / path).stat().st_ctime
        others = [
            other for other in checksums if other != name and match_mappings(other, self._mappings_by_feed.values())
        ]
        return all(
            not (self._inbox_folder / other).exists() and self._has_run_since(other, arrived) for other in others
        )
