"""`etl fetch`, and `etl run` with a supplier's server."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import asyncssh

from tests.sftp.servers import Server, Wire, running
from tests.support.shop import STOCK_MAPPING, Shop, open_shop, stock, stop, until


def supplied(shop: Shop, server: Server, port: int | None = None) -> None:
    """A shop with a supplier called acme."""
    hosts = shop.root / "known_hosts"
    hosts.write_text(server.known_hosts.read_text().replace(str(server.port), str(port or server.port)))
    with (shop.root / "etl.toml").open("a") as file:
        file.write(
            f'[fetch.acme]\nhost = "127.0.0.1"\nport = {port or server.port}\nuser = "{server.user}"\n'
            f'key = "{server.key}"\nknown_hosts = "known_hosts"\nfolder = "{server.root}"\nfiles = "*.csv"\n'
            'schedule = "* * * * *"\nsettle_seconds = 0.0\n'
        )
    shop.mapping(STOCK_MAPPING.replace('"stock*.csv"', '"acme/stock*.csv"'))


def test_fetch_brings_files_and_once_works_them(tmp_path: Path) -> None:
    """Two commands; the second visit finds nothing new; an unknown name is a usage error."""
    with running("asyncssh", tmp_path / "server") as server, open_shop(tmp_path / "shop") as shop:
        assert shop.etl("fetch").status == 2
        supplied(shop, server)
        (server.root / "stock.csv").write_text(stock(("A1", "5")))
        done = shop.etl("fetch", "--json")
        assert done.json["sources"] == [
            {"source": "acme", "fetched": ["acme/stock.csv"], "not_ready": [], "fetched_before": 0, "error": None}
        ]
        assert shop.once().run["file"] == "acme/stock.csv"
        again = shop.etl("fetch", "acme")
        assert (again.status, again.out) == (0, "acme: 0 fetched, 1 fetched before\n")
        assert shop.etl("fetch", "nobody").status == 2
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(server.key))
        refused = shop.etl("fetch", "acme")
        assert refused.status == 1
        assert "error[fetch-credentials]" in refused.err
        assert refused.out == ""


def test_run_fetches_by_its_timetable(tmp_path: Path) -> None:
    """A service brings and works a supplier's file without anybody; it says what is wrong, and ends when told."""
    with running("asyncssh", tmp_path / "server") as server, open_shop(tmp_path / "shop") as shop:
        supplied(shop, server)
        (server.root / "stock.csv").write_text(stock(("A1", "5")))
        service = shop.start("run")
        until(lambda: list(shop.state.glob("archive/*/*/report.json")))
        assert "error[state-in-use]" in shop.etl("fetch").err
        stop(service)
        done = shop.finish(service)
        assert done.status == 0
        assert '"file_fetched"' in done.err


def test_killed_while_fetching(tmp_path: Path) -> None:
    """kill -9 of the real command, again and again while bytes come: the file arrives once and whole."""
    data = b"Art;Qty;Days\n" + random.Random(3).randbytes(12_000_000).hex().encode()
    with running("asyncssh", tmp_path / "server") as server, open_shop(tmp_path / "shop") as shop:
        wire = Wire(server.port)
        supplied(shop, server, wire.port)
        (server.root / "stock.csv").write_bytes(data)
        for share in (1, 2, 3):
            wire.left = len(data) * share // 3
            process = shop.start("fetch")
            until(lambda: (wire.left or 0) < 200_000 or process.poll() is not None)  # noqa: B023
            process.send_signal(signal.SIGKILL)
            shop.finish(process)
        wire.left = None
        assert shop.etl("fetch").status == 0
        wire.close()
        assert (shop.inbox / "acme" / "stock.csv").read_bytes() == data
        assert [path.suffix for path in (shop.inbox / "acme").iterdir()].count(".part") == 0
