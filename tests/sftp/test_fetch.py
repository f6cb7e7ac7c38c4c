"""Fetching from a supplier's server: once, whole, and with words that help when it does not work."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from etl.config.fetch_settings import FetchSettings
from etl.config.secrets import Secret
from etl.errors import EtlError, FetchError
from etl.ingest import scan
from etl.sources import fetcher
from etl.sources.fetcher import Fetcher, FetchResult, Source
from etl.state.ledger.facade import Ledger
from etl.state.ledger.fetched_files import FetchedFile, FetchedFiles
from tests.sftp.conftest import CAMPAIGN
from tests.sftp.servers import PASSWORD, Server, Wire, free_port, running

BIG = random.Random(7).randbytes(3 * 300_000)


class Crash(BaseException):
    """The process ends here."""


class Fragile(FetchedFiles):
    """A memory whose process dies before or after one of its steps."""

    def __init__(self, memory: FetchedFiles, step: int, *, before: bool) -> None:
        super().__init__(memory._database, memory._source)
        self._left, self._before = step, before

    def _dies(self, now: bool) -> None:
        if now == self._before:
            self._left -= 1
            if self._left < 0:
                raise Crash

    def save_verified(self, path: str, size: int, modified: int, digest: str) -> FetchedFile:
        self._dies(True)
        made = super().save_verified(path, size, modified, digest)
        self._dies(False)
        return made

    def mark_delivered(self, file: FetchedFile) -> None:
        self._dies(True)
        super().mark_delivered(file)
        self._dies(False)

    def delete(self, files: Iterable[FetchedFile]) -> None:
        self._dies(True)
        super().delete(files)
        self._dies(False)


class Side:
    """Our side: an inbox, a ledger, and a source called `acme`."""

    def __init__(self, root: Path) -> None:
        self.inbox, self.state = root / "inbox", root / "var"
        self.inbox.mkdir()
        self.arrivals: list[tuple[str, bytes]] = []
        self.meanwhile: Callable[[], object] = lambda: None  #: happens whenever some bytes have come

    def visit(
        self,
        settings: FetchSettings,
        secret: str | None = None,
        *,
        event: int | None = None,
        step: tuple[int, bool] | None = None,
    ) -> FetchResult:
        """One round in a process of its own, as it were; it dies at an event, or before or after a step, of a
        number."""
        left = event

        def tell(event: str, /, **_: object) -> None:
            nonlocal left
            if event == "fetch_progressed":
                self.meanwhile()
            if left is not None:
                left -= 1
                if left < 0:
                    raise Crash

        with Ledger.open(self.state) as ledger:
            memory = FetchedFiles(ledger.database, "acme")
            if step is not None:
                memory = Fragile(memory, step[0], before=step[1])
            hidden = Secret(secret) if secret else None
            source = Source("acme", settings, hidden)
            made = Fetcher(source, self.inbox, memory, ledger.runs.has_run_since, tell).poll()
        assert made is not None
        return made

    def take(self) -> None:
        """What the pipeline would do with the inbox."""
        for name in sorted(scan.scan(self.inbox)):
            path = self.inbox / name
            self.arrivals.append((name, path.read_bytes()))
            path.unlink()

    @property
    def left(self) -> list[str]:
        """Whatever else lies about in the inbox."""
        return [path.name for path in self.inbox.rglob("*") if path.is_file()]


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


def put(server: Server, name: str, data: bytes, modified: int = 1_700_000_000) -> Path:
    path = server.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (modified, modified))
    return path


def code_of(side: Side, settings: FetchSettings, secret: str | None = None) -> str:
    with pytest.raises(EtlError) as caught:
        side.visit(settings, secret)
    assert caught.value.hint
    return caught.value.code


def test_new_files_come_once_and_whole(server: Server, side: Side) -> None:
    """Old ones stay known, a changed one comes again, foreign and unfinished names never."""
    put(server, "a.csv", b"1")
    put(server, "b.csv", BIG)
    put(server, "b.csv.part", b"x")
    put(server, "notes.txt", b"x")
    (server.root / "folder.csv").mkdir()
    settings = server.settings(files="*.csv")
    assert side.visit(settings).fetched_names == ("acme/a.csv", "acme/b.csv")
    side.take()
    assert side.visit(settings).fetched_names == ()
    put(server, "a.csv", b"2", modified=1_600_000_000)
    made = side.visit(settings)
    assert (made.fetched_names, made.fetched_before) == (("acme/a.csv",), 2)
    side.take()
    assert side.arrivals == [("acme/a.csv", b"1"), ("acme/b.csv", BIG), ("acme/a.csv", b"2")]
    assert side.left == []


def test_names_that_do_harm_are_not_seen(server: Server, side: Side) -> None:
    """Signs that a terminal acts on, links, and bytes that are no text; the others come."""
    put(server, "a.csv", b"1")
    put(server, "b\x1b[2J.csv", b"2")
    (server.root / os.fsdecode(b"c\xff.csv")).write_bytes(b"3")
    (server.root / "d.csv").symlink_to(server.root / "a.csv")
    assert side.visit(server.settings()).fetched_names == ("acme/a.csv",)


@pytest.mark.parametrize("after", ["delete", "move"])
def test_what_has_come_is_cleared_away_on_the_server(server: Server, side: Side, after: str) -> None:
    """Deleted, or moved without covering what is there; the same name, size and time again is a new file then."""
    (server.root / "taken").mkdir()
    put(server, "taken/a.csv", b"older")
    settings = server.settings(files="*.csv", after=after, move_to="taken", into="")
    for _ in range(2):
        put(server, "a.csv", b"1")
        assert side.visit(settings).fetched_names == ("a.csv",)
        side.take()
        assert not (server.root / "a.csv").exists()
    kept = {path.read_bytes() for path in (server.root / "taken").iterdir()}
    assert kept == ({b"older"} if after == "delete" else {b"older", b"1"})


def test_a_name_that_still_waits_in_the_inbox_is_not_covered(server: Server, side: Side) -> None:
    """Yesterday's file has not been processed yet: today's waits, and comes when it has."""
    settings = server.settings()
    put(server, "a.csv", b"1", modified=1)
    side.visit(settings)
    put(server, "a.csv", b"2", modified=2)
    made = side.visit(settings)
    assert made.fetched_names == ()
    assert "still in the inbox" in dict(made.not_ready)["a.csv"]
    side.take()
    assert side.visit(settings).fetched_names == ("acme/a.csv",)
    side.take()
    assert [data for _, data in side.arrivals] == [b"1", b"2"]


def test_a_password_opens_too(tmp_path: Path, side: Side) -> None:
    """Where there is no key."""
    with running("asyncssh", tmp_path / "server") as server:
        put(server, "a.csv", b"1")
        assert side.visit(server.settings(key=None), PASSWORD).fetched_names == ("acme/a.csv",)
        assert code_of(side, server.settings(key=None), "wrong") == "fetch-credentials"


def test_files_of_checksums_are_held_to(server: Server, side: Side) -> None:
    """A file waits for its checksum, and one with another is not taken."""
    settings = server.settings(files="*.csv", checksum="{name}.sha256")
    put(server, "a.csv", b"1")
    assert dict(side.visit(settings).not_ready) == {"a.csv": "its file of checksums is not there yet"}
    put(server, "a.csv.sha256", f"{'0' * 64}  a.csv\n".encode())
    put(server, "b.csv", b"2", modified=1_700_000_001)
    put(server, "b.csv.sha256", f"{hashlib.sha256(b'2').hexdigest()}  b.csv\n".encode())
    assert code_of(side, settings) == "fetch-checksum"
    assert side.left == ["b.csv"]  # the other file is none the worse for it
    put(server, "a.csv.sha256", f"{hashlib.sha256(b'1').hexdigest()}  a.csv\n".encode())
    assert side.visit(settings).fetched_names == ("acme/a.csv",)


def test_the_servers_own_checksum_is_asked_where_it_has_one(server: Server, side: Side) -> None:
    """A server with a shell says it, another does not; the file comes either way."""
    put(server, "a b'c.csv", b"1")
    assert side.visit(server.settings(checksum="server")).fetched_names == ("acme/a b'c.csv",)


def test_what_is_wrong_is_said(server: Server, side: Side, tmp_path: Path) -> None:
    """Each kind of trouble has its code and a hint."""
    put(server, "a.csv", b"1")
    stranger = tmp_path / "stranger"
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(stranger))
    other = tmp_path / "other_hosts"
    other.write_text(f"[127.0.0.1]:{server.port} {key.export_public_key().decode()}")
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    assert code_of(side, server.settings(key=stranger)) == "fetch-credentials"
    assert code_of(side, server.settings(key=tmp_path / "none")) == "fetch-key"
    assert code_of(side, server.settings(key=other)) == "fetch-key"
    assert code_of(side, server.settings(known_hosts=other)) == "fetch-host-key"
    assert code_of(side, server.settings(known_hosts=nobody)) == "fetch-host-key"
    assert code_of(side, server.settings(known_hosts=tmp_path / "none")) == "fetch-known-hosts"
    assert code_of(side, server.settings(folder="/not/there")) == "fetch-not-there"
    port = free_port()
    moved = tmp_path / "moved_hosts"
    moved.write_text(server.known_hosts.read_text().replace(str(server.port), str(port)))
    assert code_of(side, server.settings(port=port, known_hosts=moved)) == "fetch-unreachable"
    assert side.visit(server.settings()).fetched_names == ("acme/a.csv",)


@pytest.fixture
def wire(any_server: Server) -> Iterator[Wire]:
    line = Wire(any_server.port)
    yield line
    line.close()


def through(server: Server, wire: Wire, **more: object) -> FetchSettings:
    """The server behind a line that breaks."""
    hosts = server.known_hosts.with_name("wire_hosts")
    hosts.write_text(server.known_hosts.read_text().replace(str(server.port), str(wire.port)))
    return server.settings(port=wire.port, known_hosts=hosts, **more)


@pytest.mark.parametrize("after", ["keep", "delete"])
def test_a_crash_at_any_step_changes_nothing_in_the_end(any_server: Server, side: Side, after: str) -> None:
    """Dead at an event, or before or after a step of the ledger: the next round brings what is missing, once."""
    settings = any_server.settings(after=after)
    expected = []
    crashes: list[dict[str, Any]] = [{"event": n} for n in range(8)]
    crashes += [{"step": (n, before)} for n in range(5) for before in (True, False)]
    died = 0
    for number, crash in enumerate(crashes):
        names = [f"a{number}.csv", f"b{number}.csv"]
        for name in names:
            data = f"{name};".encode() * 3000
            put(any_server, name, data, modified=1_700_000_000 + number)
            expected.append((f"acme/{name}", data))
        try:
            side.visit(settings, **crash)
        except Crash:
            died += 1
            if number % 2:
                side.take()
        side.visit(settings)
        side.take()
        assert sorted(side.arrivals) == sorted(expected)
        assert side.left == []
        assert len(list(any_server.root.iterdir())) == (0 if after == "delete" else len(expected))
    assert died >= 12


def test_a_line_that_breaks_again_and_again(
    any_server: Server, side: Side, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after a random number of bytes, in a campaign 100 times: every file arrives once and whole, and nothing of
    what has come is fetched again."""
    monkeypatch.setattr(fetcher, "BLOCK_BYTES", 32 * 1024)
    rng = random.Random(11)
    settings = through(any_server, wire)
    expected: list[tuple[str, bytes]] = []
    codes: set[str] = set()
    cuts = carried = 0
    while cuts < (100 if CAMPAIGN else 20):
        name, data = f"{len(expected)}.csv", rng.randbytes(rng.randrange(1, 900_000))
        put(any_server, name, data, modified=1_700_000_000 + len(expected))
        expected.append((f"acme/{name}", data))
        while True:
            wire.left = rng.randrange(0, 400_000)
            given = wire.left
            try:
                side.visit(settings)
                break
            except FetchError as error:
                codes.add(error.code)
                cuts += 1
                carried += given
        wire.left = None
        side.visit(settings)
        side.take()
    assert sorted(side.arrivals) == sorted(expected)
    assert side.left == []
    assert codes <= {"fetch-unreachable", "fetch-stalled"}
    assert carried < 4 * sum(len(data) for _, data in expected)


def test_a_server_that_falls_silent_is_given_up(any_server: Server, side: Side, wire: Wire) -> None:
    """No byte for the time set is an error, and no wait for ever."""
    put(any_server, "a.csv", BIG)
    wire.silent.set()
    assert code_of(side, through(any_server, wire, timeout_seconds=0.3)) == "fetch-stalled"
    wire.silent.clear()
    assert side.visit(through(any_server, wire)).fetched_names == ("acme/a.csv",)


def test_a_file_that_has_no_room_is_not_begun(server: Server, side: Side) -> None:
    """The disk is looked at before, so that it is not filled to the last byte; the other files come all the same."""
    with (server.root / "huge.csv").open("wb") as file:
        file.truncate(1 << 43)
    put(server, "small.csv", b"a;b")
    assert code_of(side, server.settings()) == "fetch-no-space"
    side.take()
    assert side.arrivals == [("acme/small.csv", b"a;b")]


def test_a_server_that_tells_no_sizes_is_refused(server: Server, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of unknown size would count as empty, and be deleted unread."""
    put(server, "a.csv", b"a;b")
    plain = asyncssh.SFTPClient.scandir

    async def scan(self: asyncssh.SFTPClient, path: str) -> AsyncIterator[asyncssh.SFTPName]:
        async for item in plain(self, path):
            item.attrs.size = None
            yield item

    monkeypatch.setattr(asyncssh.SFTPClient, "scandir", scan)
    assert code_of(side, server.settings(after="delete")) == "fetch-no-size"
    assert (server.root / "a.csv").exists()
    side.take()
    assert side.arrivals == []


def test_a_file_that_changes_while_it_comes_is_not_taken(server: Server, side: Side) -> None:
    """Replaced on the server in the middle: the next round takes the new one."""
    put(server, "a.csv", BIG)
    side.meanwhile = lambda: put(server, "a.csv", BIG + b"more", modified=1_700_000_009)
    made = side.visit(server.settings())
    assert made.fetched_names == ()
    assert "changed on the server" in dict(made.not_ready)["a.csv"]
    side.meanwhile = lambda: None
    assert side.visit(server.settings()).fetched_names == ("acme/a.csv",)
    side.take()
    assert side.arrivals == [("acme/a.csv", BIG + b"more")]
