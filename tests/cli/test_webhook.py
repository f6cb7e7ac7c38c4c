"""The webhook of the real `etl run`, with a sandbox that posts to it."""

from __future__ import annotations

from pathlib import Path

from etl.sandbox import EventSettings, SandboxSettings, run_in_thread
from tests.support.shop import SECRET, STOCK, STOCK_MAPPING, Shop, free_port, stock, stop, until

TOKEN = "correct-horse-battery-staple"


def test_run_listens_where_the_settings_say_so(tmp_path: Path) -> None:
    """Without a usable token nothing starts; with it `run` listens and never shows it."""
    port = free_port()
    events = EventSettings(url=f"http://127.0.0.1:{port}/job-completed", headers={"x-etl-token": TOKEN})
    quick = SandboxSettings(client_secret=SECRET, requests=1000, token_burst=1000, events=events)
    with run_in_thread(quick) as live:
        shop = Shop(tmp_path / "shop", live)
        shop.mapping(STOCK_MAPPING)
        with (shop.root / "etl.toml").open("a", encoding="utf-8") as file:
            file.write(f"[webhook]\nport = {port}\n")
        assert "error[secret-missing]" in shop.finish(shop.start("run")).err
        assert "error[webhook-token-short]" in shop.finish(shop.start("run", ETL_WEBHOOK_TOKEN="short")).err
        service = shop.start("run", ETL_WEBHOOK_TOKEN=TOKEN)
        shop.drop(stock(("A1", "5"), ("A2", "6")))
        until(lambda: len(list(shop.state.glob("archive/*/*/report.json"))) == 1)
        stop(service)
        done = shop.finish(service)
        assert done.status in (0, 130)
        assert "webhook_opened" in done.err
        assert TOKEN not in done.out + done.err
        assert len(shop.sandbox.records(STOCK)) == 2
        shop.close()
