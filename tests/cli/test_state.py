"""`etl state`: damage is found and repaired, a state is moved to another folder."""

from __future__ import annotations

import shutil
import sqlite3
import time
import zipfile
from pathlib import Path

from etl.sandbox import Fault
from etl.state.ledger.facade import Ledger
from tests.support.shop import STOCK, STOCK_MAPPING, Shop, stock, until

DAY1 = stock(("A1", "5"), ("A2", "6"), ("A3", "7"))
DAY2 = stock(("A1", "4"), ("A2", "6"), ("A3", "7"))


def repairs(shop: Shop) -> list[str]:
    """What `verify` advises."""
    done = shop.etl("state", "verify", "--json")
    assert (done.status == 1) == bool(done.json["problems"]), done.err
    return [problem["repair"] for problem in done.json["problems"]]


def repair(shop: Shop) -> str:
    """Do what `verify` advises, word for word; what the command said. Then there is nothing left to repair."""
    (words,) = set(repairs(shop))
    done = shop.etl(*words.split()[1:])
    assert done.status == 0, done.err
    assert repairs(shop) == []
    return done.out


def only(shop: Shop, pattern: str) -> Path:
    (found,) = shop.state.glob(pattern)
    return found


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def hold(shop: Shop) -> str:
    """A held run: half of the rows are bad."""
    shop.drop("Art;Qty;Days\n" + "".join(f"B{n};{'x' if n % 2 else n};1\n" for n in range(40)))
    done = shop.once()
    assert done.status == 6
    return str(done.run["run"])


def test_a_whole_state_has_no_problems(shop: Shop) -> None:
    """Before the first run, after runs, and while a run is held."""
    assert repairs(shop) == []
    shop.drop(DAY1)
    shop.once()
    hold(shop)
    assert repairs(shop) == []


def test_export_and_import_leave_nothing_to_send(shop: Shop, tmp_path: Path) -> None:
    """In an empty folder that was filled from an export the same file sends nothing, and a shrunk one is held."""
    rows = [(f"A{n}", "5") for n in range(60)]
    shop.drop(stock(*rows))
    shop.once()
    done = shop.etl("state", "export", "all.zip")
    assert (done.status, done.out.splitlines()[0]) == (0, "stock: 60 records")
    assert (shop.root / "all.zip").stat().st_mode & 0o777 == 0o600
    shutil.move(shop.state, tmp_path / "old")
    assert shop.etl("state", "import", "all.zip").status == 0
    shop.drop(stock(*rows))
    again = shop.once()
    assert (again.status, again.run["unchanged"], again.run["requests"]) == (0, 60, 0)
    shop.drop(stock(*rows[:20]))
    assert shop.once().status == 6
    assert shop.etl("state", "import", "all.zip").err.startswith("error[state-not-empty]")


def test_an_import_that_fails_takes_in_nothing(shop: Shop, tmp_path: Path) -> None:
    """Of two feeds the second cannot be written: the first does not count either, and the import can be repeated."""
    shop.mapping(STOCK_MAPPING.replace("feed: stock", "feed: zstock").replace('"stock*.csv"', '"z*.csv"'), "z.yaml")
    shop.drop(stock(("A1", "5")))
    shop.drop(stock(("B1", "5")), "z.csv")
    shop.once()
    assert shop.etl("state", "export", "all.zip").status == 0
    shutil.move(shop.state, tmp_path / "old")
    (shop.state / "accepted").mkdir(parents=True)
    (shop.state / "accepted" / "zstock").touch()  # where a folder has to be made
    assert shop.etl("state", "import", "all.zip").status == 1
    with Ledger.open_read_only(shop.state) as ledger:
        assert ledger.feeds.list_names() == []
    (shop.state / "accepted" / "zstock").unlink()
    assert shop.etl("state", "import", "all.zip").status == 0
    shop.drop(stock(("A1", "5")))
    shop.drop(stock(("B1", "5")), "z.csv")
    assert [run["unchanged"] for run in shop.once().json["runs"]] == [1, 1]


def test_an_export_that_was_tampered_with_is_refused(shop: Shop, tmp_path: Path) -> None:
    """Other bytes, another catalogue, a name with a path in it: nothing is written."""
    shop.drop(DAY1)
    shop.once()
    shop.etl("state", "export", "all.zip")
    shutil.move(shop.state, tmp_path / "old")
    good = shop.root / "all.zip"
    parts = {}
    with zipfile.ZipFile(good) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def refused(**changed: bytes) -> str:
        with zipfile.ZipFile(shop.root / "bad.zip", "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, changed.get(name.partition(".")[0].replace("-", "_"), data))
        done = shop.etl("state", "import", "bad.zip")
        assert done.status == 1
        assert not list(shop.state.glob("accepted/*"))
        return done.err

    facts = parts["contents.json"]
    assert "not as it was written" in refused(**{"0001_accepted": parts["0001-accepted.parquet"] + b"x"})
    assert "no name of a feed" in refused(contents=facts.replace(b'"stock": {', b'"../x": {'))
    assert "[state-other-target]" in refused(contents=facts.replace(b"application 7", b"application 8"))
    assert "format 9" in refused(contents=facts.replace(b'"format": 1', b'"format": 9'))
    good.write_bytes(good.read_bytes()[:100])
    assert shop.etl("state", "import", "all.zip").err.startswith("error[export-unusable]")


def test_a_damaged_base_is_not_believed(shop: Shop) -> None:
    """A flipped bit in what Norce has stops the feed; forgetting it sends the next file whole."""
    shop.drop(DAY1)
    shop.once()
    flip(only(shop, "accepted/stock/*.parquet"))
    shop.drop(DAY2)
    stopped = shop.once()
    assert stopped.status == 1
    assert "error[state-file-damaged]" in stopped.err
    assert shop.etl("state", "rebuild", "stock").err.startswith("error[accepted-unreadable]")
    assert "sent again" in repair(shop)
    done = shop.once()
    assert (done.status, done.run["new"]) == (0, 3)


def test_what_is_still_pending_is_not_lost_in_silence(shop: Shop) -> None:
    """A feed of changes remembers what Norce did not take: a lost or damaged memory stops it, and is not nothing."""
    shop.mapping(STOCK_MAPPING.replace("content: full", "content: changes"))
    for harm in (Path.unlink, flip):
        shop.sandbox.inject(Fault(kind="refuse", keys=("A2",), message="not today", times=0))
        shop.drop(DAY1)
        assert shop.once().status == 5
        shop.sandbox.faults.clear()
        harm(only(shop, "accepted/stock/*.pending.parquet"))
        shop.drop(stock(("A1", "9")))
        stopped = shop.once()
        assert (stopped.status, "error[state-file-damaged]" in stopped.err) == (1, True)
        assert "sent again" in repair(shop)
        assert shop.once().status == 0


def test_a_damaged_plan_is_made_anew(shop: Shop) -> None:
    """A held run whose payload, plan or sent records are damaged goes back to its file, and is held again."""
    for pattern in ("runs/*/00001.json", "runs/*/plan.json", "runs/*/sent.parquet", "runs/*/rejections.csv"):
        run = hold(shop)
        flip(only(shop, pattern))
        assert "plans it again" in repair(shop)
        assert shop.once().status == 6
        assert shop.etl("discard", run).status == 0
    assert shop.imports() == []


def test_a_damaged_request_of_a_run_under_way_is_given_up(shop: Shop) -> None:
    """What had left is followed to its end, what was damaged is not sent, and the next file brings it."""
    shop.settings(max_records=1, unfinished=1)
    shop.sandbox.inject(Fault(kind="job_slow", delay=30.0))
    shop.drop(DAY1)
    process = shop.start("once")
    until(lambda: len(shop.imports()) == 1 and shop.sandbox.jobs())
    process.kill()
    shop.finish(process)
    flip(only(shop, "runs/*/00003.json"))
    assert "1 damaged requests have failed" in repair(shop)
    shop.sandbox.finish_jobs()
    done = shop.once()
    assert done.status == 5
    shop.drop(DAY1)
    again = shop.once()
    assert (again.status, again.run["records_sent"], again.run["unchanged"]) == (0, 1, 2)


def test_a_damaged_ledger_begins_anew(shop: Shop, tmp_path: Path) -> None:
    """A ledger that cannot be believed is set aside with everything else; waiting files are taken up again."""
    shop.drop(DAY1)
    shop.once()
    hold(shop)
    flip(shop.state / "ledger.sqlite")
    refused = shop.etl("once")
    assert (refused.status, "etl state verify" in refused.err) == (1, True)
    (words,) = repairs(shop)
    assert words.startswith("etl state rebuild --all")
    done = shop.etl("state", "rebuild", "--all")
    assert (done.status, "back in the inbox" in done.out) == (0, True)
    assert repairs(shop) == []
    assert list(shop.state.glob("backup-*/archive/*/*/source/stock.csv"))
    (shop.inbox / "stock.csv").unlink()
    shop.drop(DAY1)
    assert shop.once().run["new"] == 3


def test_a_ledger_that_somebody_has_changed_can_be_taken(shop: Shop) -> None:
    """`--trust-ledger` seals what SQLite finds whole, and nothing else."""
    shop.drop(DAY1)
    shop.once()
    with sqlite3.connect(shop.state / "ledger.sqlite") as db:
        db.execute("update runs set file = 'other.csv'")
    db.close()
    assert shop.once().status == 1
    assert shop.etl("state", "rebuild", "--trust-ledger").status == 0
    shop.drop(DAY1)
    assert shop.once().run["unchanged"] == 3
    (shop.state / "ledger.sqlite").write_bytes(b"no ledger" * 1000)
    assert shop.etl("state", "rebuild", "--trust-ledger").err.startswith("error[state-corrupt]")


def test_an_older_ledger_beside_newer_folders_is_refused(shop: Shop, tmp_path: Path) -> None:
    """A ledger from a backup does not know what has happened since, and says so before anything is sent."""
    shop.drop(DAY1)
    shop.once()
    for name in ("ledger.sqlite", "ledger.seal"):
        shutil.copy(shop.state / name, tmp_path / name)
    shop.drop(DAY2)
    shop.once()
    for name in ("ledger.sqlite", "ledger.seal"):
        shutil.copy(tmp_path / name, shop.state / name)
    sent = len(shop.imports())
    shop.drop(DAY1)
    done = shop.once()
    assert (done.status, "error[state-behind]" in done.err) == (1, True)
    assert len(shop.imports()) == sent
    assert "etl state rebuild --all" in repairs(shop)


def test_open_folders_are_said(shop: Shop) -> None:
    """Files that other users may read are a problem with a command."""
    shop.drop(DAY1)
    shop.once()
    (shop.state / "archive").chmod(0o755)
    (words,) = repairs(shop)
    assert words.startswith("chmod -R go=")


def test_commands_want_a_state_to_work_on(shop: Shop) -> None:
    """Without a state, with a name that nobody knows, or with words that do not fit: an error with a hint."""
    assert shop.etl("state", "export", "x.zip").err.startswith("error[state-empty]")
    assert shop.etl("state", "rebuild", "--all", "--trust-ledger").err.startswith("error[rebuild-mixed]")
    shop.drop(DAY1)
    run = shop.once().run["run"]
    assert shop.etl("state", "rebuild", "nobody").err.startswith("error[feed-or-run-unknown]")
    assert shop.etl("state", "rebuild", run).err.startswith("error[run-ended]")
    assert shop.etl("state", "export", "x.zip", "--feed", "nobody").status == 2
    assert shop.etl("state", "rebuild").out == "stock: 3 records, all readable\n"


def test_an_empty_state_keeps_the_permits_of_the_old_one(shop: Shop) -> None:
    """The server's window knows of no repair: what was sent within the last minute still counts."""
    shop.settings(requests=4, per_seconds=60)
    shop.drop(stock(("A1", "5")))
    assert shop.once().status == 0
    with Ledger.open_read_only(shop.state) as ledger, ledger.database.read() as db:
        permits = [tuple(row) for row in db.execute("SELECT * FROM permits ORDER BY id")]
    assert permits
    assert shop.etl("state", "rebuild", "--all").status == 0
    with Ledger.open_read_only(shop.state) as ledger, ledger.database.read() as db:
        assert [tuple(row) for row in db.execute("SELECT * FROM permits ORDER BY id")] == permits


def test_permits_that_cannot_be_read_cost_a_window(shop: Shop) -> None:
    """From a ledger that is no database nobody can tell what was sent: nothing is sent for a minute."""
    shop.drop(stock(("A1", "5")))
    assert shop.once().status == 0
    (shop.state / "ledger.sqlite").write_bytes(b"nothing that SQLite knows" * 1000)
    assert shop.etl("state", "rebuild", "--all").status == 0
    with Ledger.open_read_only(shop.state) as ledger, ledger.database.read() as db:
        assert db.scalar("SELECT seconds FROM pauses WHERE lane = 'connect'") == 60


def test_what_is_pending_stays_pending_while_the_mapping_is_broken(shop: Shop) -> None:
    """That a run is of a feed of changes is a fact of the run: a mistake in the mapping at one start loses nothing."""
    mapping = (shop.mappings / "stock.yaml").read_text(encoding="utf-8")
    changes = mapping.replace("content: full", "content: changes").replace("gone: deactivate\n", "")
    shop.mapping(changes)
    shop.mapping(changes.replace("feed: stock", "feed: other").replace("stock*", "other*"), "other.yaml")
    shop.sandbox.inject(Fault(kind="refuse", path="ImportOnhands", keys=("A2",)))
    shop.sandbox.inject(Fault(kind="job_slow", path="ImportOnhands", delay=3.0))
    shop.drop(stock(("A1", "5"), ("A2", "5")))
    assert shop.etl("once", "--wait", "0.5").status == 5
    shop.mapping(changes + "\ngonee: x\n")
    time.sleep(3)
    shop.once()
    shop.mapping(changes)
    shop.once()
    shop.drop(stock(("A3", "5")))
    shop.once()
    assert {key.split("|")[0] for key in shop.sandbox.records(STOCK)} == {"A1", "A2", "A3"}
