"""Lives of the real `etl` command that end where they are told to: by SIGKILL, power cut, or a failing disk.

A program, not a module: `python launcher.py` imports everything once, then reads one order per line (JSON) and
forks a process for each, which runs `etl.cli.main.main` and nothing else. In that process every durable effect passes
a *point* before and after it: opening a file for writing, writing, syncing, renaming, linking, removing, making a
folder, committing, sending, receiving. At the ordered point the process is killed for real.

Nothing of the product knows of this: effects are seen by an audit hook and by wrappers around what Python, the
ledger's database and httpx do themselves. Only pauses are shortened, because waiting is no effect.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import click
import pandera.api.extensions
import pandera.backends.polars.register
from httpx._transports import default as transports

from etl import log

# Everything a command imports late, so that a life costs a fork and not a second of importing.
from etl.apply import circuit_breaker, scheduler
from etl.cli import main
from etl.connect.http_exchange import Call, HttpExchange, Response
from etl.contract import spec
from etl.state.ledger.database import Connection, Database

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

#: What SQLite says when the disk does this to it.
SQLITE_SAYS = {
    errno.ENOSPC: "database or disk is full",
    errno.EIO: "disk I/O error",
    errno.EMFILE: "unable to open database file",
    errno.EROFS: "attempt to write a readonly database",
}


class Effects:
    """Counts points, and acts at the ordered one."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.root = order["root"]
        self.mode = order.get("mode", "kill")  # kill, power, torn, or the name of an errno
        self.at = order.get("at")
        self.sticky = order.get("sticky", False)
        self.count = 0
        self.seen: list[str] = []
        self._lock = threading.RLock()
        self._unsynced: dict[str, int] = {}  # files written and not yet synced: how much of them is safe
        self._unsettled: list[tuple[str, str]] = []  # renames whose folder is not yet synced
        self._writing = threading.local()

    @property
    def code(self) -> int | None:
        return getattr(errno, self.mode, None)

    def point(self, kind: str, *, before: bool, faultable: bool = False) -> None:
        """One point. Raises OSError when a fault is ordered here; does not return when death is."""
        with self._lock:
            if self.code is not None:
                if not (before and faultable):
                    return
                self.count += 1
                self.seen.append(kind)
                if self.at is not None and (self.count == self.at or (self.sticky and self.count >= self.at)):
                    raise self._failure(kind)
                return
            self.count += 1
            self.seen.append(f"{'before' if before else 'after'} {kind}")
            if self.count == self.at:
                self.die()

    def _failure(self, kind: str) -> Exception:
        assert self.code is not None
        if kind == "commit":
            return sqlite3.OperationalError(SQLITE_SAYS[self.code])
        return OSError(self.code, os.strerror(self.code))

    def die(self) -> None:
        if self.mode == "power":  # what was not synced is gone, newest first
            for old, new in reversed(self._unsettled):
                if os.path.lexists(new) and not os.path.lexists(old):
                    REAL["rename"](new, old)
            for name in self._unsynced:
                if os.path.exists(name):
                    os.truncate(name, 0)
        os.kill(os.getpid(), signal.SIGKILL)

    def mine(self, path: Any) -> bool:
        """Whether a path is one of the scenario's own."""
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(self.root)
        except TypeError:
            return False

    # -- what the power cut needs to know

    def wrote(self, path: str) -> None:
        with self._lock:
            self._unsynced[os.path.abspath(path)] = 1

    def synced(self, handle: int) -> None:
        with self._lock:
            name = os.readlink(f"/proc/self/fd/{handle}")
            self._unsynced.pop(name, None)
            if os.path.isdir(name):
                self._unsettled = [
                    pair for pair in self._unsettled if os.path.dirname(pair[1]) != name
                ]  # the target's folder decides: a rename is one step for a journalling file system

    def renamed(self, old: str, new: str) -> None:
        with self._lock:
            old, new = os.path.abspath(old), os.path.abspath(new)
            if old in self._unsynced:
                self._unsynced[new] = self._unsynced.pop(old)
            self._unsettled.append((old, new))


REAL: dict[str, Callable[..., Any]] = {
    name: getattr(os, name) for name in ("fsync", "rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir")
}


class Watched:
    """A file open for writing whose writes are effects."""

    def __init__(self, file: Any, effects: Effects, name: str) -> None:
        self._file, self._effects, self._name = file, effects, name

    def write(self, data: Any) -> int:
        effects = self._effects
        if effects.mode == "torn":
            with effects._lock:
                effects.count += 1
                effects.seen.append("torn write")
                if effects.count == effects.at:
                    self._file.write(data[: len(data) // 2])
                    self._file.flush()
                    effects.die()
        else:
            effects.point("write", before=True, faultable=True)
        done = self._file.write(data)
        effects.wrote(self._name)
        if effects.mode != "torn":
            effects.point("write", before=False)
        return int(done)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)


def install(effects: Effects) -> None:
    """Put the points in place, in this process only."""
    _files(effects)
    _commits(effects)
    _exchanges(effects)


def _files(effects: Effects) -> None:
    inside = threading.local()

    def hook(name: str, args: tuple[Any, ...]) -> None:
        if name != "open" or getattr(inside, "busy", False) or not isinstance(args[0], (str, bytes)):
            return
        path, mode, flags = args
        writes = bool(flags & WRITING) if isinstance(flags, int) else any(c in str(mode) for c in "wax+")
        if writes and effects.mine(path):
            inside.busy = True
            try:
                effects.point("open", before=True, faultable=True)
            finally:
                inside.busy = False

    sys.addaudithook(hook)
    plain = io.open

    def opening(file: Any, mode: str = "r", *args: Any, **words: Any) -> Any:
        opened = plain(file, mode, *args, **words)
        if isinstance(file, int) or not any(c in mode for c in "wax+") or not effects.mine(file):
            return opened
        if effects.mode != "torn":
            effects.point("open", before=False)
        return Watched(opened, effects, os.fsdecode(file))

    builtins.open = opening
    io.open = opening

    def wrap(name: str) -> None:
        real = REAL[name]

        @wraps(real)
        def effect(*args: Any, **words: Any) -> Any:
            ours = isinstance(args[0], int) or words.get("dir_fd") is not None or effects.mine(args[0])
            if not ours or effects.mode == "torn":
                return real(*args, **words)
            effects.point(name, before=True, faultable=name not in ("unlink", "remove", "rmdir"))
            done = real(*args, **words)
            if name == "fsync":
                effects.synced(args[0])
            if name in ("rename", "replace"):
                effects.renamed(os.fsdecode(args[0]), os.fsdecode(args[1]))
            effects.point(name, before=False)
            return done

        setattr(os, name, effect)

    for name in REAL:
        wrap(name)


def _commits(effects: Effects) -> None:
    plain = Database._commit

    def commit(self: Database, connection: Connection) -> None:
        if effects.mode == "torn":
            plain(self, connection)
            return
        effects.point("commit", before=True, faultable=True)
        plain(self, connection)
        effects.point("commit", before=False)

    Database._commit = commit  # type: ignore[method-assign]


def _exchanges(effects: Effects) -> None:
    plain = HttpExchange.send

    def send(self: HttpExchange, call: Call, *, on_sent: Callable[[], None]) -> Response:
        if effects.mode == "torn":
            return plain(self, call, on_sent=on_sent)
        what = "poll" if call.method == "GET" else "send"
        effects.point(what, before=True)

        def sent() -> None:
            effects.point(what, before=False)
            on_sent()

        response = plain(self, call, on_sent=sent)
        effects.point("receive", before=False)
        return response

    HttpExchange.send = send  # type: ignore[method-assign, assignment]


def live(order: dict[str, Any]) -> None:
    """The life of one process."""
    os.chdir(order["root"])
    os.environ["ETL_CLIENT_SECRET"] = "sandbox"
    os.environ["NO_COLOR"] = "1"
    for handle, name in ((1, order["out"]), (2, order["err"])):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, handle)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["etl", *order["words"]]
    scheduler.FIRST_POLL_DELAY, scheduler.MIN_POLL_DELAY, scheduler.MAX_POLL_DELAY = 0.01, 0.01, 0.05
    circuit_breaker.FIRST_PAUSE, circuit_breaker.MAX_PAUSE = 0.02, 0.1
    effects = Effects(order)
    install(effects)
    status = 0
    try:
        main.main(order["words"], prog_name="etl", standalone_mode=False)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except click.ClickException:
        status = 2
    sys.stdout.flush()
    sys.stderr.flush()
    REAL_OPEN = os.open(order["points"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(REAL_OPEN, json.dumps([effects.count, effects.seen]).encode())
    os._exit(status)


def serve() -> None:
    """One line in, one process, one line out."""
    spec.load_contract()
    log.logger()
    pandera.backends.polars.register.register_polars_backends()
    create_context = cache(transports.create_ssl_context)  # type: ignore[attr-defined] # not needed on loopback
    transports.create_ssl_context = create_context  # type: ignore[attr-defined]
    create_context(verify=True, cert=None, trust_env=False)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                live(order)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(70)
        _, ended = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(ended)), flush=True)


if __name__ == "__main__":
    serve()
