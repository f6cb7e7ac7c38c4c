"""Excel and OpenDocument sheets as tables of text."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from etl import formats
from etl.errors import InvalidFileError
from etl.formats.excel import cell_text
from etl.model.tables import Dialect, Table

EXCEL = Dialect(format="excel")
Fill = Callable[[Any, Any], None]


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., Path]:
    def make(fill: Fill, **options: Any) -> Path:
        path = tmp_path / "book.xlsx"
        with xlsxwriter.Workbook(path, options) as workbook:
            fill(workbook, workbook.add_worksheet("Prices"))
        return path

    return make


def codes(table: Table) -> list[tuple[int, str, str, str]]:
    return list(table.malformed.frame.select("row", "column", "code", "value").iter_rows())


def test_header_in_any_row(book: Callable[..., Path]) -> None:
    """Rows above the header are skipped, rows keep their sheet row, empty ones are no rows."""

    def fill(_: Any, sheet: Any) -> None:
        for row, line in enumerate([["Price list"], [], [], ["no", "price"], ["00123", 5], [], ["x", 1.5]]):
            sheet.write_row(row, 0, line)

    table = formats.read_table(book(fill), Dialect(format="excel", header=4))
    assert table.frame.rows() == [(5, "00123", "5"), (7, "x", "1.5")]
    assert table.rows == 2


@pytest.mark.parametrize("epoch", [False, True])
def test_cells_come_as_people_see_them(book: Callable[..., Path], epoch: bool) -> None:
    """Leading zeros from formats, ISO dates of both epochs, no `.0`, whole EANs, full prices."""

    def fill(workbook: Any, sheet: Any) -> None:
        style = {code: workbook.add_format({"num_format": code}) for code in ("00000", "dd.mm.yyyy", "hh:mm", "0.00")}
        style["both"] = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet.write_row(0, 0, ["zip", "day", "at", "when", "n", "ean", "price", "yes"])
        sheet.write(1, 0, 123, style["00000"])
        sheet.write_datetime(1, 1, date(2024, 2, 29), style["dd.mm.yyyy"])
        sheet.write_datetime(1, 2, time(8, 30), style["hh:mm"])
        sheet.write_datetime(1, 3, datetime(2024, 1, 2, 3, 4, 5), style["both"])
        sheet.write_row(1, 4, [5.0, 4038990000123])
        sheet.write(1, 6, 1.239, style["0.00"])
        sheet.write_boolean(1, 7, True)

    row = formats.read_table(book(fill, date_1904=epoch), EXCEL).frame.row(0)
    assert row == (
        *(2, "00123", "2024-02-29", "08:30:00", "2024-01-02T03:04:05", "5"),
        *("4038990000123", "1.239", "TRUE"),
    )


def test_error_cells_and_uncalculated_formulas_are_malformed(book: Callable[..., Path]) -> None:
    """A row with #DIV/0!, or with a formula whose result is not stored, is named and not read."""

    def fill(_: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["no", "price"])
        sheet.write_row(1, 0, ["a", 1])
        sheet.write(2, 0, "b")
        sheet.write_formula(2, 1, "=1/0", None, "#DIV/0!")
        sheet.write(3, 0, "c")

    path = book(fill)
    rewrite(path, "xl/worksheets/sheet1.xml", b"</row></sheetData>", b'<c r="B4"><f>A1</f></c></row></sheetData>')
    table = formats.read_table(path, EXCEL)
    assert table.frame.rows() == [(2, "a", "1")]
    assert [line[:3] for line in codes(table)] == [(3, "price", "excel-error"), (4, "price", "excel-no-value")]
    assert table.rows == 3


def rewrite(path: Path, part: str, old: bytes, new: bytes) -> None:
    """Changes one part of a zip."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert old in parts[part]
    parts[part] = parts[part].replace(old, new)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def test_hidden_sheets_are_read_only_when_named(book: Callable[..., Path]) -> None:
    """The first visible sheet is the default."""

    def fill(workbook: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["secret"])
        sheet.hide()
        other = workbook.add_worksheet("Shown")
        other.write_row(0, 0, ["no"])
        other.write_row(1, 0, ["1"])
        other.activate()
        other.set_first_sheet()

    path = book(fill)
    assert formats.read_table(path, EXCEL).columns == ("no",)
    assert formats.read_table(path, Dialect(format="excel", sheet="Prices")).columns == ("secret",)
    with pytest.raises(InvalidFileError, match="no sheet 'Pricse'"):
        formats.read_table(path, Dialect(format="excel", sheet="Pricse"))


def test_a_merged_header_over_two_rows(book: Callable[..., Path]) -> None:
    """A header cell merged with the one above it shows that one's text."""

    def fill(_: Any, sheet: Any) -> None:
        sheet.merge_range(0, 0, 1, 0, "no")
        sheet.merge_range(0, 1, 0, 2, "price")
        sheet.write_row(1, 1, ["SEK", "EUR"])
        sheet.write_row(2, 0, ["a", 10, 1])

    assert formats.read_table(book(fill), Dialect(format="excel", header=2)).columns == ("no", "SEK", "EUR")


def test_a_wrong_dimension_is_survived(book: Callable[..., Path]) -> None:
    """The sheet's own claim about its size is not believed."""

    def fill(_: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_row(1, 0, ["1", "2"])

    path = book(fill)
    rewrite(path, "xl/worksheets/sheet1.xml", b'<dimension ref="A1:B2"/>', b'<dimension ref="A1"/>')
    assert formats.read_table(path, EXCEL).frame.rows() == [(2, "1", "2")]


def test_entities_are_refused(book: Callable[..., Path]) -> None:
    """A workbook that declares XML entities costs one refusal."""
    path = book(lambda _, sheet: sheet.write(0, 0, "a"))
    rewrite(path, "xl/worksheets/sheet1.xml", b"<worksheet", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet')
    with pytest.raises(InvalidFileError, match="entities"):
        formats.read_table(path, EXCEL)


def test_a_zip_bomb_is_refused(book: Callable[..., Path]) -> None:
    """A workbook that unpacks to far more than it weighs is refused before it is parsed."""
    path = book(lambda _, sheet: sheet.write(0, 0, "a"))
    rewrite(path, "xl/worksheets/sheet1.xml", b"<sheetData>", b"<sheetData>" + b" " * 4_000_000)
    with pytest.raises(InvalidFileError, match="ratio"):
        formats.read_table(path, EXCEL, limits=formats.ReadLimits(ratio_min_bytes=1_000_000, unpack_ratio=50))


def test_memory_and_time_are_bounded(book: Callable[..., Path]) -> None:
    """A workbook that needs too much costs one refusal."""

    def fill(_: Any, sheet: Any) -> None:
        for row in range(3000):
            sheet.write_row(row, 0, [f"text {row} {col}" for col in range(30)])

    with pytest.raises(InvalidFileError) as caught:
        formats.read_table(book(fill), EXCEL, limits=formats.ReadLimits(memory_bytes=300 << 20))
    assert caught.value.code == "workbook-unreadable"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 cut", b"<html>", b"a;b\n"])
def test_what_is_no_workbook_is_refused(tmp_path: Path, data: bytes) -> None:
    """Damaged, cut and misnamed files are refused with a reason."""
    path = tmp_path / "x.xlsx"
    path.write_bytes(data)
    with pytest.raises(InvalidFileError) as caught:
        formats.read_table(path, EXCEL)
    assert caught.value.code in ("file-empty", "workbook-unreadable", "archive-unreadable")


def test_a_workbook_cut_anywhere_is_refused(book: Callable[..., Path], tmp_path: Path) -> None:
    """A cut workbook never looks like a smaller one."""
    data = book(lambda _, sheet: [sheet.write_row(row, 0, [row, "x"]) for row in range(50)]).read_bytes()
    for cut in (10, len(data) // 3, len(data) // 2, len(data) - 30, len(data) - 1):
        path = tmp_path / "cut.xlsx"
        path.write_bytes(data[:cut])
        with pytest.raises(InvalidFileError):
            formats.read_table(path, EXCEL)


@pytest.mark.parametrize(
    ("stored", "code", "shown"),
    [
        ("5", "", "5"),
        ("5.0", "", "5"),
        ("0.30000000000000004", "", "0.3"),
        ("1E+20", "", "1" + "0" * 20),
        ("4.03899E+12", "", "4038990000000"),
        ("42", "000-000", "000-042"),
        ("1234567", "00000", "1234567"),
        ("42", '"SKU-"0000', "SKU-0042"),
        ("-42", "0000", "-42"),
        ("12.5", "0.00", "12.5"),
        ("5", '0 "kr"', "5"),
        ("45351.5", "[$-409]d/m/yy h:mm", "2024-02-29T12:00:00"),
        ("1.5", "[h]:mm", "36:00:00"),
        ("1", "yyyy-mm-dd", "1900-01-01"),
        ("61", "yyyy-mm-dd", "1900-03-01"),
        ("0.5", "General", "0.5"),
        ("3", '"day "0', "3"),
    ],
)
def test_number_formats(stored: str, code: str, shown: str) -> None:
    """What a stored number looks like under a number format."""
    assert cell_text.number_text(stored, code, epoch_1904=False) == shown


def test_a_day_that_never_was() -> None:
    """Excel's 29 February 1900 is refused and not moved."""
    with pytest.raises(ValueError):
        cell_text.number_text("60", "yyyy-mm-dd", epoch_1904=False)


def test_the_epoch_survives_an_extension(book: Callable[..., Path]) -> None:
    """Excel repeats `workbookPr` in an extension, without the epoch: days are still counted from 1904."""

    def fill(workbook: Any, sheet: Any) -> None:
        sheet.write(0, 0, "day")
        sheet.write_datetime(1, 0, date(2024, 2, 29), workbook.add_format({"num_format": "yyyy-mm-dd"}))

    path = book(fill, date_1904=True)
    more = b'<extLst><ext xmlns:x15="x" uri="u"><x15:workbookPr chartTrackingRefBase="1"/></ext></extLst></workbook>'
    rewrite(path, "xl/workbook.xml", b"</workbook>", more)
    assert formats.read_table(path, EXCEL).frame.rows() == [(2, "2024-02-29")]


@pytest.mark.parametrize(
    ("stored", "code", "shown"),
    [
        ("2014-02-14T08:27:48.765Z", "yyyy-mm-dd", "2014-02-14"),
        ("2014-02-14T08:27:48.765Z", "yyyy-mm-dd hh:mm", "2014-02-14T08:27:48.765"),
        ("2014-02-14", "", "2014-02-14"),
        ("2014-02-14T08:27:00", "hh:mm", "08:27:00"),
    ],
)
def test_days_that_are_stored_as_text(stored: str, code: str, shown: str) -> None:
    """They look as their number format shows them, like any other day."""
    assert cell_text.datetime_text(stored, code) == shown


def test_names_of_the_mapping_count_from_column_a(book: Callable[..., Path]) -> None:
    """A column that is empty one day moves nothing; a cell beyond the names, or a moved header, refuses the file."""

    def fill(_: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["a", None, "c"])
        sheet.write_row(1, 0, ["d", None, "f"])

    path = book(fill)
    table = formats.read_table(path, Dialect(format="excel", header=0, columns=("x", "y", "z")))
    assert table.frame.rows() == [(1, "a", None, "c"), (2, "d", None, "f")]
    for dialect, code in (
        (Dialect(format="excel", header=0, columns=("x", "y")), "columns-count"),
        (Dialect(format="excel", columns=("c", "b", "a")), "columns-moved"),
    ):
        with pytest.raises(InvalidFileError) as caught:
            formats.read_table(path, dialect)
        assert caught.value.code == code


def test_a_trailer_of_a_sheet(book: Callable[..., Path]) -> None:
    """The last row is taken off where it is declared; without it, or with another number, the file is refused."""

    def fill(_: Any, sheet: Any) -> None:
        for row, line in enumerate([["no", "n"], ["a", 1], ["b", 2], ["Total rows", 2]]):
            sheet.write_row(row, 0, line)

    path = book(fill)
    table = formats.read_table(path, Dialect(format="excel", trailer=r"Total rows (?P<rows>\d+)"))
    assert (table.frame.height, table.rows) == (2, 2)
    with pytest.raises(InvalidFileError, match="not the trailer"):
        formats.read_table(path, Dialect(format="excel", trailer=r"Total (?P<rows>\d+)"))
    rewrite(path, "xl/worksheets/sheet1.xml", b'<c r="B4"><v>2</v>', b'<c r="B4"><v>3</v>')
    with pytest.raises(InvalidFileError, match="announces 3 rows, the file has 2"):
        formats.read_table(path, Dialect(format="excel", trailer=r"Total rows (?P<rows>\d+)"))


def test_a_header_again_and_rows_before_headless_data(book: Callable[..., Path]) -> None:
    """Sheets put together from several: the header is no row. `skip` leaves rows out where there is no header."""

    def fill(_: Any, sheet: Any) -> None:
        for row, line in enumerate([["no", "n"], ["a", 1], ["no", "n"], ["b", 2]]):
            sheet.write_row(row, 0, line)

    path = book(fill)
    table = formats.read_table(path, EXCEL)
    assert table.frame.rows() == [(2, "a", "1"), (4, "b", "2")]
    assert codes(table)[0][0] == 3
    assert codes(table)[0][1] is None
    assert (codes(table)[0][2], table.rows) == ("header-again", 3)
    table = formats.read_table(path, Dialect(format="excel", header=0, skip=2, columns=("no", "n")))
    assert (table.frame["_row"].to_list(), table.rows) == ([3, 4], 2)


def test_text_in_a_cdata_section_is_counted(book: Callable[..., Path]) -> None:
    """Both counts of the rows know how else XML may write a text."""

    def fill(_: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["no"])
        sheet.write_row(1, 0, [5])

    path = book(fill)
    cell = b'<c r="A2" t="inlineStr"><is><t><![CDATA[a < b]]></t></is></c>'
    rewrite(path, "xl/worksheets/sheet1.xml", b'<c r="A2"><v>5</v></c>', cell)
    table = formats.read_table(path, EXCEL)
    assert (table.frame.rows(), table.rows) == ([(2, "a < b")], 1)
