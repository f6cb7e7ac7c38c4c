"""SFTP servers as processes of their own: asyncssh's everywhere, OpenSSH's where it is installed."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from etl.config.fetch_settings import FetchSettings

SSHD = shutil.which("sshd") or next((path for path in ("/usr/sbin/sshd",) if os.access(path, os.X_OK)), None)

PASSWORD = "tide-and-4711"


@dataclass(frozen=True)
class Server:
    """A server, and how one gets in."""

    port: int
    root: Path  #: what the client sees as its working folder
    user: str
    key: Path
    known_hosts: Path

    def settings(self, **more: object) -> FetchSettings:
        """As in `[fetch.NAME]`."""
        usual = {
            "host": "127.0.0.1", "port": self.port, "user": self.user, "key": self.key, "folder": str(self.root),
            "known_hosts": self.known_hosts, "settle_seconds": 0.0, "timeout_seconds": 20.0,
        }  # fmt: skip
        return FetchSettings(**usual | more)  # type: ignore[arg-type]

    async def connect(self) -> asyncssh.SSHClientConnection:
        """A client of the supplier's."""
        return await asyncssh.connect(
            "127.0.0.1", self.port, username=self.user, client_keys=[str(self.key)], known_hosts=str(self.known_hosts),
            config=None, agent_path=None,
        )  # fmt: skip


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def running(kind: str, folder: Path, port: int | None = None) -> Iterator[Server]:
    """`kind` is "asyncssh" or "openssh". Keys are made once for a folder, so a second server there is the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    root.mkdir(exist_ok=True)
    port = port or free_port()
    user = getpass.getuser()
    for name in ("host", "client"):
        if not (folder / name).exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(folder / name))
            key.write_public_key(str(folder / f"{name}.pub"))
            (folder / name).chmod(0o600)
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    command = _openssh(folder, port) if kind == "openssh" else [sys.executable, __file__, str(folder), str(port)]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await(port, process)
        yield Server(port, root, user, folder / "client", folder / "known_hosts")
    finally:
        process.terminate()
        process.wait(timeout=10)


def _openssh(folder: Path, port: int) -> list[str]:
    assert SSHD is not None
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'client.pub'}\nStrictModes no\nPermitRootLogin yes\n"
        "Subsystem sftp internal-sftp\nMaxStartups 100\nLogLevel ERROR\n"
    )
    return [SSHD, "-D", "-e", "-f", str(config)]


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "the server has not come up"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        threading.Event().wait(0.02)
    raise AssertionError("the server has not come up")


class Wire:
    """A line to a server that breaks after so many bytes have come from it."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.left: int | None = None  #: bytes until it breaks; None: it holds
        self.silent = threading.Event()  #: set: nothing passes any more, and nothing breaks
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                for here, there, counted in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._carry, args=(here, there, counted), daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while (data := here.recv(16384)) and not self.silent.is_set():
                if counted and self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data[: self.left])
                there.sendall(data)
                if counted and self.left == 0:
                    break
        if self.silent.is_set():
            return
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Take it down."""
        for end in (self._listening, *self._open):
            end.close()


def _serve(folder: Path, port: int) -> None:
    import asyncio

    class Door(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return password == PASSWORD

    async def serve() -> None:
        await asyncssh.listen(
            "127.0.0.1", port, server_factory=Door, server_host_keys=[str(folder / "host")],
            authorized_client_keys=str(folder / "client.pub"), sftp_factory=True,
        )  # fmt: skip
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
