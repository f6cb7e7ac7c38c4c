"""Suppliers push into the inbox through a real server, with clients of every make, on a clock that is told the time.

What is between two steps of a client is a look of the inbox at a time of our choosing, so that pauses of any length
cost nothing, and looks fall before, into and after everything that a client does.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from etl.config.settings import PathSettings, Settings
from etl.errors import InvalidFileError
from etl.ingest import claims, scan
from etl.ingest.intake import Intake
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.state.ledger.facade import Ledger
from tests.sftp.conftest import CAMPAIGN
from tests.sftp.servers import Server
from tests.support.shop import STOCK_MAPPING

SETTLE = 10.0


class Box:
    """Our side: looks at the inbox when told, claims what it may, reads it, and uses what it read a little later."""

    def __init__(self, folder: Path, state: Path, mappings: list[Mapping], ledger: Ledger) -> None:
        self.folder, self.state, self.ledger = folder, state, ledger
        settings = Settings(paths=PathSettings(inbox=folder, state=state))
        self.intake = Intake(settings, ledger, mappings, lambda *_, **__: None)
        self.now = 0.0
        self.snapshot: scan.Observations = {}
        self.reading: list[tuple[Run, bytes]] = []
        self.used: list[tuple[str, bytes]] = []
        self.detected = 0

    def look(self, seconds: float) -> None:
        """So many seconds later."""
        self.now += seconds
        self._use()
        self.snapshot, ready = scan.find_stable(self.snapshot, scan.scan(self.folder), self.now, SETTLE)
        for name in sorted(ready):
            for run in self.intake.claim(name, self.snapshot[name].file_stat):
                assert run.claimed is not None
                self.reading.append((run, run.claimed.read_bytes()))

    def _use(self) -> None:
        for run, content in self.reading:
            assert run.claimed is not None
            try:
                self.intake.check_unmodified(run)
            except InvalidFileError:
                self.detected += 1
                self.ledger.close_run(run.id, RunState.INVALID)
                assert self.intake.return_if_modified(run)
                continue
            self.used.append((run.file, content))
            self.ledger.close_run(run.id, RunState.COMPLETED)
            claims.archive_file(run.claimed, self.state / "archive" / run.id, self.state)
        self.reading = []


@dataclass
class Upload:
    """One supplier's upload of one file: what its client does, and how long it pauses between its steps."""

    rng: random.Random
    sftp: asyncssh.SFTPClient
    folder: str
    name: str
    data: bytes
    look: Callable[[float], None]
    longest: float = 3 * SETTLE  #: pauses while a file is open, or vouched for
    between: float = 0.9 * SETTLE  #: pauses while nothing tells that the upload goes on

    def pause(self, longest: float) -> None:
        """Several looks that together take no longer than that, or none."""
        left = self.rng.uniform(0, longest)
        for _ in range(self.rng.randrange(4)):
            step = self.rng.uniform(0, left)
            self.look(step)
            left -= step

    async def pieces(self, path: str, mode: str, data: bytes) -> None:
        """Write at any speed, with pauses while the file is open."""
        async with self.sftp.open(f"{self.folder}/{path}", mode, encoding=None) as file:
            while data:
                size = self.rng.randrange(1, len(data) + 1)
                await file.write(data[:size])
                data = data[size:]
                self.pause(self.longest)

    async def straight(self, path: str) -> None:
        await self.pieces(path, "wb", self.data)

    async def resumed(self, path: str) -> None:
        cut = self.rng.randrange(1, len(self.data))
        await self.pieces(path, "wb", self.data[:cut])
        self.pause(self.between)
        await self.pieces(path, "ab", self.data[cut:])

    async def rewritten(self, path: str) -> None:
        await self.pieces(path, "wb", self.rng.randbytes(self.rng.randrange(1, 2000)))
        self.pause(self.between)
        await self.pieces(path, "wb", self.data)

    async def replaced(self, path: str) -> None:
        await self.pieces(path, "wb", self.data[: self.rng.randrange(1, len(self.data))])
        self.pause(self.between)
        await self.sftp.remove(f"{self.folder}/{path}")
        await self.pieces(path, "wb", self.data)

    async def deliver(self, style: str, naming: str, *, old: bool) -> None:
        """The whole of it."""
        path = {"final": self.name, "part": self.name + ".part", "filepart": self.name + ".filepart",
                "temporary": f".{self.name}.tmp"}[naming]  # fmt: skip
        if naming != "final":
            self.between = self.longest
        await getattr(self, style)(path)
        if old:
            await self.sftp.utime(f"{self.folder}/{path}", (1_000_000_000, 1_000_000_000 + self.rng.randrange(9)))
        if naming != "final":
            self.pause(self.longest)
            await self.sftp.posix_rename(f"{self.folder}/{path}", f"{self.folder}/{self.name}")


STYLES = ("straight", "resumed", "rewritten", "replaced")
NAMINGS = ("final", "part", "filepart", "temporary")
#: Folder of the inbox and what its mapping says of complete files.
FEEDS = {"plain": "", "done": 'done: "{name}.ok"', "sums": 'manifest: "{name}.sha256"', "lists": 'manifest: "*.md5"'}


def mappings(folder: Path) -> list[Mapping]:
    found = []
    for feed, line in FEEDS.items():
        text = STOCK_MAPPING.replace("feed: stock", f"feed: {feed}").replace("stock*.csv", f"{feed}/*.csv")
        path = folder / f"{feed}.yaml"
        path.write_text(text.replace("content: full", f"content: full\n  {line}"))
        found.append(load.load_mapping(path))
    return found


async def schedules(server: Server, box: Box, seeds: range) -> AsyncIterator[tuple[str, bytes]]:
    """Every upload of a campaign, one after the other: name below the inbox and content."""
    async with await server.connect() as connection, connection.start_sftp_client() as sftp:
        for seed in seeds:
            rng = random.Random(seed)
            feed = rng.choice(list(FEEDS))
            data = rng.randbytes(rng.randrange(2, 3000))
            upload = Upload(rng, sftp, str(server.root / feed), f"{seed}.csv", data, box.look)
            if feed != "plain":
                upload.between = upload.longest
            before = feed == "lists" and rng.random() < 0.5
            if before:
                await say(upload, feed)
            await upload.deliver(rng.choice(STYLES), rng.choice(NAMINGS), old=rng.random() < 0.5)
            upload.pause(upload.longest)
            if not before:
                await say(upload, feed)
            yield f"{feed}/{seed}.csv", data


async def say(upload: Upload, feed: str) -> None:
    """The done file or manifest, itself written in pieces."""
    if feed == "done":
        await upload.pieces(f"{upload.name}.ok", "wb", b"")
        async with upload.sftp.open(f"{upload.folder}/{upload.name}.ok", "wb", encoding=None):
            pass
    elif feed == "sums":
        line = f"{hashlib.sha256(upload.data).hexdigest()} *{upload.name}\n"
        await upload.pieces(f"{upload.name}.sha256", "wb", line.encode())
    elif feed == "lists":
        line = f"{hashlib.md5(upload.data).hexdigest()}  {upload.name}\n"
        await upload.pieces(f"{upload.name}.md5", "wb", line.encode())


@pytest.mark.slow
def test_nothing_is_used_before_it_is_complete(any_server: Server, tmp_path: Path) -> None:
    """Any speed, pauses around `settle_seconds`, resumes, rewrites, renames, old times: what is used is the whole
    file, once, and nothing stays behind. In a campaign 200 uploads, else 60."""
    for feed in FEEDS:
        (any_server.root / feed).mkdir()
    (tmp_path / "mappings").mkdir()
    with Ledger.open(tmp_path / "var") as ledger:
        box = Box(any_server.root, tmp_path / "var", mappings(tmp_path / "mappings"), ledger)

        async def campaign() -> None:
            async for name, data in schedules(any_server, box, range(200 if CAMPAIGN else 60)):
                for _ in range(3):
                    box.look(SETTLE)
                assert box.used == [(name, data)], name
                box.used = []
                assert scan.scan(box.folder) == {}, name

        asyncio.run(campaign())
    assert [name for _, _, names in os.walk(any_server.root) for name in names] == []
