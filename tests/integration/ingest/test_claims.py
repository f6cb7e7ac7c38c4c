"""The inbox on a real folder."""

from __future__ import annotations

import errno
import os
from datetime import date
from pathlib import Path

import pytest

from etl import filesystem, open_writers
from etl.errors import StateError
from etl.ingest import claims, scan
from etl.shutdown import ShutdownEvent
from etl.state.files import archive


def test_only_regular_finished_files_are_seen(tmp_path: Path) -> None:
    """Folders are searched; links, pipes, uploads and dot files are passed over."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "sub" / "b.csv").write_text("22")
    (tmp_path / "c.csv.part").write_text("1")
    (tmp_path / ".d.csv").write_text("1")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    (tmp_path / "folder-link").symlink_to(tmp_path / "sub")
    os.mkfifo(tmp_path / "pipe.csv")
    looks = scan.scan(tmp_path)
    assert {name: look.size for name, look in looks.items()} == {"a.csv": 1, "sub/b.csv": 2}


def test_a_missing_inbox_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """Not an empty inbox: somebody has to know."""
    with pytest.raises(StateError, match="cannot be looked into"):
        scan.scan(tmp_path / "gone")


def test_claim_and_archive_are_moves(tmp_path: Path) -> None:
    """The file is in exactly one place, keeps its relative name while open, and can be found after a crash."""
    box, state = tmp_path / "inbox", tmp_path / "var"
    (box / "erp").mkdir(parents=True)
    (box / "erp" / "p.csv").write_text("x;y")
    file = claims.claim(box, "erp/p.csv", state, "r1")
    assert file is not None
    assert (file.name, file.size, len(file.digest)) == ("erp/p.csv", 3, 64)
    assert scan.scan(box) == {}
    assert claims.claimed_files(state) == {"r1": file.path}
    assert file.path.relative_to(archive.claim_folder(state, "r1")).as_posix() == "erp/p.csv"
    folder = archive.archive_folder(state, "r1", date(2026, 3, 1))
    kept = claims.archive_file(file.path, folder, state)
    assert kept == state / "archive" / "2026-03-01" / "r1" / "source" / "p.csv"
    assert claims.archive_file(file.path, folder, state) == kept
    assert claims.claimed_files(state) == {}
    assert not archive.claim_folder(state, "r1").exists()


def settled(path: Path) -> scan.FileStat:
    return scan.to_file_stat(path.stat())


def test_a_file_that_changed_since_it_was_stable_is_not_claimed(tmp_path: Path) -> None:
    """It stays where it is and has to become stable again."""
    box = tmp_path / "inbox"
    box.mkdir()
    path = box / "a.csv"
    path.write_text("half")
    before = settled(path)
    path.write_text("half and more")
    assert claims.claim(box, "a.csv", tmp_path / "var", "r1", before) is None
    assert scan.scan(box).keys() == {"a.csv"}
    assert claims.claim(box, "a.csv", tmp_path / "var", "r1", settled(path)) is not None


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_file_exchanged_before_the_claim_goes_back(tmp_path: Path, what: str) -> None:
    """What is put in a stable file's place, or in the place of a folder on its way, is neither read nor kept."""
    box, state, outside = tmp_path / "inbox", tmp_path / "var", tmp_path / "outside"
    (box / "erp").mkdir(parents=True)
    outside.mkdir()
    (outside / "p.csv").write_text("abc")
    path = box / "erp" / "p.csv"
    path.write_text("abc")
    settled = scan.scan(box)["erp/p.csv"]
    os.utime(outside / "p.csv", ns=(settled.modified_ns, settled.modified_ns))
    path.unlink()
    if what == "link":
        path.symlink_to(outside / "p.csv")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        (box / "erp").rmdir()
        (box / "erp").symlink_to(outside)
    assert claims.claim(box, "erp/p.csv", state, "r1", settled) is None
    assert claims.claimed_files(state) == {}
    assert (outside / "p.csv").read_text() == "abc"
    assert path.is_symlink() or path.exists() or what == "folder"


def test_what_was_moved_has_to_be_what_was_looked_at(tmp_path: Path) -> None:
    """Within a file system the inode tells whether it is the same file; a copy from another one has another inode."""
    moved = tmp_path / "a.csv"
    moved.write_text("abc")
    now = moved.stat()

    def before(**changes: int) -> os.stat_result:
        seen = {"st_ino": now.st_ino, "st_dev": now.st_dev, "st_size": now.st_size} | changes
        fields = [now.st_mode, seen["st_ino"], seen["st_dev"], 1, 0, 0, seen["st_size"], *now[7:10]]
        return os.stat_result(fields, {"st_mtime_ns": now.st_mtime_ns})

    assert claims._is_same_file(before(), moved)
    assert not claims._is_same_file(before(st_ino=now.st_ino + 1), moved)
    assert claims._is_same_file(before(st_ino=now.st_ino + 1, st_dev=now.st_dev + 1), moved)
    assert not claims._is_same_file(before(st_size=4, st_dev=now.st_dev + 1), moved)


def test_a_file_that_somebody_writes_to_is_not_claimed(tmp_path: Path) -> None:
    """However long it has been still: the writer has it open."""
    box = tmp_path / "inbox"
    box.mkdir()
    with (box / "a.csv").open("w") as writer:
        writer.write("half")
        writer.flush()
        assert open_writers.has_writer(box / "a.csv")
        assert claims.claim(box, "a.csv", tmp_path / "var", "r1", settled(box / "a.csv")) is None
        assert scan.scan(box).keys() == {"a.csv"}
    assert open_writers.has_writer(box / "a.csv") is False
    assert claims.claim(box, "a.csv", tmp_path / "var", "r1", settled(box / "a.csv")) is not None
    assert not (tmp_path / "var" / "claimed" / "r2").exists()


def test_companions_come_along_and_are_filed_away(tmp_path: Path) -> None:
    """A done file is claimed with its export, is no export itself, and ends beside it in the archive."""
    box, state = tmp_path / "inbox", tmp_path / "var"
    (box / "erp").mkdir(parents=True)
    (box / "erp" / "a.csv").write_text("x")
    (box / "erp" / "a.csv.ok").touch()
    file = claims.claim(box, "erp/a.csv", state, "r1", companions=["erp/a.csv.ok"])
    assert file is not None
    assert scan.scan(box) == {}
    assert claims.claimed_files(state) == {"r1": file.path}
    assert claims.incomplete_claims(state) == []
    folder = archive.archive_folder(state, "r1", date(2026, 3, 1))
    claims.archive_file(file.path, folder, state)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "source/a.csv",
        "companions/erp/a.csv.ok",
    }
    assert not archive.claim_folder(state, "r1").exists()


def test_an_interrupted_claim_gives_its_companions_back(tmp_path: Path) -> None:
    """A crash between the two moves: the done file stands beside its export again."""
    box, state = tmp_path / "inbox", tmp_path / "var"
    box.mkdir()
    (box / "a.csv").write_text("x")
    (box / "a.csv.ok").write_text("done")
    assert claims.claim(box, "b.csv", state, "r1", companions=["a.csv.ok"]) is None
    assert (box / "a.csv.ok").exists()
    waiting = archive.claim_folder(state, "r2") / ".done" / "a.csv.ok"
    filesystem.move(box / "a.csv.ok", waiting)
    assert claims.incomplete_claims(state) == ["r2"]
    claims.restore_companions(state, "r2", box)
    assert (box / "a.csv.ok").read_text() == "done"
    assert claims.incomplete_claims(state) == []
    assert list((state / "claimed").iterdir()) == []


def test_a_file_goes_back_unless_a_newer_one_stands_there(tmp_path: Path) -> None:
    """Nothing is overwritten: the newer file wins its place."""
    box, state = tmp_path / "inbox", tmp_path / "var"
    box.mkdir()
    (box / "a.csv").write_text("old")
    file = claims.claim(box, "a.csv", state, "r1")
    assert file is not None
    (box / "a.csv").write_text("new")
    assert not claims.return_to_inbox(file.path, state, "r1", box)
    (box / "a.csv").unlink()
    assert claims.return_to_inbox(file.path, state, "r1", box)
    assert (box / "a.csv").read_text() == "old"
    assert claims.claimed_files(state) == {}


def test_a_file_taken_by_somebody_else_is_no_error(tmp_path: Path) -> None:
    """Two processes may see the same file; one gets it, the other nothing."""
    box = tmp_path / "inbox"
    box.mkdir()
    assert claims.claim(box, "a.csv", tmp_path / "var", "r1") is None
    assert claims.claimed_files(tmp_path / "var") == {}


def test_a_file_with_two_names_keeps_the_one_it_is_moved_to(tmp_path: Path) -> None:
    """A rename onto another name of the same file does nothing by itself, and would leave both."""
    claimed, filed = tmp_path / "claimed.csv", tmp_path / "archive" / "filed.csv"
    claimed.write_text("a\n", encoding="utf-8")
    filed.parent.mkdir()
    filesystem.hard_link(claimed, filed)
    filesystem.move(claimed, filed)
    assert not claimed.exists()
    assert filed.read_text(encoding="utf-8") == "a\n"


def test_moves_over_file_systems_are_copied_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a rename cannot cross, the copy is complete before the original goes."""
    source, target = tmp_path / "a", tmp_path / "b" / "a"
    source.write_text("content")

    def refuse(_self: Path, _target: Path) -> Path:
        raise OSError(errno.EXDEV, "cross-device")

    monkeypatch.setattr(Path, "rename", refuse)
    filesystem.move(source, target)
    assert target.read_text() == "content"
    assert not source.exists()
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_watch_finds_files_from_before_and_during(tmp_path: Path) -> None:
    """Files present at the start and files that arrive while watching are both yielded when stable."""
    (tmp_path / "old.csv").write_text("1")
    stop, seen = ShutdownEvent(), []
    for names in scan.watch(tmp_path, 0.03, 5.0, stop):
        for name in sorted(names):
            seen.append(name)
            (tmp_path / name).unlink()
            if name == "old.csv":
                (tmp_path / "new.csv").write_text("2")
            else:
                stop.set()
    assert seen == ["old.csv", "new.csv"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, neither an incomplete file nor a temporary one stays."""

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    filesystem.write_atomically(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="full"):
        filesystem.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_of_ours_goes_along_with_a_claim(tmp_path: Path) -> None:
    """It is written whole, read back, counts as no export, and is archived as a companion."""
    state = tmp_path / "var"
    file = archive.claim_folder(state, "r1") / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    claims.attach(state, "r1", "keys.json", b"[1]")
    assert claims.read_attachment(state, "r1", "keys.json") == b"[1]"
    assert claims.claimed_files(state) == {"r1": file}
    with pytest.raises(StateError) as caught:
        claims.read_attachment(state, "r2", "keys.json")
    assert caught.value.where == str(archive.claim_folder(state, "r2") / ".done" / "keys.json")
    claims.archive_file(file, tmp_path / "kept", state)
    assert (tmp_path / "kept" / "companions" / "keys.json").read_bytes() == b"[1]"


def test_a_claimed_file_that_is_gone_is_an_error_with_its_place(tmp_path: Path) -> None:
    """Reading and archiving name the file and what was to happen with it."""
    path = archive.claim_folder(tmp_path, "r1") / "a.csv"
    with pytest.raises(StateError) as caught:
        claims.hash_file(path)
    assert (caught.value.code, caught.value.where) == ("file-not-moved", str(path))
    assert "cannot be read: No such file" in caught.value.message
    with pytest.raises(StateError) as caught:
        claims.archive_file(path, tmp_path / "kept", tmp_path)
    assert "cannot be filed away: it is gone" in caught.value.message


def test_a_claimed_file_is_described_by_its_content(tmp_path: Path) -> None:
    """Name below the inbox, size, time and digest; other users can no longer read it."""
    box = tmp_path / "inbox"
    (box / "erp").mkdir(parents=True)
    (box / "erp" / "a.csv").write_bytes(b"abc")
    (box / "erp" / "a.csv").chmod(0o644)
    os.utime(box / "erp" / "a.csv", (1_700_000_000, 1_700_000_000))
    source = claims.claim(box, "erp/a.csv", tmp_path / "var", "r1")
    assert source is not None
    assert (source.name, source.size, source.modified_at) == ("erp/a.csv", 3, 1_700_000_000)
    assert source.digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert source.path == archive.claim_folder(tmp_path / "var", "r1") / "erp" / "a.csv"
    assert source.path.stat().st_mode & 0o777 == 0o600
    assert (box / "erp").is_dir()
