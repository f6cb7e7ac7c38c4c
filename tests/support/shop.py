"""A customer's folder with mappings, an inbox and settings, a sandbox that it talks to, and the real `etl` command."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox import RunningSandbox, SandboxSettings, run_in_thread
from tests.contract.checked_sandbox import check_requests

ETL = Path(sys.executable).parent / "etl"
SECRET = "hush-4711-never-shown"

STOCK = "Product/ImportOnhands"
PRICES = "Product/ImportSkuPriceLists"
PRODUCTS = "Product/ImportProducts"

STOCK_MAPPING = Path(__file__).with_name("stock.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def run(self) -> Any:
        """The only run of a command that prints JSON."""
        (only,) = self.json["runs"]
        return only


class Shop:
    """One folder. Everything the command says is kept, for the search at the end for what must not be there."""

    def __init__(self, root: Path, live: RunningSandbox | None) -> None:
        self.root, self.live = root, live
        self.inbox, self.mappings = root / "inbox", root / "mappings"
        self.state = root / "var" if live else root / "var" / "sandbox"
        self.inbox.mkdir(parents=True)
        self.mappings.mkdir()
        self.said: list[str] = []
        self.started: list[subprocess.Popen[str]] = []
        self.ear = subprocess.PIPE  #: DEVNULL for a service that says more than a pipe holds
        self.url = live.url if live else ""
        self.settings()

    def settings(self, *, url: str | None = None, **limits: Any) -> None:
        """Write etl.toml; without a sandbox of the test's own there is no `[connect]`, so none at all."""
        if self.live is None:
            return
        wanted = {"requests": 1000, "per_seconds": 60, "lost_answer_seconds": 0.5, **limits}
        self.root.joinpath("etl.toml").write_text(
            f'[connect]\nbase_url = "{url or self.url}"\nscope = "playground"\napplication_id = 7\naccount_id = 11\n'
            'client_id = "sandbox"\n[limits]\n'
            + "".join(f"{name} = {value}\n" for name, value in wanted.items())
            + "[watch]\nsettle_seconds = 0.05\nrescan_seconds = 0.5\n",
            encoding="utf-8",
        )

    def mapping(self, text: str, name: str = "stock.yaml") -> Path:
        """Put a mapping into the folder."""
        path = self.mappings / name
        path.write_text(text, encoding="utf-8")
        return path

    def drop(self, content: bytes | str, name: str = "stock.csv") -> Path:
        """Put a file into the inbox, the careful way: under an upload name first."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        part = path.with_name(path.name + ".part")
        part.write_bytes(data)
        return part.rename(path)

    def start(
        self, *words: str, secret: str | None = SECRET, columns: int = 100, **variables: str
    ) -> subprocess.Popen[str]:
        """The command, going on by itself."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ETL_", "COV_"))}
        env |= {"PYTHONWARNINGS": "error", "NO_COLOR": "1", "COLUMNS": str(columns), **variables}
        if secret is not None:
            env["ETL_CLIENT_SECRET"] = secret
        process = subprocess.Popen(
            [ETL, *words], cwd=self.root, env=env, text=True, encoding="utf-8", stdin=subprocess.DEVNULL,
            stdout=self.ear, stderr=self.ear,
        )  # fmt: skip
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], timeout: float = 120) -> Done:
        """Wait for a command's end."""
        try:
            out, err = (said or "" for said in process.communicate(timeout=timeout))
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.said += [out, err]
        return Done(process.returncode, out, err)

    def etl(self, *words: str, **more: Any) -> Done:
        """The command from start to end."""
        return self.finish(self.start(*words, **more))

    def once(self, **more: Any) -> Done:
        return self.etl("once", "--json", **more)

    @property
    def sandbox(self) -> Any:
        assert self.live is not None
        return self.live.sandbox

    def imports(self) -> list[Any]:
        """Import requests that the sandbox saw, in order."""
        return [seen for seen in self.sandbox.requests() if "/Import" in seen.path]

    def claimed(self) -> list[str]:
        """Relative names of files that wait in the claim folder."""
        folder = self.state / "claimed"
        return sorted("/".join(path.relative_to(folder).parts[1:]) for path in folder.rglob("*") if path.is_file())

    def archive(self, run: str) -> Path:
        """The folder where a run was filed away."""
        (folder,) = self.state.glob(f"archive/*/{run}")
        return folder

    def rejections(self, run: str) -> list[dict[str, str]]:
        """A run's rejections.csv, line by line."""
        text = (self.archive(run) / "rejections.csv").read_text(encoding="utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline="")))

    def close(self) -> None:
        """End what still runs, and look for what must never be found."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=10)
        for text in self.said:
            assert SECRET not in text
            assert "Traceback" not in text
            assert "[defect]" not in text
        for path in self.root.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), path.name


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Poll until something holds; its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"did not come true within {seconds} s")
        threading.Event().wait(0.02)
    return found


def stock(*rows: tuple[str, str], days: str = "3") -> str:
    """A stock export."""
    return "Art;Qty;Days\n" + "".join(f"{part};{quantity};{days}\n" for part, quantity in rows)


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def open_shop(
    root: Path, settings: SandboxSettings | None = None, kind: Callable[[Path, RunningSandbox], Shop] = Shop
) -> Iterator[Shop]:
    """Open a shop with a sandbox in this process; its commands are processes, unless the kind says otherwise."""
    with run_in_thread(settings or SandboxSettings(client_secret=SECRET, requests=1000, token_burst=1000)) as live:
        shop, wrong = kind(root, live), check_requests(live.sandbox)
        try:
            yield shop
        finally:
            shop.close()
        assert wrong == []
