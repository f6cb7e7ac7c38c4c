"""Fetches exports from suppliers' servers into the inbox: every file once and whole, whatever breaks on the way.

Order of writes for one file, and what the next round makes of a crash right after each:
 1 bytes into `.fetch-<id>.part` in the inbox, synced at every full block; the id is of source, path, size and time, so
   bytes of another version are never mixed in                          -> goes on from the last full block
 2 the ledger says *whole*: size and checksum agree, and the server's file is still the same  -> goes on with 3
 3 renamed to its name in the inbox, never over a file that waits there -> part gone, so 4
 4 the ledger says *arrived*                                            -> goes on with 5
 5 `after`: left, deleted or moved on the server                        -> tried again while the server lists it
 6 gone from the server, so forgotten: what comes there next is new
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import posixpath
import shutil
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Protocol

from etl import filesystem as durable
from etl.config.fetch_settings import FetchSettings
from etl.config.secrets import Secret
from etl.errors import FetchError, StateError
from etl.ingest import scan
from etl.mapping import companion_names as manifest
from etl.sources import sftp as remote
from etl.sources.sftp import Entry, Remote
from etl.state.ledger.fetched_files import Fetched, Memory

#: What concerns one file only: the others are fetched all the same.
_OF_ONE = ("fetch-denied", "fetch-refused", "fetch-checksum", "fetch-not-there")

#: Bytes after which what has come is synced, and from which a broken transfer goes on.
BLOCK = 1024 * 1024


class Tell(Protocol):
    """Hears events."""

    def __call__(self, event: str, **facts: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Round:
    """How one visit to a server went."""

    source: str
    arrived: tuple[str, ...]  #: names in the inbox
    waiting: tuple[tuple[str, str], ...]  #: names that could not be taken yet, and why
    known: int  #: files on the server that were fetched before


class Fetch:
    """The files of one `[fetch.NAME]`."""

    def __init__(
        self,
        name: str,
        settings: FetchSettings,
        secret: Secret | None,
        box: Path,
        memory: Memory,
        was_taken: Callable[[str, float], bool],
        tell: Tell,
    ) -> None:
        self._name = name
        self._settings = settings
        self._secret = secret
        self._into = settings.into if settings.into is not None else name
        self._folder = box / self._into
        self._memory = memory
        self._was_taken = was_taken
        self._tell = tell

    def round(self, stopped: Callable[[], bool] = lambda: False) -> Round | None:
        """Everything that is there now; None when it was stopped. Raises FetchError and StateError; what has arrived
        by then has."""
        with durable.translated(self._folder):
            durable.make_folder(self._folder)
        return asyncio.run(_unless(stopped, self._round()))

    async def _round(self) -> Round:
        arrived = [self._publish(file) for file in self._memory.all() if file.state == "whole"]
        waiting: list[tuple[str, str]] = []
        trouble: list[FetchError] = []
        async with remote.opened(self._settings, self._secret) as server:
            listed, restless = await self._settled(server)
            known = {(file.path, file.size, file.modified): file for file in self._memory.all()}
            waiting += [(entry.name, "it is still being written on the server") for entry in restless]
            for entry in listed:
                if (entry.path, entry.size, entry.modified) in known:
                    continue
                try:
                    file = await self._take(server, entry)
                except FetchError as error:
                    if error.code not in _OF_ONE:
                        raise
                    trouble.append(error)
                    continue
                if isinstance(file, str):
                    waiting.append((entry.name, file))
                else:
                    arrived.append(self._publish(file))
            present = {(entry.path, entry.size, entry.modified) for entry in [*listed, *restless]}
            await self._tidy(server, present)
        self._sweep(present)
        names = tuple(name for name in arrived if name is not None)
        waits = [posixpath.basename(file.path) for file in self._memory.all() if file.state == "whole"]
        waiting += [(name, "an older file of that name is still in the inbox") for name in waits]
        for name, reason in waiting:
            self._tell("file_waiting", source=self._name, file=name, reason=reason)
        if trouble:
            raise trouble[0]
        return Round(self._name, names, tuple(waiting), len(known))

    async def _settled(self, server: Remote) -> tuple[list[Entry], list[Entry]]:
        """What the server has that fits, apart from what changes between two looks."""
        first = await self._listing(server)
        remembered = {(file.path, file.size, file.modified) for file in self._memory.all()}
        if all((entry.path, entry.size, entry.modified) in remembered for entry in first):
            return first, []
        await asyncio.sleep(self._settings.settle_seconds)
        second = await self._listing(server)
        return [entry for entry in second if entry in first], [entry for entry in second if entry not in first]

    async def _listing(self, server: Remote) -> list[Entry]:
        files = self._settings.files
        return [
            entry
            for entry in await server.listing(self._settings.folder)
            if fnmatchcase(entry.name, files) and scan.is_wanted(entry.name) and not self._is_checksum(entry.name)
        ]

    def _is_checksum(self, name: str) -> bool:
        pattern = self._settings.checksum
        return pattern not in ("none", "server") and manifest.is_companion(pattern, name, [self._settings.files])

    async def _take(self, server: Remote, entry: Entry) -> Fetched | str:
        """Steps 1 and 2; or why not now."""
        wanted = await self._wanted_checksum(server, entry)
        if wanted == "":
            return "its file of checksums is not there yet"
        part = self._part(entry.path, entry.size, entry.modified)
        with durable.translated(part):
            await self._load(server, entry, part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
        if size != entry.size or await server.look(entry.path) != entry:
            part.unlink()
            return "it has changed on the server meanwhile"
        digest = _digest(part, "sha256")
        if self._settings.checksum == "server" and (theirs := await server.checksum(entry.path)) is not None:
            wanted = manifest.Checksum("sha256", theirs)
        if isinstance(wanted, manifest.Checksum) and _digest(part, wanted.algorithm) != wanted.value:
            part.unlink()
            raise FetchError(
                "fetch-checksum",
                f"what has come has another {wanted.algorithm} than the supplier says",
                where=entry.path,
                hint="it is fetched anew at the next round; if that happens again, ask the supplier",
            )
        return self._memory.whole(entry.path, entry.size, entry.modified, digest)

    async def _wanted_checksum(self, server: Remote, entry: Entry) -> manifest.Checksum | str | None:
        """What the supplier's file of checksums says; "" while it does not say it, None when nobody asked for one."""
        pattern = self._settings.checksum
        if pattern in ("none", "server"):
            return None
        name = manifest.plain(pattern, entry.name) or ""
        text = await server.text(posixpath.join(posixpath.dirname(entry.path), name))
        try:
            return manifest.read(text or "", name).get(entry.name, "")
        except ValueError:
            return ""

    async def _load(self, server: Remote, entry: Entry, part: Path) -> None:
        """Step 1."""
        have = part.stat().st_size // BLOCK * BLOCK if part.exists() else 0
        self._check_room(entry, have)
        with part.open("r+b" if part.exists() else "xb") as file:
            file.truncate(have)
            file.seek(have)
            durable.sync_folder(part.parent)
            unsynced = 0
            self._tell("fetch_progressed", source=self._name, file=entry.name, done=have, total=entry.size)
            async with contextlib.aclosing(server.read(entry.path, have, entry.size)) as pieces:
                async for piece in pieces:
                    unsynced = _written(file, piece, unsynced)
                    have += len(piece)
                    self._tell("fetch_progressed", source=self._name, file=entry.name, done=have, total=entry.size)

    def _check_room(self, entry: Entry, have: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if entry.size - have > free:
            raise StateError(
                "state-disk-full",
                f"{entry.name} needs {entry.size - have} bytes, and there is room for {free}",
                where=str(self._folder),
                hint="make room; the next round goes on where this one stopped",
            )

    def _publish(self, file: Fetched) -> str | None:
        """Steps 3 and 4; None while a file of that name waits in the inbox, or when it has to be fetched anew."""
        name = posixpath.basename(file.path)
        shown = f"{self._into}/{name}" if self._into else name
        part = self._part(file.path, file.size, file.modified)
        target = self._folder / name
        if part.exists():
            with durable.translated(target):
                try:
                    durable.move_new(part, target)
                except FileExistsError:
                    return None
        elif not target.exists() and not self._was_taken(shown, file.since):  # somebody has cleared the inbox
            self._memory.forget([file])
            return None
        self._memory.arrived(file)
        self._tell("file_fetched", source=self._name, file=name, bytes=file.size)
        return shown

    async def _tidy(self, server: Remote, present: set[tuple[str, int, int]]) -> None:
        """Steps 5 and 6."""
        after = self._settings.after
        if after == "keep":
            return
        gone = []
        for file in self._memory.all():
            if file.state != "arrived":
                continue
            if (file.path, file.size, file.modified) in present and await server.look(file.path) == _entry(file):
                if after == "delete":
                    await server.remove(file.path)
                else:
                    await server.move(file.path, self._moved(file.path))
                self._tell("file_cleared", source=self._name, file=posixpath.basename(file.path), after=after)
            gone.append(file)
        self._memory.forget(gone)

    def _moved(self, path: str) -> str:
        return posixpath.join(self._settings.folder, self._settings.move_to or "", posixpath.basename(path))

    def _sweep(self, present: Iterable[tuple[str, int, int]]) -> None:
        """Remove parts of versions that the server has no more."""
        waits = [(file.path, file.size, file.modified) for file in self._memory.all() if file.state == "whole"]
        needed = {self._part(*identity) for identity in [*present, *waits]}
        for path in self._folder.glob(f".fetch-{self._name}-*.part"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def _part(self, path: str, size: int, modified: int) -> Path:
        identity = hashlib.sha256(f"{self._settings.host}\0{path}\0{size}\0{modified}".encode()).hexdigest()[:16]
        return self._folder / f".fetch-{self._name}-{identity}.part"


def _entry(file: Fetched) -> Entry:
    return Entry(file.modified, file.path, file.size)


def _written(file: IO[bytes], piece: bytes, unsynced: int) -> int:
    """Write so that everything before a full block is on disk when the block after it begins."""
    while piece:
        now, piece = piece[: BLOCK - unsynced], piece[BLOCK - unsynced :]
        file.write(now)
        file.flush()
        unsynced += len(now)
        if unsynced == BLOCK:
            os.fsync(file.fileno())
            unsynced = 0
    return unsynced


def _digest(path: Path, algorithm: str) -> str:
    with durable.translated(path), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


async def _unless(stopped: Callable[[], bool], work: Coroutine[Any, Any, Round]) -> Round | None:
    """The work's outcome, or None when it was to stop meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=0.2)
        if stopped() and not task.done():
            task.cancel()
            await asyncio.wait({task})
            return None
    return task.result()
