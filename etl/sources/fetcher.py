"""Fetches exports from suppliers' servers into the inbox: every file once and whole, whatever breaks on the way.

Order of writes for one file, and what the next round makes of a crash right after each:
 1 bytes into `.fetch-<id>.part` in the inbox, synced at every full block; the id is of source, path, size and time, so
   bytes of another version are never mixed in                          -> goes on from the last full block
 2 the ledger says *verified*: size and checksum agree, and the server's file is still the same  -> goes on with 3
 3 renamed to its name in the inbox, never over a file that waits there -> part gone, so 4
 4 the ledger says *delivered*                                           -> goes on with 5
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
from typing import IO, Any

from etl import filesystem
from etl.config.fetch_settings import FetchSettings
from etl.config.secrets import Secret
from etl.errors import FetchError
from etl.events import EventSink
from etl.ingest import scan
from etl.mapping import companion_names
from etl.sources import sftp
from etl.sources.sftp import RemoteFile, SftpClient
from etl.state.ledger.fetched_files import FetchedFile, FetchedFiles

#: What concerns one file only: the others are fetched all the same.
_SINGLE_FILE_ERRORS = ("fetch-denied", "fetch-refused", "fetch-checksum", "fetch-not-there", "fetch-no-space")

#: Bytes after which what has come is synced, and from which a broken transfer goes on.
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The result of one visit to a server."""

    source: str
    fetched_names: tuple[str, ...]  #: names in the inbox
    not_ready: tuple[tuple[str, str], ...]  #: names that could not be taken yet, and why
    fetched_before: int  #: files on the server that were fetched before


@dataclass(frozen=True, slots=True)
class Source:
    """A server with files for us: `[fetch.NAME]` and what the login needs."""

    name: str
    settings: FetchSettings
    secret: Secret | None  #: password, or passphrase of the private key


class Fetcher:
    """The files of one source."""

    def __init__(
        self,
        source: Source,
        inbox_folder: Path,
        fetched_files: FetchedFiles,
        has_run_since: Callable[[str, float], bool],
        emit: EventSink,
    ) -> None:
        self._name = source.name
        self._settings = source.settings
        self._secret = source.secret
        self._subfolder = source.settings.into if source.settings.into is not None else source.name
        self._folder = inbox_folder / self._subfolder
        self._fetched_files = fetched_files
        self._has_run_since = has_run_since
        self._emit = emit

    def poll(self, is_stopped: Callable[[], bool] = lambda: False) -> FetchResult | None:
        """Everything that is there now; None when it was stopped. Raises FetchError and StateError; what has arrived
        by then has."""
        with filesystem.translate_os_errors(self._folder):
            filesystem.make_folder(self._folder)
        return asyncio.run(_cancel_when_stopped(is_stopped, self._poll()))

    async def _poll(self) -> FetchResult:
        arrived = [self._move_to_inbox(file) for file in self._fetched_files.list_files() if file.state == "verified"]
        waiting: list[tuple[str, str]] = []
        trouble: list[FetchError] = []
        async with sftp.open_client(self._settings, self._secret) as server:
            listed, restless = await self._list_stable(server)
            known = {(file.path, file.size, file.modified): file for file in self._fetched_files.list_files()}
            waiting += [(entry.name, "it is still being written on the server") for entry in restless]
            for entry in listed:
                if (entry.path, entry.size, entry.modified) in known:
                    continue
                try:
                    file = await self._fetch_file(server, entry)
                except FetchError as error:
                    if error.code not in _SINGLE_FILE_ERRORS:
                        raise
                    trouble.append(error)
                    continue
                if isinstance(file, str):
                    waiting.append((entry.name, file))
                else:
                    arrived.append(self._move_to_inbox(file))
            present = {(entry.path, entry.size, entry.modified) for entry in [*listed, *restless]}
            await self._clean_up_remote(server, present)
        self._remove_stale_parts(present)
        names = tuple(name for name in arrived if name is not None)
        waits = [posixpath.basename(file.path) for file in self._fetched_files.list_files() if file.state == "verified"]
        waiting += [(name, "an older file of that name is still in the inbox") for name in waits]
        for name, reason in waiting:
            self._emit("file_not_ready", source=self._name, file=name, reason=reason)
        if trouble:
            raise trouble[0]
        return FetchResult(self._name, names, tuple(waiting), len(known))

    async def _list_stable(self, client: SftpClient) -> tuple[list[RemoteFile], list[RemoteFile]]:
        """List the matching files of the server, without those that change between two looks."""
        first = await self._list_matching(client)
        remembered = {(file.path, file.size, file.modified) for file in self._fetched_files.list_files()}
        if all((entry.path, entry.size, entry.modified) in remembered for entry in first):
            return first, []
        await asyncio.sleep(self._settings.settle_seconds)
        second = await self._list_matching(client)
        return [entry for entry in second if entry in first], [entry for entry in second if entry not in first]

    async def _list_matching(self, client: SftpClient) -> list[RemoteFile]:
        files = self._settings.files
        return [
            entry
            for entry in await client.list_files(self._settings.folder)
            if fnmatchcase(entry.name, files)
            and scan.may_be_export(entry.name)
            and not self._is_checksum_file(entry.name)
        ]

    def _is_checksum_file(self, name: str) -> bool:
        pattern = self._settings.checksum
        return pattern not in ("none", "server") and companion_names.matches_companion(
            pattern, name, [self._settings.files]
        )

    async def _fetch_file(self, client: SftpClient, remote_file: RemoteFile) -> FetchedFile | str:
        """Do steps 1 and 2, or return why not now."""
        wanted = await self._expected_checksum(client, remote_file)
        if wanted == "":
            return "its file of checksums is not there yet"
        part = self._part_path(remote_file.path, remote_file.size, remote_file.modified)
        with filesystem.translate_os_errors(part):
            await self._download(client, remote_file, part)
            with filesystem.open_regular_file(part) as file:
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
        if size != remote_file.size or await client.stat(remote_file.path) != remote_file:
            part.unlink()
            return "it has changed on the server meanwhile"
        digest = _hash_part(part, "sha256")
        if self._settings.checksum == "server" and (theirs := await client.checksum(remote_file.path)) is not None:
            wanted = companion_names.Checksum("sha256", theirs)
        if isinstance(wanted, companion_names.Checksum) and _hash_part(part, wanted.algorithm) != wanted.value:
            part.unlink()
            raise FetchError(
                "fetch-checksum",
                f"the file has another {wanted.algorithm} than the supplier says",
                where=remote_file.path,
                hint="the next visit fetches it again; if the error comes back, ask the supplier",
            )
        return self._fetched_files.save_verified(remote_file.path, remote_file.size, remote_file.modified, digest)

    async def _expected_checksum(
        self, client: SftpClient, remote_file: RemoteFile
    ) -> companion_names.Checksum | str | None:
        """Return the checksum in the supplier's file; "" while it is not there, None when the settings ask for none."""
        pattern = self._settings.checksum
        if pattern in ("none", "server"):
            return None
        name = companion_names.single_name(pattern, remote_file.name) or ""
        text = await client.read_text(posixpath.join(posixpath.dirname(remote_file.path), name))
        try:
            return companion_names.parse_manifest(text or "", name).get(remote_file.name, "")
        except ValueError:
            return ""

    async def _download(self, client: SftpClient, remote_file: RemoteFile, part_path: Path) -> None:
        """Step 1."""
        have = part_path.stat().st_size // BLOCK_BYTES * BLOCK_BYTES if part_path.exists() else 0
        self._check_disk_space(remote_file, have)
        handle = os.open(part_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)  # never through a link
        with open(handle, "r+b") as file:
            file.truncate(have)
            file.seek(have)
            filesystem.sync_folder(part_path.parent)
            unsynced = 0
            self._emit("fetch_progressed", source=self._name, file=remote_file.name, done=have, total=remote_file.size)
            async with contextlib.aclosing(client.read(remote_file.path, have, remote_file.size)) as pieces:
                async for piece in pieces:
                    unsynced = _write_in_blocks(file, piece, unsynced)
                    have += len(piece)
                    self._emit(
                        "fetch_progressed", source=self._name, file=remote_file.name, done=have, total=remote_file.size
                    )

    def _check_disk_space(self, remote_file: RemoteFile, downloaded: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if remote_file.size - downloaded > free:
            raise FetchError(
                "fetch-no-space",
                f"{remote_file.name} needs {remote_file.size - downloaded} bytes, and there is room for {free}",
                where=str(self._folder),
                hint="make room; the next round goes on where this one stopped",
            )

    def _move_to_inbox(self, file: FetchedFile) -> str | None:
        """Do steps 3 and 4; return None while the inbox has a file of that name, or if it has to be fetched anew."""
        name = posixpath.basename(file.path)
        shown = f"{self._subfolder}/{name}" if self._subfolder else name
        part = self._part_path(file.path, file.size, file.modified)
        target = self._folder / name
        if part.exists():
            with filesystem.translate_os_errors(target):
                try:
                    filesystem.move_without_replacing(part, target)
                except FileExistsError:
                    return None
        elif not target.exists() and not self._has_run_since(shown, file.verified_at):  # somebody has cleared the inbox
            self._fetched_files.delete([file])
            return None
        self._fetched_files.mark_delivered(file)
        self._emit("file_fetched", source=self._name, file=name, bytes=file.size)
        return shown

    async def _clean_up_remote(self, client: SftpClient, present: set[tuple[str, int, int]]) -> None:
        """Do steps 5 and 6."""
        after = self._settings.after
        if after == "keep":
            return
        gone = []
        for file in self._fetched_files.list_files():
            if file.state != "delivered":
                continue
            if (file.path, file.size, file.modified) in present and await client.stat(file.path) == _remote_file_of(
                file
            ):
                if after == "delete":
                    await client.remove(file.path)
                else:
                    await client.move(file.path, self._move_target(file.path))
                self._emit("remote_file_removed", source=self._name, file=posixpath.basename(file.path), after=after)
            gone.append(file)
        self._fetched_files.delete(gone)

    def _move_target(self, path: str) -> str:
        return posixpath.join(self._settings.folder, self._settings.move_to or "", posixpath.basename(path))

    def _remove_stale_parts(self, present: Iterable[tuple[str, int, int]]) -> None:
        """Remove parts of versions that the server has no more."""
        waits = [
            (file.path, file.size, file.modified)
            for file in self._fetched_files.list_files()
            if file.state == "verified"
        ]
        needed = {self._part_path(*identity) for identity in [*present, *waits]}
        for path in self._folder.glob(f".fetch-{self._name}-*.part"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def _part_path(self, path: str, size: int, modified: int) -> Path:
        identity = hashlib.sha256(f"{self._settings.host}\0{path}\0{size}\0{modified}".encode()).hexdigest()[:16]
        return self._folder / f".fetch-{self._name}-{identity}.part"


def _remote_file_of(file: FetchedFile) -> RemoteFile:
    return RemoteFile(file.modified, file.path, file.size)


def _write_in_blocks(file: IO[bytes], piece: bytes, unsynced: int) -> int:
    """Write so that everything before a full block is on disk when the block after it begins."""
    while piece:
        now, piece = piece[: BLOCK_BYTES - unsynced], piece[BLOCK_BYTES - unsynced :]
        file.write(now)
        file.flush()
        unsynced += len(now)
        if unsynced == BLOCK_BYTES:
            os.fsync(file.fileno())
            unsynced = 0
    return unsynced


def _hash_part(path: Path, algorithm: str) -> str:
    with filesystem.translate_os_errors(path), filesystem.open_regular_file(path) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


async def _cancel_when_stopped(
    is_stopped: Callable[[], bool], coroutine: Coroutine[Any, Any, FetchResult]
) -> FetchResult | None:
    """Return the outcome of a task, or None when the program was told to stop meanwhile."""
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        await asyncio.wait({task}, timeout=0.2)
        if is_stopped() and not task.done():
            task.cancel()
            await asyncio.wait({task})
            return None
    return task.result()
