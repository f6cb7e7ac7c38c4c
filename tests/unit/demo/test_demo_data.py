"""The demonstration's exports: made by their script, and with the traits that they are there to show."""

from __future__ import annotations

import csv
from pathlib import Path

import openpyxl
import pytest

import etl.demo
from etl.demo import generate, shop

SHIPPED = Path(etl.demo.__file__).parent / "data"
FILES = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.*"))


def content(path: Path) -> object:
    """The bytes of a text file; the cells of a workbook, whose bytes depend on the library's version."""
    if path.suffix != ".xlsx":
        return path.read_bytes()
    book = openpyxl.load_workbook(path)
    return [[list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]


def part_numbers(path: Path) -> set[str]:
    """The part numbers of an ERP or supplier file: its first column."""
    rows = list(csv.reader(path.read_text(encoding="windows-1252").splitlines(), delimiter=";"))
    return {row[0] for row in rows[1:] if row[0]}


def products(day: str) -> set[str]:
    """The part numbers of a day's products."""
    column = generate.PRODUCT_HEADER.index("Artikelnr")
    sheet = openpyxl.load_workbook(SHIPPED / day / "pim" / "products.xlsx").worksheets[0]
    return {row[column] for row in sheet.iter_rows(min_row=4, values_only=True) if row[column]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exports made anew."""
    folder = tmp_path_factory.mktemp("demo")
    generate.write_exports(folder)
    return folder


def test_the_same_files_are_made(made: Path) -> None:
    """The script makes the files that are shipped, and no others."""
    assert sorted(path.relative_to(made).as_posix() for path in made.rglob("*.*")) == FILES
    assert len(FILES) == 20


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_same_content(made: Path, name: str) -> None:
    """Making the exports again changes no cell."""
    assert content(made / name) == content(SHIPPED / name)


def test_the_files_are_small() -> None:
    """The shipped exports stay below 400 kB."""
    assert sum((SHIPPED / name).stat().st_size for name in FILES) < 400_000


@pytest.mark.parametrize("name", [name for name in FILES if name.split("/")[1] in ("erp", "supplier", "wholesale")])
def test_text_is_windows_1252(name: str) -> None:
    """The exports hold letters that are not valid UTF-8, as those systems write them."""
    with pytest.raises(UnicodeDecodeError):
        (SHIPPED / name).read_text(encoding="utf-8")


def test_the_erp_is_a_day_ahead() -> None:
    """On the first day a few articles have prices and stock but no product yet; on the second all have one."""
    ahead = part_numbers(next(SHIPPED.glob("day1/erp/prices_*.csv"))) - products("day1")
    assert 1 <= len(ahead) <= 4
    assert part_numbers(next(SHIPPED.glob("day1/erp/stock_*.csv"))) - products("day1") == ahead
    for pattern in ("erp/prices_*.csv", "erp/stock_*.csv", "supplier/*.csv"):
        assert part_numbers(next(SHIPPED.glob(f"day2/{pattern}"))) <= products("day2")
    assert part_numbers(next(SHIPPED.glob("day1/supplier/*.csv"))) <= products("day1")


def test_products_come_and_go() -> None:
    """Between the days some products appear and some vanish, and most stay."""
    before, after = products("day1"), products("day2")
    assert after - before
    assert before - after
    assert len(before & after) > 0.9 * len(before)


def test_check_digit() -> None:
    """The article numbers end in the check digit that scanners expect."""
    assert shop.ean13("200000010400") == "2000000104003"
