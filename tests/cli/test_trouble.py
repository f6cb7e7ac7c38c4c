"""Bad days: wrong secrets, servers that are away, refusals, two processes at once, signals and crashes."""

from __future__ import annotations

import signal

import pytest

from etl.sandbox import Fault, SandboxSettings, run_in_thread
from tests.support.shop import PRICES, SECRET, STOCK, Done, Shop, free_port, stock, stop, until

PRICES_MAPPING = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: full}
columns:
  Price: {type: decimal}
record:
  PartNo: Art
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: Price
"""


def parts(shop: Shop) -> set[str]:
    return {key.split("|")[0] for key in shop.sandbox.records(STOCK)}


def file_ran(shop: Shop, done: Done, expected: set[str]) -> None:
    """All is well at last: accepted, filed away, nothing left to do, nothing sent twice without need."""
    assert done.status == 0, done.err
    assert parts(shop) == expected
    assert shop.claimed() == []
    assert [path.name for path in shop.state.glob("archive/*/*/source/stock.csv")] == ["stock.csv"]
    sent = len(shop.imports())
    shop.drop(stock(*((part, "5") for part in sorted(expected))))
    again = shop.once()
    assert (again.status, again.run["unchanged"], again.run["requests"]) == (0, len(expected), 0)
    assert len(shop.imports()) == sent


def test_wrong_secret(shop: Shop) -> None:
    """A wrong secret ends with 5 and a hint; the file stays claimed, and the next `once` with the right one goes on."""
    shop.drop(stock(("A1", "5")))
    done = shop.etl("once", secret="hush-4711-but-wrong")
    assert done.status == 5
    assert "hint:" in done.err
    assert "hush-4711-but-wrong" not in done.out + done.err
    assert shop.claimed() == ["stock.csv"]
    assert shop.etl("status", "--json").json["open"] == 1
    file_ran(shop, shop.once(), {"A1"})


def test_unreachable_server(shop: Shop) -> None:
    """A server that is away leaves the file claimed; a signal ends the waiting, and a later `once` goes on."""
    port = free_port()
    shop.settings(url=f"http://127.0.0.1:{port}")
    shop.drop(stock(("A1", "5")))
    waiting = shop.start("once")
    until(lambda: shop.claimed() and shop.etl("status", "--json").json["open"])
    stop(waiting)
    assert shop.finish(waiting).status in (5, 130)
    assert shop.claimed() == ["stock.csv"]
    with run_in_thread(SandboxSettings(client_secret=SECRET), port=port) as live:
        shop.live = live
        file_ran(shop, shop.once(), {"A1"})


def test_server_comes_back(shop: Shop) -> None:
    """Answers that are no answers are tried again until Connect is itself; every record arrives."""
    shop.sandbox.inject(Fault(kind="status", status=503, path="ImportOnhands", times=1))
    shop.sandbox.inject(Fault(kind="unauthorized", path="Job/", times=1))
    shop.drop(stock(("A1", "5")))
    file_ran(shop, shop.once(), {"A1"})


def test_refused_records_go_again(shop: Shop) -> None:
    """A record that the job's log rejects is named with its row, ends with 5, and goes alone with the next file."""
    shop.sandbox.inject(Fault(kind="refuse", keys=("A2",), message="not today", times=1))
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    done = shop.once()
    assert done.status == 5
    shown = shop.etl("show", done.run["run"])
    assert "row 3" in shown.out
    assert "not today" in shown.out
    assert parts(shop) == {"A1"}
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    again = shop.once()
    assert (again.status, again.run["unchanged"], again.run["records_sent"]) == (0, 1, 1)
    assert parts(shop) == {"A1", "A2"}


def test_a_failed_job_leaves_its_records_to_the_next_run(shop: Shop) -> None:
    """What a failed job held is not accepted: status 5, the reason in show, and the same file again sends it."""
    shop.sandbox.inject(Fault(kind="job_failed", times=0))
    shop.drop(stock(("A1", "5")))
    done = shop.once()
    assert done.status == 5
    assert {job["status"] for job in done.run["jobs"]} == {3}
    assert "not accepted" in shop.etl("show", done.run["run"]).out
    shop.sandbox.faults.clear()
    shop.drop(stock(("A1", "5")))
    again = shop.once()
    assert (again.status, again.run["records_sent"]) == (0, 1)
    assert parts(shop) == {"A1"}


def test_a_refused_run_goes_before_newer_files_of_its_feed(shop: Shop) -> None:
    """A run that 403 has stopped is gone on with before a newer file of its feed, so the newer value comes last."""
    shop.sandbox.inject(Fault(kind="status", status=403, path="ImportOnhands"))
    shop.drop(stock(("A1", "5")), "stock_1.csv")
    service = shop.start("run")
    until(lambda: not shop.sandbox.faults.all())
    shop.drop(stock(("A1", "6")), "stock_2.csv")
    until(lambda: len(list(shop.state.glob("archive/*/*/report.json"))) == 2)
    stop(service)
    done = shop.finish(service)
    assert done.status == 0
    assert "stays open" in done.err
    assert {run["state"] for run in shop.etl("status", "--json").json["runs"]} == {"completed"}
    (only,) = shop.sandbox.records(STOCK).values()
    assert only["OnhandValue"] == 6


def test_a_stuck_job_lets_other_files_through(shop: Shop) -> None:
    """While the job of a stock file does not end, a price file that comes later is processed by the same process."""
    shop.mapping(PRICES_MAPPING, "prices.yaml")
    shop.sandbox.inject(Fault(kind="job_stuck", path="ImportOnhands"))
    shop.drop(stock(("A1", "5")))
    service = shop.start("run")
    until(lambda: shop.imports())
    shop.drop("Art,Price\nA1,12\n", "prices.csv")
    until(lambda: shop.sandbox.records(PRICES))
    until(lambda: list(shop.state.glob("archive/*/*/source/prices.csv")))
    assert shop.claimed() == ["stock.csv"]
    stop(service)
    assert shop.finish(service).status == 0


def test_run_watches_until_stopped(shop: Shop) -> None:
    """Files present at start and later ones are processed; what fits no mapping is named once; SIGTERM ends it."""
    (shop.inbox / "stock_9.csv.part").write_text("Art")
    shop.drop("x", "letter.txt")
    shop.drop(stock(("A1", "5")), "stock_1.csv")
    service = shop.start("run")
    until(lambda: parts(shop) == {"A1"})
    shop.drop(stock(("A1", "5"), ("A2", "1")), "stock_2.csv")
    until(lambda: parts(shop) == {"A1", "A2"})
    second = shop.etl("once")
    assert second.status == 1
    assert f"process {service.pid}" in second.err
    assert shop.etl("status").status == 0
    until(lambda: len(list(shop.state.glob("archive/*/*/report.json"))) == 2)
    stop(service)
    done = shop.finish(service)
    assert done.status in (0, 130)
    assert done.err.count('"letter.txt"') == 1
    assert {path.name for path in shop.inbox.iterdir()} == {"letter.txt", "stock_9.csv.part"}


def test_sigterm_finishes_the_request_in_hand(shop: Shop) -> None:
    """SIGTERM while Connect takes its time over a request: its answer is awaited and kept, nothing is sent twice."""
    shop.sandbox.inject(Fault(kind="slow", path="ImportOnhands", delay=1.0))
    shop.drop(stock(("A1", "5")))
    service = shop.start("run")
    until(lambda: not shop.sandbox.faults.all())
    stop(service)
    assert shop.finish(service).status in (0, 130)
    file_ran(shop, shop.once(), {"A1"})
    assert len(shop.imports()) == 1


@pytest.mark.parametrize("moment", ["claimed", "token", "sent", "job"])
def test_killed_in_the_middle(shop: Shop, moment: str) -> None:
    """After kill -9 at any moment the next `once` brings everything to its end, with each record there once."""
    if moment == "token":
        shop.sandbox.inject(Fault(kind="hang", path="token"))
    elif moment == "sent":
        shop.sandbox.inject(Fault(kind="hang", path="ImportOnhands", accept=True))
    elif moment == "job":
        shop.sandbox.inject(Fault(kind="job_slow", delay=2.0))
    reached = {
        "claimed": lambda: shop.claimed(),
        "token": lambda: not shop.sandbox.faults.all(),
        "sent": lambda: not shop.sandbox.faults.all(),
        "job": lambda: [each for each in shop.sandbox.requests() if "Job/Get" in each.path],
    }[moment]
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    process = shop.start("once")
    until(reached)
    process.send_signal(signal.SIGKILL)
    assert shop.finish(process).status == -signal.SIGKILL
    done = shop.once()
    file_ran(shop, done, {"A1", "A2"})
    assert len(shop.sandbox.jobs()) == 1


def test_a_person_decides_on_a_request_without_an_outcome(shop: Shop) -> None:
    """Without a list of jobs the run is held; its import waits, others go on; an approval sends the request again."""
    shop.settings(lost_answer_seconds=0.2)
    shop.mapping(PRICES_MAPPING, "prices.yaml")
    shop.sandbox.inject(Fault(kind="reset_after", path="ImportOnhands"))
    shop.sandbox.inject(Fault(kind="status", path="Job/List", times=0, status=500))
    shop.drop(stock(("A1", "5")))
    held = shop.once()
    assert (held.status, held.run["state"]) == (6, "held")
    assert "outcome-unknown" in held.run["error"]
    run = held.run["run"]
    shop.drop(stock(("A1", "7")), "stock_2.csv")
    shop.drop("Art,Price\nA1,9\n", "prices.csv")
    later = shop.once()
    assert [each.path.rpartition("/")[2] for each in shop.imports()] == ["ImportOnhands", "ImportSkuPriceLists"]
    assert shop.etl("status", "--json").json["held"] == 1
    asked = shop.etl("approve", run)
    assert asked.status == 2
    assert "approval-needs-send-again" in asked.err
    assert shop.etl("approve", run, "--send-again", "--json").run["state"] == "completed"
    assert later.status == 0
    assert shop.once().status == 0
    assert shop.sandbox.records(STOCK)["A1|W1|L1"]["OnhandValue"] == 7


def test_a_run_without_an_outcome_can_be_discarded(shop: Shop) -> None:
    """What is not accepted stays pending: the next file brings it."""
    shop.settings(lost_answer_seconds=0.2)
    shop.sandbox.inject(Fault(kind="reset_before", path="ImportOnhands"))
    shop.sandbox.inject(Fault(kind="status", path="Job/List", times=0, status=500))
    shop.drop(stock(("A1", "5")))
    run = shop.once().run["run"]
    assert shop.etl("approve", run).status == 2
    assert shop.etl("discard", run).status == 0
    shop.drop(stock(("A1", "5")))
    assert shop.once().status == 0
    assert parts(shop) == {"A1"}
