"""The way in: what is complete, and what happens when an upload goes on in a file that was taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from etl import app, shutdown
from etl.app import Session
from etl.config.settings import PathSettings, Settings
from etl.errors import StateError
from etl.ingest import intake, scan
from etl.mapping import load
from etl.model.runs import Run, RunState
from etl.state.files import archive
from etl.state.ledger.alerts import AlertStore
from tests.support.shop import STOCK_MAPPING, stock, until


class Desk:
    """A session with one feed, and its inbox."""

    def __init__(self, root: Path) -> None:
        self.paths = PathSettings(inbox=root / "inbox", mappings=root / "mappings", state=root / "var")
        self.paths.inbox.mkdir()
        self.paths.mappings.mkdir()
        self.told: list[str] = []
        self.when: dict[str, Callable[[], object]] = {}  #: what happens beside an event

    def mapping(self, **source: str) -> None:
        extra = "".join(f"\n  {key}: {value}" for key, value in source.items())
        (self.paths.mappings / "stock.yaml").write_text(STOCK_MAPPING.replace("content: full", "content: full" + extra))

    def put(self, name: str, content: str = "") -> Path:
        path = self.paths.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def open(self) -> AbstractContextManager[Session]:
        good, bad = load.load_mappings(self.paths.mappings)
        assert not bad
        return app.open_session(Settings(paths=self.paths), good, app.SessionOptions(emit=self._tell))

    def _tell(self, event: str, /, **_: object) -> None:
        self.told.append(event)
        self.when.get(event, lambda: None)()

    @property
    def names(self) -> set[str]:
        return set(scan.scan(self.paths.inbox))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def finished(work: Session, run: Run) -> Run:
    work.coordinator.add([run])
    until(lambda: not work.coordinator.step() and not work.coordinator.is_busy)
    ended = work.ledger.runs.find(run.id)
    assert ended is not None
    return ended


def test_done_files_are_waited_for_and_used_up(desk: Desk) -> None:
    """No done file, no claim; it goes with its export, so the next export of that name waits for the next one."""
    desk.mapping(done='"{name}.ok"')
    with desk.open() as work:
        desk.put("stock.csv", stock(("A1", "5")))
        assert work.intake.claim("stock.csv") == []
        assert "stock.csv.ok is not there" in work.intake.not_ready["stock.csv"]
        desk.put("stock.csv.ok")
        assert work.intake.rank("stock.csv.ok") is None
        (run,) = work.intake.claim("stock.csv")
        assert desk.names == set()
        assert work.intake.not_ready == {}
        desk.put("stock.csv", stock(("A1", "6")))
        assert work.intake.claim("stock.csv") == []
        done = finished(work, run)
        assert done.archive is not None
        assert (done.archive / "source" / "stock.csv").exists()
        assert (done.archive / "companions" / "stock.csv.ok").exists()
    assert desk.told.count("file_not_ready") == 2


def test_a_file_of_no_feed_is_named_as_long_as_it_is_there(desk: Desk) -> None:
    """It is listed with its reason, since its arrival, so that an alert tells of it; not when it has gone."""
    desk.mapping()
    with desk.open() as work:
        path = desk.put("LETTER.TXT")
        work.intake.leave("LETTER.TXT", "its name fits no mapping")
        (waiting,) = work.intake.list_waiting()
        assert (waiting.name, waiting.reason, waiting.needs_alert) == ("LETTER.TXT", "its name fits no mapping", False)
        path.unlink()
        assert work.intake.list_waiting() == []
    assert desk.told == ["file_unclaimed"]


def test_an_inbox_that_is_away_for_a_while_has_no_files(tmp_path: Path) -> None:
    """A service looks again and finds what has come; who does not wait gets the error."""
    stop = shutdown.ShutdownEvent()
    with pytest.raises(StateError, match="inbox-unreadable"):
        next(iter(scan.watch(tmp_path / "inbox", 0.01, 0.02, stop)))
    found: list[str] = []
    for number, names in enumerate(scan.watch(tmp_path / "inbox", 0.01, 0.02, stop, is_patient=True)):
        if number == 2:
            (tmp_path / "inbox").mkdir()
            (tmp_path / "inbox" / "a.csv").touch()
        found += names
        if found:
            stop.set()
    assert found == ["a.csv"]


def test_a_claimed_file_that_cannot_be_archived_costs_itself_only(desk: Desk) -> None:
    """A start finds it with its ended run: it stays, an alert says so, other files go on, a later start archives it."""
    desk.mapping()
    with desk.open() as work:
        desk.put("stock_1.csv", stock(("A1", "5")))
        (run,) = work.intake.claim("stock_1.csv")
        folder = work.settings.paths.state / "archive" / "2026-01-01" / run.id
        work.ledger.close_run(run.id, RunState.INVALID, archive=folder)
    folder.mkdir(parents=True)
    (folder / "source").touch()  # where a folder has to be made
    with desk.open() as work:
        (alert,) = AlertStore(work.ledger.database).list_alerts()
        assert alert.name == "claimed:stock_1.csv"
        desk.put("stock_2.csv", stock(("A1", "6")))
        (other,) = work.intake.claim("stock_2.csv")
        assert finished(work, other).state is RunState.COMPLETED
    (folder / "source").unlink()
    with desk.open() as work:
        assert AlertStore(work.ledger.database).list_alerts() == []
    assert (folder / "source" / "stock_1.csv").exists()


def test_a_claimed_run_follows_its_mapping_to_another_import(desk: Desk) -> None:
    """The mapping is edited before anything of the feed was sent: the run is one of the new import."""
    desk.mapping()
    with desk.open() as work:
        desk.put("stock.csv", stock(("A1", "5")))
        (run,) = work.intake.claim("stock.csv")
    (desk.paths.mappings / "stock.yaml").write_text(
        STOCK_MAPPING.partition("record:")[0].replace("Product/ImportOnhands", "Product/ImportSkuPriceLists")
        + "record: {PartNo: Art, PriceListCode: {value: B2C}, CurrencyCode: {value: SEK}, PriceSale: Qty}\n"
    )
    with desk.open() as work:
        done = finished(work, run)
    assert (done.operation, done.state) == ("Product/ImportSkuPriceLists", RunState.COMPLETED)


def test_a_manifest_has_to_list_the_export_with_its_checksum(desk: Desk) -> None:
    """A file that is not listed, or not yet as listed, waits; the manifest goes with the last of its files."""
    desk.mapping(manifest='"*.sha256"')
    texts = {"stock_1.csv": stock(("A1", "5")), "stock_2.csv": stock(("A2", "5"))}
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()} *{name}\n" for name, text in texts.items()]
    with desk.open() as work:
        claim = work.intake.claim
        desk.put("stock_1.csv", texts["stock_1.csv"])
        assert claim("stock_1.csv") == []
        desk.put("day.sha256", "".join(lines)[:-40])
        assert claim("stock_1.csv") == []
        assert "line 2" in work.intake.not_ready["stock_1.csv"]
        desk.put("day.sha256", "".join(lines))
        desk.put("stock_2.csv", texts["stock_2.csv"][:-3])
        assert claim("stock_2.csv") == []
        assert "another sha256" in work.intake.not_ready["stock_2.csv"]
        assert len(claim("stock_1.csv")) == 1
        assert desk.names == {"day.sha256", "stock_2.csv"}
        desk.put("stock_2.csv", texts["stock_2.csv"])
        assert len(claim("stock_2.csv")) == 1
        assert desk.names == set()


@pytest.mark.parametrize("moment", ["before the plan", "after the plan"])
def test_a_file_that_is_written_to_after_its_claim_goes_back(desk: Desk, moment: str) -> None:
    """Before the plan counts nothing is sent; in any case the file settles and is worked anew."""
    desk.mapping()
    with desk.open() as work:
        claimed = work.intake.claim
        desk.put("stock.csv", stock(("A1", "5")))
        (run,) = claimed("stock.csv")
        file = run.claimed
        assert file is not None
        more = stock(("A1", "5"), ("A2", "6"))
        if moment == "after the plan":
            desk.when["plan_made"] = lambda: file.write_text(more)
        else:
            file.write_text(more)
        done = finished(work, run)
        desk.when.clear()
        assert done.state is (RunState.INVALID if moment == "before the plan" else RunState.COMPLETED)
        assert ("file-changed" in (done.error or "")) == (moment == "before the plan")
        assert desk.names == {"stock.csv"}
        (again,) = claimed("stock.csv")
        assert finished(work, again).counts.rows == 2
        assert desk.names == set()
    assert "file_put_back" in desk.told


def test_a_claim_without_a_run_whose_upload_goes_on_is_undone(desk: Desk) -> None:
    """After a crash the writer is still there: the file goes back to where it was dropped."""
    desk.mapping()
    source = desk.put("stock.csv", stock(("A1", "5")))
    with source.open("a") as writer:
        target = archive.claim_folder(desk.paths.state / "sandbox", "20260101-000000-aaaa") / "stock.csv"
        target.parent.mkdir(parents=True)
        source.rename(target)
        with desk.open() as work:
            work.lifecycle.resume()
            assert work.ledger.runs.list_open() == ()
            assert desk.names == {"stock.csv"}
            writer.write("A2;6;3\n")
            writer.flush()
    with desk.open() as work:
        (run,) = work.intake.claim("stock.csv")
        assert finished(work, run).counts.rows == 2


def test_no_two_runs_of_a_second_are_called_alike() -> None:
    """Thousands of files claimed at once have names of their own each."""
    assert len({intake.new_run_prefix() for _ in range(20_000)}) == 20_000
