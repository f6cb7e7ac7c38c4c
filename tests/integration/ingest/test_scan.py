"""Folders of suppliers that cannot be looked into cost their own files only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.ingest import scan
from etl.shutdown import ShutdownEvent


def nest(folder: Path, name: str, depth: int) -> None:
    """Make folders within each other, deeper than a path may be long."""
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Path]:
    """An inbox that is removed afterwards by `rm`, which no depth stops."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize(("name", "depth", "reason"), [("a", 1100, "folders deep"), ("b" * 200, 30, "path is longer")])
def test_folders_without_end_are_left(inbox: Path, name: str, depth: int, reason: str) -> None:
    """Deeper than the recursion limit, or with a path that the system refuses: the other files are found."""
    (inbox / "s.csv").write_text("1")
    nest(inbox, name, depth)
    content = scan.scan_folders(inbox)
    assert content.file_stats.keys() == {"s.csv"}
    assert [reason in said for said in content.skipped_folders.values()] == [True]
    shutdown = ShutdownEvent()
    seen: set[str] = set()
    for names in scan.watch(inbox, 0.01, 0.05, shutdown):
        seen |= names.keys()
        if names:
            shutdown.set()
    assert seen == {"s.csv"}


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_folder_that_cannot_be_read_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """One folder of one supplier: named with the reason, and everybody else's files are found."""
    (tmp_path / "old").mkdir()
    (tmp_path / "erp").mkdir()
    (tmp_path / "erp" / "s.csv").write_text("1")
    really = os.scandir

    def refuse(folder: str) -> object:
        if os.path.basename(os.path.normpath(folder)) == "old":
            raise error
        return really(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    content = scan.scan_folders(tmp_path)
    assert content.file_stats.keys() == {"erp/s.csv"}
    assert content.skipped_folders == {"old/": f"it cannot be read: {error.strerror}"}


def test_a_folder_that_vanishes_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to know of it."""
    (tmp_path / "old").mkdir()
    really = os.scandir

    def remove(folder: str) -> object:
        if os.path.basename(os.path.normpath(folder)) == "old":
            os.rmdir(folder)
        return really(folder)

    monkeypatch.setattr(os, "scandir", remove)
    assert scan.scan_folders(tmp_path) == ({}, {})


def test_only_the_first_skipped_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supplier with any number of such folders does not flood log and alerts."""
    monkeypatch.setattr(scan, "MAX_FOLDER_DEPTH", 0)
    for number in range(scan.MAX_SKIPPED_FOLDERS + 5):
        (tmp_path / str(number)).mkdir()
    assert len(scan.scan_folders(tmp_path).skipped_folders) == scan.MAX_SKIPPED_FOLDERS


def test_a_folder_with_too_many_entries_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first entries are looked at, and the rest waits; other folders are read whole."""
    monkeypatch.setattr(scan, "MAX_FOLDER_ENTRIES", 3)
    (tmp_path / "many").mkdir()
    for number in range(5):
        (tmp_path / "many" / f"{number}.csv").write_text("1")
    (tmp_path / "s.csv").write_text("1")
    content = scan.scan_folders(tmp_path)
    assert len(content.file_stats) == 4
    assert content.skipped_folders == {"many/": "it has more than 3 entries; the others wait"}
