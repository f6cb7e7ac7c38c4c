"""`etl once`, and what can be done with a run afterwards."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.shop import STOCK, STOCK_MAPPING, Shop, free_port, stock

KEYS = ("run", "feed", "file", "state", "rows", "rejected", "unchanged", "new", "changed", "gone", "requests",
        "records_sent", "values_sent", "jobs", "started", "ended")  # fmt: skip


def quantities(shop: Shop) -> dict[str, float]:
    return {key.split("|")[0]: float(data["OnhandValue"]) for key, data in shop.sandbox.records(STOCK).items()}


def test_three_days(process_shop: Shop) -> None:
    """Day one goes whole, day two only its changed field, day three nothing, and going back sends the difference."""
    one, two = stock(("00123", "5"), ("A2", "7.5")), stock(("00123", "6"), ("A2", "7.5"))
    process_shop.drop(one)
    first = process_shop.once()
    assert first.status == 0
    assert (first.run["state"], first.run["rows"], first.run["new"], first.run["requests"]) == ("completed", 2, 2, 1)
    assert quantities(process_shop) == {"00123": 5, "A2": 7.5}
    assert not list(process_shop.inbox.iterdir())
    assert {path.name for path in process_shop.archive(first.run["run"]).iterdir()} == {
        "source",
        "report.html",
        "report.json",
        "undo",
    }
    assert (process_shop.archive(first.run["run"]) / "source" / "stock.csv").read_text() == one

    process_shop.drop(two)
    second = process_shop.once()
    assert second.status == 0
    assert (second.run["changed"], second.run["unchanged"], second.run["values_sent"]) == (1, 1, 1)
    assert process_shop.imports()[-1].header["SkuOnhandFieldsThatAreSet"] == [3]

    process_shop.drop(two)
    third = process_shop.once()
    assert (third.status, third.run["unchanged"], third.run["requests"], third.run["jobs"]) == (0, 2, 0, [])
    assert len(process_shop.imports()) == 2

    process_shop.drop(one)
    assert process_shop.once().run["changed"] == 1
    assert quantities(process_shop) == {"00123": 5, "A2": 7.5}
    assert process_shop.sandbox.audit() == {"listed_but_absent": [], "unlisted_fields": {}}


def test_bad_rows_are_named_and_good_ones_go(shop: Shop) -> None:
    """Bad rows and keys that stand twice are in rejections.csv, each with its row; the rest is sent; status 4."""
    shop.drop("Art;Qty;Days\nA1;5;3\n;1;1\nA2;many;3\nA3;1;3\nA3;2;3\nA4;=1+1;3\nA5;9;3\n")
    done = shop.once()
    assert done.status == 4
    assert (done.run["rows"], done.run["rejected"], done.run["new"]) == (7, 5, 2)
    assert quantities(shop) == {"A1": 5, "A5": 9}
    found = {(line["row"], line["code"]) for line in shop.rejections(done.run["run"])}
    assert {("3", "empty"), ("4", "type"), ("7", "type")} <= found
    twice = [line for line in shop.rejections(done.run["run"]) if line["row"] in ("5", "6")]
    assert {line["row"] for line in twice} == {"5", "6"}
    assert all("5" in line["message"] and "6" in line["message"] for line in twice)
    assert all(line["hint"] for line in shop.rejections(done.run["run"]))
    assert next(line for line in shop.rejections(done.run["run"]) if line["row"] == "7")["value"] == "'=1+1"


def test_files_that_cannot_be_read(shop: Shop) -> None:
    """Empty, broken and column-less files are refused with code and hint, an older good one goes instead; status 1."""
    shop.mapping(
        'feed: book\noperation: Product/ImportOnhands\nsource: {files: "book*.xlsx", content: full}\n'
        "columns:\n  Q: {type: decimal}\n"
        "record: {PartNo: A, WarehouseCode: {value: W}, LocationCode: {value: L}, OnhandValue: Q}\n",
        "book.yaml",
    )
    os.utime(shop.drop(stock(("A1", "5")), "stock_3.csv"), (1, 1))
    files = {"stock_1.csv": "", "stock_2.csv": "Art;Days\nA1;3\n", "book.xlsx": "this is no workbook"}
    for name, content in files.items():
        shop.drop(content, name)
    done = shop.once()
    assert done.status == 1
    runs = {run["file"]: run for run in done.json["runs"]}
    assert {name: run["state"] for name, run in runs.items()} == {
        "stock_1.csv": "invalid", "stock_2.csv": "invalid", "book.xlsx": "invalid", "stock_3.csv": "completed",
    }  # fmt: skip
    assert "Qty" in runs["stock_2.csv"]["error"]
    for name, content in files.items():
        error = runs[name]["error"]
        assert error.startswith("error[")
        assert "hint:" in error
        archive = shop.archive(runs[name]["run"])
        assert (archive / "source" / name).read_text() == content
        assert json.loads((archive / "report.json").read_text())["error"] == error
    assert quantities(shop) == {"A1": 5}


def test_a_file_of_no_feed_stays(shop: Shop) -> None:
    """Upload names and dot files are not touched; a file that fits no mapping is left, and named at the end."""
    (shop.inbox / "stock.csv.part").write_text("Art")
    (shop.inbox / ".stock.csv").write_text("Art")
    shop.drop("x", "letter.txt")
    done = shop.etl("once")
    assert (done.status, done.out) == (0, "nothing to do\n")
    assert done.err.endswith("letter.txt stays in the inbox: its name fits no mapping\n")
    assert "stock.csv" not in done.err
    assert {path.name for path in shop.inbox.iterdir()} == {"stock.csv.part", ".stock.csv", "letter.txt"}
    assert shop.sandbox.requests() == []


def test_preview_is_the_plan(shop: Shop) -> None:
    """The preview sends nothing, and shows the very headers and records that are then sent; bad rows make it 4."""
    path = shop.drop("Art;Qty;Days\nA1;5;3\nA2;7.5;\nA3;x;1\n")
    shown = shop.etl("preview", str(path), "--json")
    assert shown.status == 4
    assert shop.sandbox.requests() == []
    assert path.exists()
    again = shop.etl("preview", str(path))
    assert again.status == 4
    assert "Qty" in again.out
    plan, run = shown.json, shop.once().run
    assert {name: plan[name] for name in KEYS[4:13]} == {name: run[name] for name in KEYS[4:13]}
    seen = {request.digest: request for request in shop.imports()}
    assert len(plan["plan"]) == len(seen) == plan["requests"]
    for request in plan["plan"]:
        sent = seen[request["digest"]]
        assert sent.header == request["header"]
        assert sent.items == request["records"]
    assert [first["PartNo"] for request in plan["plan"] for first in request["first"]] == ["A1", "A2"]
    assert shop.etl("preview", str(shop.drop("", "stock.csv"))).status == 1
    assert shop.etl("preview", str(path), "--feed", "stok").status == 2


def test_rerun_and_full(shop: Shop) -> None:
    """A rerun reads the kept file again and finds nothing to send; full sends all of it again."""
    shop.drop(stock(("A1", "5"), ("A2", "7")))
    run = shop.once().run["run"]
    again = shop.etl("rerun", run, "--json")
    assert (again.status, again.run["unchanged"], again.run["requests"], again.run["kind"]) == (0, 2, 0, "rerun")
    full = shop.etl("full", "stock", "--json")
    assert (full.status, full.run["records_sent"], full.run["kind"]) == (0, 2, "full")
    assert len(shop.imports()) == 2
    assert quantities(shop) == {"A1": 5, "A2": 7}
    assert shop.etl("rerun", "nothing-like-it").status == 2
    assert shop.etl("full", "nothing-like-it").status == 2


def test_status_and_show(shop: Shop) -> None:
    """Both give every documented key as JSON, and tables that fit 80 columns."""
    assert shop.etl("status").status == 0
    shop.drop(stock(("A1", "5"), ("A2", "x")), "stock_of_all_our_warehouses_2026-11-24.csv")
    run = shop.once().run
    listed = shop.etl("status", "--json").run
    shown = shop.etl("show", run["run"], "--json").json
    for found in (run, listed, shown):
        assert set(KEYS) <= set(found)
        assert (found["run"], found["rows"], found["rejected"], found["new"]) == (run["run"], 2, 1, 1)
        assert [set(job) >= {"id", "status"} for job in found["jobs"]] == [True]
        assert found["started"] < found["ended"]
    table = shop.etl("status", columns=80).out.splitlines()
    assert table[1].startswith(run["run"])
    assert max(map(len, table)) <= 80
    shop.drop("Art;Qty;Days\nA1;5;3\nA2;y;3\n")
    said = shop.etl("once", columns=80).out.splitlines()
    assert max(map(len, said[:2])) <= 80
    assert (shop.root / said[-1].strip()).name == "rejections.csv"
    assert (shop.root / said[-1].strip()).is_file()
    shown = shop.etl("show", run["run"], columns=80)
    assert shown.status == 0
    assert run["run"] in shown.out.splitlines()[0]


def test_without_settings_the_sandbox_is_used(tmp_path: Path) -> None:
    """Without etl.toml the built-in sandbox is used and named in one line, and what it accepted is remembered."""
    shop = Shop(tmp_path / "shop", None)
    shop.mapping(STOCK_MAPPING)
    shop.drop(stock(("A1", "5")))
    first = shop.once(secret=None)
    assert (first.status, first.run["new"]) == (0, 1)
    assert [line for line in first.err.splitlines() if "sandbox" in line and not line.startswith("{")] != []
    shop.drop(stock(("A1", "5")))
    assert shop.once(secret=None).run["requests"] == 0
    shop.close()


def test_check_names_every_mistake(shop: Shop) -> None:
    """Every mistake of a mapping comes with file, line and column, and the name that was probably meant; status 1."""
    assert shop.etl("check").status == 0
    text = (
        (shop.mappings / "stock.yaml")
        .read_text()
        .replace("OnhandValue", "OnhandValu")
        .replace("Days: {", "Days: {typ: x, ")
    )
    bad = shop.mapping(text, "bad.yaml")
    done = shop.etl("check")
    assert done.status == 1
    lines = text.splitlines()
    for name, meant in (("OnhandValu", "OnhandValue"), ("typ", "type")):
        at = next(number for number, line in enumerate(lines, 1) if f"{name}:" in line)
        assert f"bad.yaml:{at}:" in done.err
        assert f'did you mean "{meant}"' in done.err
    assert "ok" in done.out
    assert "stock.yaml" in done.out
    assert shop.etl("check", str(bad)).status == 1
    shop.drop(stock(("A1", "5")), "stock.csv")
    bad.write_text(text.replace("feed: stock", "feed: other").replace("stock*", "other*"))
    assert shop.once().status in (0, 1)
    assert quantities(shop) == {"A1": 5}


def test_wrong_usage(process_shop: Shop) -> None:
    """Words that do not fit end with 2 and a sentence; broken settings with 1, their line and a hint."""
    for words in (
        ("onse",),
        ("once", "--jsno"),
        ("preview",),
        ("preview", "none.csv"),
        ("show", "20"),
        ("sandbox", "--port", "x"),
    ):
        done = process_shop.etl(*words)
        assert (done.status, done.out) == (2, ""), words
        assert done.err
    toml = process_shop.root / "etl.toml"
    toml.write_text(toml.read_text().replace("settle_seconds", "setle_seconds"))
    done = process_shop.etl("once")
    assert done.status == 1
    assert 'did you mean "settle_seconds"' in done.err
    assert "etl.toml:" in done.err
    assert process_shop.etl("--config", "none.toml", "status").status == 1


def test_no_secret_and_nobody_there(shop: Shop) -> None:
    """Without a secret nothing is begun; status says so before and after."""
    shop.drop(stock(("A1", "5")))
    done = shop.etl("once", secret=None)
    assert done.status == 1
    assert "ETL_CLIENT_SECRET" in done.err
    assert (shop.inbox / "stock.csv").exists()
    shop.settings(url=f"http://127.0.0.1:{free_port()}")
    assert shop.etl("status").status == 0
