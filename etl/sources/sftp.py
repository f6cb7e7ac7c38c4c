"""Speaks SFTP to a supplier's server: list, stat, read, remove, move. The only module that uses asyncssh.

No call waits without a limit: a server that sends no byte for `patience` seconds is given up. Everything that the
library raises becomes a FetchError with a code here. Files with names that could do harm here are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import shlex
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncssh

from etl.config.fetch_settings import FetchSettings
from etl.config.secrets import Secret
from etl.errors import FetchError

T = TypeVar("T")

#: Bytes of one read: it grows on quick lines, so that many packets are on their way, and shrinks on slow ones.
_MIN_READ_BYTES, _MAX_READ_BYTES = 32 * 1024, 4 * 1024 * 1024

#: Bytes of a checksum manifest that are read.
_MAX_TEXT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class RemoteFile:
    """A file on the server, told apart from earlier and later ones of its name by size and time."""

    modified: int  #: seconds; SFTP has no finer ones
    path: str
    size: int

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


class SftpClient:
    """One connection to an SFTP server."""

    def __init__(self, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, timeout: float) -> None:
        self._connection = connection
        self._sftp = sftp
        self._timeout = timeout

    async def list_files(self, folder: str) -> list[RemoteFile]:
        """Return the regular files of a folder, sorted."""
        files = []
        with _translate_errors(folder):
            async with asyncio.timeout(self._timeout):
                async for item in self._sftp.scandir(folder):
                    name, kind = str(item.filename), item.attrs.type
                    regular = (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN)
                    if kind in regular and _is_safe_name(name):
                        files.append(_to_remote_file(posixpath.join(folder, name), item.attrs))
        return sorted(files)

    async def stat(self, path: str) -> RemoteFile | None:
        """Return size and time of a file; None when it does not exist."""
        try:
            return _to_remote_file(path, await self._with_timeout(self._sftp.stat(path), path))
        except FetchError as error:
            if error.code == "fetch-not-there":
                return None
            raise

    async def read(self, path: str, offset: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `offset` to `end` in pieces; stop early where the file ends."""
        file = await self._with_timeout(self._sftp.open(path, "rb", encoding=None), path)
        size = _MIN_READ_BYTES
        try:
            while offset < end:
                began = time.monotonic()
                piece: bytes = await self._with_timeout(file.read(min(size, end - offset), offset), path)
                if not piece:
                    return
                yield piece
                offset += len(piece)
                took = time.monotonic() - began
                size = (
                    min(_MAX_READ_BYTES, size * 2)
                    if took < 1
                    else max(_MIN_READ_BYTES, size // 2)
                    if took > 5
                    else size
                )
        finally:
            with contextlib.suppress(asyncssh.Error, OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await file.close()

    async def read_text(self, path: str) -> str | None:
        """Return the text of a small file, such as a checksum manifest; None when it does not exist."""
        file = await self.stat(path)
        if file is None:
            return None
        pieces = [piece async for piece in self.read(path, 0, min(file.size, _MAX_TEXT_BYTES))]
        return b"".join(pieces).decode("utf-8", errors="replace")

    async def checksum(self, path: str) -> str | None:
        """Return the SHA-256 that `sha256sum` on the server computes; None where the server cannot run it."""
        try:
            async with asyncio.timeout(max(self._timeout, 600)):
                process = await self._connection.run(f"sha256sum -- {shlex.quote(path)}", stdin=asyncssh.DEVNULL)
        except (asyncssh.Error, OSError, TimeoutError):
            return None
        word = str(process.stdout or "").lstrip("\\").partition(" ")[0]
        return word if process.exit_status == 0 and len(word) == 64 else None

    async def remove(self, path: str) -> None:
        """Delete a file; do nothing when it does not exist."""
        with contextlib.suppress(_RemoteFileMissing):
            await self._with_timeout(self._sftp.remove(path), path)

    async def move(self, path: str, target: str) -> None:
        """Rename a file; add a number to an existing target's name, and do nothing when the file does not exist."""
        with contextlib.suppress(_RemoteFileMissing):
            existing = await self.stat(target)
            await self._with_timeout(
                self._sftp.rename(path, f"{target}.{time.time_ns()}" if existing else target), path
            )

    async def _with_timeout(self, awaitable: Awaitable[T], path: str) -> T:
        with _translate_errors(path):
            async with asyncio.timeout(self._timeout):
                return await awaitable


class _RemoteFileMissing(FetchError):
    """The server has no such file."""


@contextlib.asynccontextmanager
async def open_client(settings: FetchSettings, secret: Secret | None) -> AsyncIterator[SftpClient]:
    """Connect to the server of `[fetch.NAME]`. Raises FetchError."""
    where = f"{settings.user}@{settings.host}:{settings.port}"
    options: dict[str, Any] = {"client_keys": None, "password": secret.reveal() if secret else None}
    if settings.key is not None:
        options = {"client_keys": [_load_key(settings, secret)], "password": None}
    if not settings.known_hosts.is_file():
        raise FetchError(
            "fetch-known-hosts",
            "there is no file of known host keys",
            where=str(settings.known_hosts),
            hint=f"`ssh-keyscan -p {settings.port} {settings.host}`, compare the fingerprint with the supplier's word, "
            "and keep the line there",
        )
    with _translate_errors(where):
        async with asyncio.timeout(settings.timeout_seconds):
            connection = await asyncssh.connect(
                settings.host,
                settings.port,
                username=settings.user,
                known_hosts=str(settings.known_hosts),
                config=None,
                agent_path=None,
                keepalive_interval=max(1.0, settings.timeout_seconds / 4),
                keepalive_count_max=4,
                **options,
            )
            sftp = await connection.start_sftp_client(path_errors="surrogateescape")
    try:
        yield SftpClient(connection, sftp, settings.timeout_seconds)
    finally:
        connection.abort()


def _load_key(settings: FetchSettings, secret: Secret | None) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(str(settings.key), secret.reveal() if secret else None)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no private key, or its passphrase is missing"
        raise FetchError(
            "fetch-key",
            f"the private key cannot be read: {reason}",
            where=str(settings.key),
            hint="check path and permissions; its passphrase comes from the same variable as a password",
        ) from error


def _to_remote_file(path: str, attrs: asyncssh.SFTPAttrs) -> RemoteFile:
    """Return a file with its facts, which SFTP makes optional; the size is needed to recognise a complete file."""
    if attrs.size is None:
        raise FetchError(
            "fetch-no-size",
            "the server does not tell the sizes of its files",
            where=path,
            hint="nothing is fetched or removed: a file could not be told from a part of it; ask the supplier",
        )
    return RemoteFile(int(attrs.mtime or 0), path, int(attrs.size))


def _is_safe_name(name: str) -> bool:
    """Return whether a name has one part, and nothing that a terminal, a log or a file system cannot take."""
    return name not in (".", "..") and "/" not in name and name.isprintable() and len(name.encode()) <= 200


@contextlib.contextmanager
def _translate_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (asyncssh.Error, OSError) as error:
        raise _to_fetch_error(error, where) from error


def _to_fetch_error(error: Exception, where: str) -> FetchError:
    """Return what the library raises as an error with a code and a hint."""
    if isinstance(error, asyncssh.KeyExchangeFailed) and "host key" in str(error):
        report = _HOST_KEY_REPORT
    else:
        report = next((report for kinds, report in _ERROR_REPORTS if isinstance(error, kinds)), _UNREACHABLE_REPORT)
    error_type = _RemoteFileMissing if report.code == "fetch-not-there" else FetchError
    reason = error.reason if isinstance(error, asyncssh.Error) else error
    return error_type(report.code, report.message.format(error=error, reason=reason), where=where, hint=report.hint)


@dataclass(frozen=True, slots=True)
class _ErrorReport:
    """How an error of the library is reported."""

    code: str
    message: str  #: `{error}` and `{reason}` are replaced
    hint: str


_HOST_KEY_REPORT = _ErrorReport(
    "fetch-host-key",
    "the server shows another host key than the one in known_hosts, or has none there",
    "ask the supplier whether it was changed; only then replace the line in known_hosts",
)
_UNREACHABLE_REPORT = _ErrorReport(
    "fetch-unreachable",
    "the server cannot be reached, or the connection broke: {error}",
    "it is tried again at the next round and goes on where it stopped; check host, port and network",
)
#: The first row counts that an error is of.
_ERROR_REPORTS: tuple[tuple[tuple[type[Exception], ...], _ErrorReport], ...] = (
    ((asyncssh.HostKeyNotVerifiable,), _HOST_KEY_REPORT),
    (
        (asyncssh.PermissionDenied,),
        _ErrorReport(
            "fetch-credentials", "the server denied the login", "check user, key or password with the supplier"
        ),
    ),
    (
        (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath),
        _ErrorReport("fetch-not-there", "the server has no such file or folder", "check `folder`"),
    ),
    (
        (asyncssh.SFTPPermissionDenied,),
        _ErrorReport(
            "fetch-denied",
            "the server does not allow that",
            "ask the supplier for the right to list, to read and, for `after`, to delete or move",
        ),
    ),
    (
        (TimeoutError,),
        _ErrorReport(
            "fetch-stalled",
            "the server has not answered in time",
            "it is tried again at the next round and goes on where it stopped; else raise timeout_seconds",
        ),
    ),
    ((asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection), _UNREACHABLE_REPORT),
    (
        (asyncssh.SFTPError,),
        _ErrorReport(
            "fetch-refused",
            "the server reports an error: {reason}",
            "ask the supplier; it is tried again at the next round",
        ),
    ),
)
