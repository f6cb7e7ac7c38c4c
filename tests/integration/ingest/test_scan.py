"""Folders of suppliers that cannot be looked into cost their own files only."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(("name", "depth", "reason"), [("a", 1100, "folders deep"), ("b" * 200, 30, "path is longer")])
def test_folders_without_end_are_left(tmp_path: Path, name: str, depth: int, reason: str) -> None:
    """Deeper than the recursion limit, or with a path that the system refuses: the other files are found."""
    (tmp_path / "s.csv").write_text("1")
    nest(tmp_path, name, depth)
    content = scan.scan_folders(tmp_path)
    assert content.file_stats.keys() == {"s.csv"}
    assert [reason in said for said in content.skipped_folders.values()] == [True]
    shutdown = ShutdownEvent()
    seen: set[str] = set()
    for names in scan.watch(tmp_path, 0.01, 0.05, shutdown):
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
