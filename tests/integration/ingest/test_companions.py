"""Which files have to stand beside an export, and which of them go with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from etl.ingest import companions
from etl.ingest.companions import CompanionFinder
from etl.mapping.model import Mapping
from tests.support.builders import PRICES, mapping

CONTENT = b"a;b\n1;2\n"


def feed(**source: str) -> Mapping:
    """The feed of all CSV files, with companions."""
    words = "".join(f', {key}: "{value}"' for key, value in source.items())
    return mapping(PRICES.replace('{files: "*.csv"', f'{{files: "*.csv"{words}'))


class Inbox:
    """An inbox with one feed, and the files that were taken since a moment."""

    def __init__(self, folder: Path, known: Mapping) -> None:
        self.folder, self.known = folder, known
        self.taken: dict[str, float] = {}
        self.finder = CompanionFinder(folder, {known.feed: known}, self._has_run_since)

    def _has_run_since(self, name: str, moment: float) -> bool:
        return self.taken.get(name, float("-inf")) >= moment

    def write(self, name: str, content: bytes = CONTENT) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def list_in(self, manifest: str, *names: str, algorithm: str = "sha256", content: bytes = CONTENT) -> Path:
        checksum = hashlib.new(algorithm, content).hexdigest()
        return self.write(manifest, "".join(f"{checksum}  {name}\n" for name in names).encode())

    def required_for(self, name: str) -> list[str] | str:
        return self.finder.required_for(name, [self.known])


def test_without_companions_nothing_is_needed(tmp_path: Path) -> None:
    """A mapping that asks for none gets none."""
    inbox = Inbox(tmp_path, feed())
    inbox.write("a.csv")
    assert inbox.required_for("a.csv") == []


def test_a_done_file_stands_beside_its_export(tmp_path: Path) -> None:
    """A missing one is named, without its folder; a folder of that name is none; else it goes with the export."""
    inbox = Inbox(tmp_path, feed(done="{name}.ok"))
    inbox.write("erp/a.csv")
    assert inbox.required_for("erp/a.csv") == "its done file a.csv.ok is not there yet"
    (tmp_path / "erp/a.csv.ok").mkdir()
    assert inbox.required_for("erp/a.csv") == "its done file a.csv.ok is not there yet"
    (tmp_path / "erp/a.csv.ok").rmdir()
    inbox.write("erp/a.csv.ok", b"")
    assert inbox.required_for("erp/a.csv") == ["erp/a.csv.ok"]


def test_a_companion_of_two_feeds_is_named_once(tmp_path: Path) -> None:
    """Two feeds that ask for the same file claim it once."""
    inbox = Inbox(tmp_path, feed(done="{name}.ok"))
    inbox.write("a.csv")
    inbox.write("a.csv.ok")
    assert inbox.finder.required_for("a.csv", [inbox.known, inbox.known]) == ["a.csv.ok"]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("pattern", ["*.sums", "day.sums"])
def test_a_manifest_gives_the_checksum_of_the_export(tmp_path: Path, pattern: str, algorithm: str) -> None:
    """One with another checksum or without the export does not count; the reason is told."""
    inbox = Inbox(tmp_path, feed(manifest=pattern))
    inbox.write("erp/a.csv")
    assert inbox.required_for("erp/a.csv") == "no manifest lists it yet"
    inbox.list_in("erp/day.sums", "b.csv", algorithm=algorithm)
    assert inbox.required_for("erp/a.csv") == "no manifest lists it yet"
    inbox.list_in("erp/day.sums", "a.csv", algorithm=algorithm, content=b"other")
    assert inbox.required_for("erp/a.csv") == f"erp/day.sums gives it another {algorithm} than it has"
    inbox.list_in("erp/day.sums", "a.csv", algorithm=algorithm)
    assert inbox.required_for("erp/a.csv") == ["erp/day.sums"]


def test_a_manifest_that_is_none_does_not_hide_the_next(tmp_path: Path) -> None:
    """A text that is none is the reason until a later one lists the export; folders and hidden files are passed."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv")
    inbox.write("a.sums", b"soon\n")
    assert inbox.required_for("a.csv") == "a.sums: line 1 is no checksum with a name"
    (tmp_path / "b.sums").mkdir()
    inbox.list_in(".c.sums", "a.csv")
    assert inbox.required_for("a.csv") == "a.sums: line 1 is no checksum with a name"
    inbox.list_in("d.sums", "a.csv")
    assert inbox.required_for("a.csv") == ["d.sums"]
    inbox.list_in("e.sums", "a.csv")
    assert inbox.required_for("a.csv") == ["d.sums", "e.sums"]


def test_a_manifest_stays_until_the_last_of_its_files(tmp_path: Path) -> None:
    """A listed file that is there, or was not taken since the manifest came, keeps it; files of no feed do not."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv")
    other = inbox.write("b.csv")
    manifest = inbox.list_in("day.sums", "a.csv", "b.csv", "readme.txt")
    arrived = manifest.stat().st_ctime
    assert inbox.required_for("a.csv") == []
    inbox.taken["b.csv"] = arrived + 1
    assert inbox.required_for("a.csv") == []
    other.unlink()
    assert inbox.required_for("a.csv") == ["day.sums"]
    inbox.taken["b.csv"] = arrived - 1
    assert inbox.required_for("a.csv") == []


def test_a_checksum_is_taken_again_when_the_export_changes(tmp_path: Path) -> None:
    """While the file looks the same its checksum is remembered; with another size or time it is read again."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv", b"half")
    inbox.list_in("day.sums", "a.csv")
    assert inbox.required_for("a.csv") == "day.sums gives it another sha256 than it has"
    assert inbox.required_for("a.csv") == "day.sums gives it another sha256 than it has"
    inbox.write("a.csv")
    assert inbox.required_for("a.csv") == ["day.sums"]


def test_a_manifest_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    """A manifest that is too large does not fill the memory; the export waits and the reason is named."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv")
    inbox.list_in("day.sums", "a.csv")
    with (tmp_path / "day.sums").open("ab") as file:
        file.truncate(companions.MAX_MANIFEST_BYTES + 1)
    assert inbox.required_for("a.csv") == "day.sums: it is larger than 4 MiB"


def test_a_manifest_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """What is kept of a manifest counts only for the manifest as it was."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv")
    inbox.write("b.csv")
    inbox.list_in("day.sums", "b.csv")
    assert inbox.required_for("a.csv") == "no manifest lists it yet"
    inbox.list_in("day.sums", "a.csv", "b.csv")
    assert not isinstance(inbox.required_for("a.csv"), str)


def test_an_export_that_is_gone_is_not_ready(tmp_path: Path) -> None:
    """An export, a done file or a manifest can vanish between two looks; that concerns this export only."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv")
    inbox.list_in("day.sums", "a.csv")
    (tmp_path / "a.csv").unlink()
    assert inbox.required_for("a.csv") == "it or a file that belongs to it cannot be read: No such file or directory"


def test_a_done_file_and_a_manifest_go_together(tmp_path: Path) -> None:
    """A feed that asks for both gets both; a manifest without stars may be a hidden file."""
    inbox = Inbox(tmp_path, feed(done="{name}.ok", manifest=".{name}.sums"))
    inbox.write("a.csv")
    inbox.write("a.csv.ok")
    inbox.list_in(".a.csv.sums", "a.csv")
    assert inbox.required_for("a.csv") == ["a.csv.ok", ".a.csv.sums"]


def test_a_manifest_of_other_files_is_passed(tmp_path: Path) -> None:
    """The manifests are looked at by name until those that list the export are found."""
    inbox = Inbox(tmp_path, feed(manifest="*.sums"))
    inbox.write("a.csv")
    inbox.list_in("1.sums", "b.csv")
    inbox.list_in("2.sums", "a.csv")
    assert inbox.required_for("a.csv") == ["2.sums"]
