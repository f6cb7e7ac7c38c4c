"""Guessed dialects, with evidence, and packed files."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
import xlsxwriter

from etl import formats
from etl.errors import InvalidFileError
from etl.model.tables import Dialect

TEXTS = {
    "sv": "Skruvmejsel blå;större\nKök;Räksmörgås på Åland\n",
    "de": "Größe;Schlüssel für Türen\nStraße;Übergröße\n",
    "fr": "Crème brûlée;élève\nfaçade;garçon\n",
    "cz": "Příliš žluťoučký;kůň\núpěl;ďábelské ódy\n",
}


@pytest.mark.parametrize(
    ("language", "encoding"),
    [("sv", "windows-1252"), ("sv", "cp850"), ("de", "windows-1252"), ("de", "cp850"), ("fr", "windows-1252"),
     ("cz", "windows-1250"), ("sv", "mac-roman"), ("sv", "utf-8"), ("sv", "utf-16"), ("sv", "utf-16-le"),
     ("sv", "utf-32-le")],
)  # fmt: skip
def test_encodings_are_told_from_few_letters(tmp_path: Path, language: str, encoding: str) -> None:
    """A handful of accented letters is enough to read them right."""
    text = "name;text\n" + TEXTS[language] * 2
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    found = formats.detect_dialect(path)
    shown = "".join(str(cell) for row in formats.read_table(path, found.dialect).frame.rows() for cell in row[1:])
    assert shown == text.split("\n", 1)[1].replace(";", "").replace("\n", "")
    assert any("encoding" in sentence for sentence in found.evidence)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_preamble_and_header(tmp_path: Path, delimiter: str) -> None:
    """Lines before the header are found, and said."""
    rows = [["no", "name", "price"], *([f"{n:05d}", f"thing {n}", f"{n}.50"] for n in range(20))]
    path = tmp_path / "x.csv"
    path.write_text("Price list May\n\n" + "".join(delimiter.join(row) + "\n" for row in rows))
    found = formats.detect_dialect(path)
    assert (found.dialect.delimiter, found.dialect.header) == (delimiter, 3)
    assert found.columns == ("no", "name", "price")
    assert any("header in line 3" in sentence for sentence in found.evidence)
    assert formats.read_table(path, found.dialect).rows == 20


def test_habits_of_the_source_are_part_of_the_draft(tmp_path: Path) -> None:
    """No header, no final line end and repeated names are declared, so that the file can be read."""
    path = tmp_path / "x.csv"
    path.write_text("1;2.5;a\n2;3.5;b\n3;4.5;c")
    found = formats.detect_dialect(path)
    assert (found.dialect.header, found.dialect.final_newline) == (0, False)
    assert formats.read_table(path, found.dialect).rows == 3
    path.write_text("no;name;name\n1;a;b\n2;c;d\n")
    found = formats.detect_dialect(path)
    assert found.columns == ("no", "name", "name 2")
    assert formats.read_table(path, found.dialect).columns == found.columns


def test_workbooks_are_detected(tmp_path: Path) -> None:
    """Sheet and header row of a workbook."""
    path = tmp_path / "x.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("Empty")
        sheet = book.add_worksheet("Prices")
        sheet.write(0, 0, "Price list")
        sheet.write_row(2, 0, ["no", "name", "price"])
        for row in range(3, 9):
            sheet.write_row(row, 0, [row, "x", 1.5])
    found = formats.detect_dialect(path)
    assert found.dialect == Dialect(format="excel", sheet="Prices", header=3)
    assert formats.read_table(path, found.dialect).rows == 6


def test_gz_and_zip(tmp_path: Path) -> None:
    """A packed file is read as what is in it; a zip of several wants a name."""
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert formats.read_table(path, Dialect()).frame.rows() == [(2, "1", "2")]
    assert formats.archive_members(path) == ()
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/one.csv", "a,b\n1,2\n")
        archive.writestr("__MACOSX/in/._one.csv", "x")
    assert formats.archive_members(path) == ("in/one.csv",)
    assert formats.read_table(path, Dialect()).rows == 1
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("two.csv", "a,b\n1,2\n3,4\n")
    assert formats.archive_members(path) == ("in/one.csv", "two.csv")
    assert formats.read_table(path, Dialect(), member="two.csv").rows == 2
    with pytest.raises(InvalidFileError, match="holds 2 files"):
        formats.read_table(path, Dialect())


def test_bombs_and_damage_are_refused(tmp_path: Path) -> None:
    """What unpacks to too much, or not at all, costs one refusal."""
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000))
    with pytest.raises(InvalidFileError, match="ratio"):
        formats.read_table(path, Dialect(), limits=formats.ReadLimits(ratio_min_bytes=1000, unpack_ratio=100))
    with pytest.raises(InvalidFileError, match="unpacked size"):
        formats.read_table(path, Dialect(), limits=formats.ReadLimits(unpacked_bytes=1000))
    path.write_bytes(gzip.compress(b"a,b\n1,2\n")[:-6])
    with pytest.raises(InvalidFileError, match="damaged"):
        formats.read_table(path, Dialect())
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InvalidFileError, match="damaged"):
        formats.read_table(path, Dialect())


def test_fixed_width(tmp_path: Path) -> None:
    """Declared widths; padding is cut, anything else about a line makes it malformed."""
    path = tmp_path / "x.txt"
    path.write_bytes("00123blå  10\n00124rö   \n0012\n00125grön 10 x\n".encode("cp850"))
    dialect = Dialect(format="fixed", encoding="cp850", header=0, columns=("no", "name", "n"), widths=(5, 5, 2))
    table = formats.read_table(path, dialect)
    assert table.frame.rows() == [(1, "00123", "blå", "10")]
    assert list(table.malformed.frame["code"]) == ["row-too-short", "row-too-short", "row-too-long"]
    assert table.rows == 4


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """UTF-8 where a code page was declared, and the other way round, is refused by name."""
    path = tmp_path / "x.csv"
    text = "a,b\n" + "blå,1\n" * 4
    path.write_bytes(text.encode())
    with pytest.raises(InvalidFileError, match="this file is utf-8"):
        formats.read_table(path, Dialect(encoding="windows-1252"))
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(InvalidFileError, match="this file is windows-1252"):
        formats.read_table(path, Dialect(encoding="utf-8"))


def test_a_workbook_where_text_was_expected(tmp_path: Path) -> None:
    """A workbook under the name of a CSV file is refused by name."""
    path = tmp_path / "x.csv"
    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        book.add_worksheet().write(0, 0, "a")
    (tmp_path / "x.xlsx").rename(path)
    with pytest.raises(InvalidFileError, match="this is a workbook"):
        formats.read_table(path, Dialect())
