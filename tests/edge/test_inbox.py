"""The inbox on a real folder."""

from __future__ import annotations

import errno
import os
import threading
from datetime import date
from pathlib import Path

import pytest

from etl import durable, inbox
from etl.errors import StateError


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
    looks = inbox.scan(tmp_path)
    assert {name: look.size for name, look in looks.items()} == {"a.csv": 1, "sub/b.csv": 2}


def test_a_missing_inbox_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """Not an empty inbox: somebody has to know."""
    with pytest.raises(StateError, match="cannot be looked into"):
        inbox.scan(tmp_path / "gone")


def test_claim_and_archive_are_moves(tmp_path: Path) -> None:
    """The file is in exactly one place, keeps its relative name while open, and can be found after a crash."""
    box, state = tmp_path / "inbox", tmp_path / "var"
    (box / "erp").mkdir(parents=True)
    (box / "erp" / "p.csv").write_text("x;y")
    file = inbox.claim(box, "erp/p.csv", state, "r1")
    assert file is not None
    assert (file.name, file.size, len(file.digest)) == ("erp/p.csv", 3, 64)
    assert inbox.scan(box) == {}
    assert inbox.claimed_files(state) == {"r1": file.path}
    assert file.path.relative_to(inbox.claim_folder(state, "r1")).as_posix() == "erp/p.csv"
    folder = inbox.archive_folder(state, "r1", date(2026, 3, 1))
    kept = inbox.archive(file.path, folder)
    assert kept == state / "archive" / "2026-03-01" / "r1" / "p.csv"
    assert inbox.archive(file.path, folder) == kept
    assert inbox.claimed_files(state) == {}
    assert not inbox.claim_folder(state, "r1").exists()


def test_a_file_taken_by_somebody_else_is_no_error(tmp_path: Path) -> None:
    """Two processes may see the same file; one gets it, the other nothing."""
    box = tmp_path / "inbox"
    box.mkdir()
    assert inbox.claim(box, "a.csv", tmp_path / "var", "r1") is None
    assert inbox.claimed_files(tmp_path / "var") == {}


def test_moves_over_file_systems_are_copied_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a rename cannot cross, the copy is complete before the original goes."""
    source, target = tmp_path / "a", tmp_path / "b" / "a"
    source.write_text("content")

    def refuse(_self: Path, _target: Path) -> Path:
        raise OSError(errno.EXDEV, "cross-device")

    monkeypatch.setattr(Path, "rename", refuse)
    durable.move(source, target)
    assert target.read_text() == "content"
    assert not source.exists()
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_watch_finds_files_from_before_and_during(tmp_path: Path) -> None:
    """Files present at the start and files that arrive while watching are both yielded when settled."""
    (tmp_path / "old.csv").write_text("1")
    stop, seen = threading.Event(), []
    for names in inbox.watch(tmp_path, 0.03, 5.0, stop):
        for name in sorted(names):
            seen.append(name)
            (tmp_path / name).unlink()
            if name == "old.csv":
                (tmp_path / "new.csv").write_text("2")
            else:
                stop.set()
    assert seen == ["old.csv", "new.csv"]


def test_watch_does_without_events(tmp_path: Path) -> None:
    """The rescan alone finds everything."""
    stop, seen = threading.Event(), set()
    (tmp_path / "a.csv").write_text("1")
    for names in inbox.watch(tmp_path, 0.01, 0.02, stop, events=False):
        seen |= names
        if names:
            stop.set()
    assert seen == {"a.csv"}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, neither a torn file nor a temporary one stays."""

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    durable.write(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="full"):
        durable.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
