"""A held run waits for a person, whatever happens to the machine; what is approved is what was shown."""

from __future__ import annotations

import signal
from typing import Any

from tests.support.shop import STOCK, Shop, stock, until

MANY = [(f"A{number:03}", "5") for number in range(40)]
EMPTY = [(part, "0" if number < 20 else "6") for number, (part, _) in enumerate(MANY)]


def held_run(shop: Shop) -> tuple[Any, list[str]]:
    """A run that is held because stock goes to zero, and the digests of the preview of its file."""
    shop.drop(stock(*MANY))
    assert shop.once().status == 0
    path = shop.drop(stock(*EMPTY))
    preview = shop.etl("preview", str(path), "--json")
    assert preview.status == 6
    held = shop.once()
    assert (held.status, held.run["state"]) == (6, "held")
    assert len(shop.imports()) == 1
    return held.run, [request["digest"] for request in preview.json["plan"]]


def test_it_survives_everything_and_sends_what_was_shown(shop: Shop) -> None:
    """A restart, kill -9 and a second process leave it held; approving sends the previewed bytes, and nothing else."""
    run, digests = held_run(shop)
    assert shop.once().json == {"runs": []}
    watching = shop.start("run")
    until(lambda: (shop.state / "lock").read_text().strip() == f"process {watching.pid}")
    assert shop.etl("status", "--json").json["held"] == 1
    refused = shop.etl("approve", run["run"])
    assert refused.status == 1
    assert "state-in-use" in refused.err
    watching.send_signal(signal.SIGKILL)
    shop.finish(watching)
    assert len(shop.imports()) == 1
    assert shop.etl("approve", run["run"], "--json").run["state"] == "completed"
    assert [seen.digest for seen in shop.imports()[1:]] == digests
    assert shop.sandbox.records(STOCK)["A000|W1|L1"]["OnhandValue"] == 0
    assert shop.etl("approve", run["run"]).status == 2


def test_why_it_is_held_is_shown(shop: Shop) -> None:
    """`show` gives the reason and ten examples with their values before and after, no wider than the terminal."""
    run, _ = held_run(shop)
    shown = shop.etl("show", run["run"], columns=80)
    lines = shown.out.splitlines()
    assert "held: the stock of 20 of 40 records would go to zero; the limit is 20 %" in lines
    at = lines.index("held: the stock of 20 of 40 records would go to zero; the limit is 20 %")
    assert lines[at + 1].split() == ["key", "field", "before", "after", "change"]
    assert lines[at + 2].split() == ["A000", "/", "W1", "/", "L1", "OnhandValue", "5", "0", "−100", "%"]
    assert len(lines[at + 2 :]) >= 10
    assert max(map(len, lines[at + 1 : at + 12])) <= 80
    page = (shop.state / "runs" / run["run"] / "report.html").read_text(encoding="utf-8")
    assert f"etl approve {run['run']}" in page
    report = shop.etl("show", run["run"], "--json").json
    (verdict,) = [one for one in report["guards"] if one["held"]]
    assert (verdict["guard"], verdict["count"], verdict["total"], len(verdict["examples"])) == (
        "stock_zero",
        20,
        40,
        10,
    )
    assert report["summary"]["stock_zero"] == 20
    assert "HOLDS" in shop.etl("preview", str(shop.drop(stock(*EMPTY)))).out


def test_an_outdated_plan_is_refused(shop: Shop) -> None:
    """When another run has changed what Norce has, approving names it and sends nothing; discarding works."""
    run, _ = held_run(shop)
    full = shop.etl("full", "stock", "--json")
    assert full.run["state"] == "completed"
    sent = len(shop.imports())
    refused = shop.etl("approve", run["run"])
    assert refused.status == 1
    assert "plan-outdated" in refused.err
    assert full.run["run"] in refused.err
    assert len(shop.imports()) == sent
    assert shop.etl("discard", run["run"]).status == 0
    shop.drop(stock(*EMPTY))
    again = shop.once().run
    assert again["state"] == "held"
    assert shop.etl("approve", again["run"], "--json").run["state"] == "completed"
