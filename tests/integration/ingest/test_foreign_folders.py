"""Folders that suppliers may write to: links in them, files that cannot be moved, and other file systems."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl import filesystem
from etl.ingest import claims, feedback, real_folder
from etl.model.runs import Run, RunState
from etl.state.files import archive
from tests.integration.ingest.test_intake import Desk
from tests.support.shop import stock


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the temporary folder."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def refuse_renames(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the system refuse to rename files of this name, as in a folder with the sticky bit."""
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == name:
            raise OSError(errno.EPERM, "Operation not permitted", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)


def test_a_file_that_cannot_be_moved_costs_itself_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits with its reason, raises an alert after three attempts, and is claimed when it can be; others go on."""
    desk.mapping(done='"{name}.ok"')
    for name in ("stock_1.csv", "stock_2.csv"):
        desk.put(name, stock(("A1", "5")))
        desk.put(f"{name}.ok")
    with desk.open() as work:
        with monkeypatch.context() as patched:
            refuse_renames(patched, "stock_1.csv")
            alerts = []
            for _ in range(3):
                assert work.intake.claim("stock_1.csv") == []
                (waiting,) = work.intake.list_waiting()
                alerts.append(waiting.needs_alert)
            assert alerts == [False, False, True]
            assert waiting.reason == "it cannot be taken out of its folder: Operation not permitted"
            assert len(work.intake.claim("stock_2.csv")) == 1
        assert desk.names == {"stock_1.csv", "stock_1.csv.ok"}
        assert len(work.intake.claim("stock_1.csv")) == 1
        assert work.intake.list_waiting() == []
    assert desk.told.count("file_not_ready") == 1


def test_a_full_disk_is_not_blamed_on_a_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state folder has no room, the command ends with that error, and the file is where it was."""
    desk.mapping()
    desk.put("stock_1.csv", stock(("A1", "5")))

    def fill(path: Path, _target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with desk.open() as work, monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fill)
        with pytest.raises(Exception, match="state-disk-full"):
            work.intake.claim("stock_1.csv")
    assert desk.names == {"stock_1.csv"}


def claimed(state: Path, name: str, content: str = "ours") -> Path:
    """A claimed file of the claim r1."""
    path = archive.claim_folder(state, "r1") / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


def test_nothing_is_put_back_through_a_link(tmp_path: Path) -> None:
    """A folder that has become a link gets nothing: the file stays claimed, and so do its companions."""
    box, state, outside = tmp_path / "inbox", tmp_path / "var", tmp_path / "outside"
    box.mkdir()
    outside.mkdir()
    path = claimed(state, "erp/p.csv")
    companion = archive.claim_folder(state, "r1") / ".done" / "erp" / "p.csv.ok"
    companion.parent.mkdir(parents=True)
    companion.touch()
    (box / "erp").symlink_to(outside)
    assert not claims.return_to_inbox(path, state, "r1", box)
    claims.restore_companions(state, "r1", box)
    assert list(outside.iterdir()) == []
    assert path.read_text() == "ours"
    assert companion.exists()
    (box / "erp").unlink()
    assert claims.return_to_inbox(path, state, "r1", box)
    assert {each.name for each in (box / "erp").iterdir()} == {"p.csv", "p.csv.ok"}


def test_nothing_is_claimed_through_a_link(tmp_path: Path) -> None:
    """A folder that has become a link since the scan is not entered, although the file behind it looks the same."""
    box, state, outside = tmp_path / "inbox", tmp_path / "var", tmp_path / "outside"
    box.mkdir()
    outside.mkdir()
    (outside / "p.csv").write_text("theirs")
    (box / "erp").symlink_to(outside)
    assert claims.claim(box, "erp/p.csv", state, "r1") is None
    assert (outside / "p.csv").read_text() == "theirs"
    assert claims.claimed_files(state) == {}


def test_feedback_does_not_follow_a_linked_folder(tmp_path: Path) -> None:
    """The list of rejected rows is not written where a link leads; without the link it is."""
    box, outside = tmp_path / "inbox", tmp_path / "outside"
    box.mkdir()
    outside.mkdir()
    (box / "erp").symlink_to(outside)
    run = Run("r1-p", "p", "x", "erp/p.csv", "", RunState.INVALID, claimed=tmp_path / "claimed" / "erp" / "p.csv")
    assert feedback.write_rejections(run, box, tmp_path, "error[x]: no") is None
    assert list(outside.iterdir()) == []
    (box / "erp").unlink()
    (box / "erp").mkdir()
    assert feedback.write_rejections(run, box, tmp_path, "error[x]: no") == box / "erp" / "p.csv.rejections.csv"


def test_a_copy_over_file_systems_follows_no_planted_link(tmp_path: Path, elsewhere: Path) -> None:
    """Somebody has put a link where the copy is written first: it is removed, and its target stays as it is."""
    state, ours = tmp_path / "var", tmp_path / "ours"
    ours.write_text("precious")
    path = claimed(state, "p.csv", "export")
    filesystem.temp_path(elsewhere / "p.csv").symlink_to(ours)
    assert claims.return_to_inbox(path, state, "r1", elsewhere)
    assert ours.read_text() == "precious"
    assert (elsewhere / "p.csv").read_text() == "export"
    assert [each.name for each in elsewhere.iterdir()] == ["p.csv"]


def test_a_second_name_by_copy_follows_no_planted_link(tmp_path: Path, elsewhere: Path) -> None:
    """The copy that stands for a hard link is written into a new file, too."""
    ours, path = tmp_path / "ours", tmp_path / "p.csv"
    ours.write_text("precious")
    path.write_text("export")
    filesystem.temp_path(elsewhere / "p.csv").symlink_to(ours)
    filesystem.hard_link(path, elsewhere / "p.csv")
    assert (ours.read_text(), (elsewhere / "p.csv").read_text()) == ("precious", "export")


def test_a_claim_over_file_systems_keeps_content_and_time(tmp_path: Path, elsewhere: Path) -> None:
    """A folder below the inbox may be a mount: the copy counts as the same file, and the original is gone."""
    (elsewhere / "acme").mkdir()
    path = elsewhere / "acme" / "p.csv"
    path.write_text("export")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    source = claims.claim(elsewhere, "acme/p.csv", tmp_path / "var", "r1")
    assert source is not None
    assert (source.path.read_text(), source.modified_at) == ("export", 1_700_000_000)
    assert not path.exists()


def test_a_copy_whose_original_stays_is_removed(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is in one place: where the folder does not let it go, the copy goes."""
    path = elsewhere / "p.csv"
    path.write_text("export")
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name == "p.csv" and "claimed" not in self.parts:
            raise OSError(errno.EPERM, "Operation not permitted", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(claims.UnmovableFileError, match="Operation not permitted"):
        claims.claim(elsewhere, "p.csv", tmp_path / "var", "r1")
    assert path.read_text() == "export"
    assert claims.claimed_files(tmp_path / "var") == {}


def test_folders_on_the_way_are_opened_one_by_one(tmp_path: Path) -> None:
    """A link among them is an error, a missing one is made only where that is asked for."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(FileNotFoundError), real_folder.open_parent(tmp_path, "real/new/a.csv"):
        pytest.fail("it was opened")
    with real_folder.open_parent(tmp_path, "real/new/a.csv", create=True) as path:
        path.write_text("x")
    assert (tmp_path / "real" / "new" / "a.csv").read_text() == "x"
    with pytest.raises(NotADirectoryError), real_folder.open_parent(tmp_path, "link/a.csv", create=True):
        pytest.fail("it was opened")
