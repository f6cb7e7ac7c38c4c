"""The file with the rejected rows that a supplier finds beside its own file."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from etl.errors import InvalidFileError
from etl.ingest import feedback
from etl.model.columns import REJECTION_COLUMNS
from etl.model.runs import Run, RunState


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """An inbox with the folder of a supplier."""
    (tmp_path / "inbox" / "acme").mkdir(parents=True)
    return tmp_path / "inbox"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The folder of an ended run."""
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


def ended(tmp_path: Path, name: str = "acme/p.csv", run_id: str = "r1-prices") -> Run:
    file = tmp_path / "claimed" / "r1" / name
    return Run(run_id, "prices", "x", name, "", RunState.COMPLETED, claimed=file)


def test_the_rejected_rows_are_written_and_go_again(tmp_path: Path, box: Path, archive: Path) -> None:
    """They stand beside the export for its group to read; a file without any removes those of the one before it."""
    run = ended(tmp_path)
    assert feedback.write_rejections(run, box, archive, None) is None
    (archive / "rejections.csv").write_bytes(b"row\r\n2\r\n")
    path = feedback.write_rejections(run, box, archive, None)
    assert path == box / "acme" / "p.csv.rejections.csv"
    assert path.read_bytes() == b"row\r\n2\r\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["p.csv.rejections.csv"]
    (archive / "rejections.csv").unlink()
    assert feedback.write_rejections(run, box, archive, None) is None
    assert not path.exists()


def test_an_invalid_file_says_why_in_one_line(tmp_path: Path, box: Path, archive: Path) -> None:
    """Code, message and hint of the error, in the columns of rejected rows; quotes in them are doubled."""
    error = InvalidFileError("file-empty", 'the file "p" is empty', where="p.csv", hint="export it again")
    path = feedback.write_rejections(ended(tmp_path), box, archive, str(error))
    assert path is not None
    text = path.read_bytes().decode()
    assert text.startswith("\ufeff" + ",".join(REJECTION_COLUMNS) + "\r\n")
    assert text.endswith('"\r\n')
    assert text.count("\r\n") == text.count("\n") == 2
    (line,) = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    given = {name: value for name, value in line.items() if value}
    assert given == {"code": "file-empty", "message": 'the file "p" is empty', "hint": "export it again"}


def test_a_text_that_is_no_error_of_ours_is_the_message(tmp_path: Path, box: Path, archive: Path) -> None:
    """A reason without a code."""
    path = feedback.write_rejections(ended(tmp_path), box, archive, "discarded")
    assert path is not None
    (line,) = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    assert {name: value for name, value in line.items() if value} == {"message": "discarded"}


def test_feedback_is_for_runs_of_a_suppliers_file(tmp_path: Path, box: Path, archive: Path) -> None:
    """Not for runs that nobody has dropped a file for, nor for a file that a newer one has replaced."""
    run = ended(tmp_path)
    for other in (
        replace(run, claimed=None),
        replace(run, kind="full"),
        replace(run, kind="resend"),
        replace(run, state=RunState.SUPERSEDED),
    ):
        assert feedback.write_rejections(other, box, archive, "error[x]: no") is None
    assert feedback.write_rejections(replace(run, kind="rerun"), box, archive, "error[x]: no") is not None


def test_a_member_of_an_archive_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Archive and member, with nothing that would be a path; the archive's own folder is kept."""
    archived = ended(tmp_path, "acme/day.zip", "r1-m2-prices")
    run = replace(archived, file="acme/day.zip/in/a b.csv")
    assert feedback.feedback_name(run) == "acme/day.zip.in_a_b.csv.rejections.csv"
    nested = replace(archived, file="acme/day.zip/day.zip/c.csv")
    assert feedback.feedback_name(nested) == "acme/day.zip.day.zip_c.csv.rejections.csv"
    assert feedback.feedback_name(ended(tmp_path)) == "acme/p.csv.rejections.csv"


def test_a_folder_that_takes_no_file_is_an_error_and_gets_no_rest(
    tmp_path: Path, box: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the name cannot be given, the file that was begun goes."""
    (box / "acme" / "p.csv.rejections.csv").mkdir()
    with pytest.raises(OSError, match="directory"):
        feedback.write_rejections(ended(tmp_path), box, archive, "error[x]: no")
    assert [each.name for each in (box / "acme").iterdir()] == ["p.csv.rejections.csv"]
