"""A frozen dialect against files that come otherwise one day: refused by name, never read wrong without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl import formats
from etl.errors import InvalidFileError
from etl.model.tables import Dialect, Table

Read = Callable[..., Table]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def go(data: bytes, **dialect: Any) -> Table:
        path = tmp_path / "export.csv"
        path.write_bytes(data)
        return formats.read_table(path, Dialect(**dialect))

    return go


def refusal(read: Read, data: bytes, **dialect: Any) -> InvalidFileError:
    with pytest.raises(InvalidFileError) as caught:
        read(data, **dialect)
    return caught.value


SWEDISH = "no;namn\n1;Blå kökshylla\n2;Räksmörgås på Åland\n"


@pytest.mark.parametrize(
    ("frozen", "came"),
    [("windows-1252", "cp850"), ("cp850", "windows-1252"), ("windows-1252", "mac-roman"),
    ("utf-8|windows-1252", "cp850")],
)  # fmt: skip
def test_another_code_page_is_refused(read: Read, frozen: str, came: str) -> None:
    """Text that is nonsense in the frozen page and words in another is not read; the hint holds the line to write."""
    error = refusal(read, SWEDISH.encode(came), encoding=frozen, delimiter=";")
    assert error.code == "encoding-mismatch"
    assert f"encoding: {came}" in error.hint


@pytest.mark.parametrize(
    "text",
    ["it’s 3½ m² at 90°", "the “Best” wait…", "10\xa0kr per\xa0st", "5 €;6 €", "¼” BSP", "Mo–Fr", "Lego™ – A4",
     "Ø12 mm",
     "NÃO É", "À la carte", "niño ¿Qué?", "Señor 5°C ±2", "«Øl» §5"],
)  # fmt: skip
def test_typographic_signs_are_no_reason_to_refuse(read: Read, text: str) -> None:
    """Signs of windows-1252 are what they are, however few letters stand around them."""
    assert read(f"a\n{text}\n".encode("cp1252"), encoding="windows-1252", delimiter="|").frame.row(0)[1] == text


def test_stray_utf_8_in_a_code_page_costs_its_row(read: Read) -> None:
    """A line of UTF-8 among lines of windows-1252 is malformed, and not read as `Ã¶`."""
    data = "no;name\n1;blå\n".encode("cp1252") + "2;grön\n".encode() + "3;röd\n".encode("cp1252")
    table = read(data, encoding="windows-1252", delimiter=";")
    assert table.frame["name"].to_list() == ["blå", "röd"]
    assert table.malformed.frame.select("row", "code").rows() == [(3, "bad-bytes")]
    assert "windows-1252|utf-8" in table.malformed.frame["hint"][0]


def test_utf_16_without_a_mark_is_told_by_few_zeros(read: Read) -> None:
    """Cyrillic has zero bytes in delimiters and line ends only."""
    error = refusal(read, "номер;имя\n1;насос\n2;кабель\n".encode("utf-16-le"), delimiter=";")
    assert (error.code, "encoding: utf-16-le" in error.hint) == ("encoding-mismatch", True)


@pytest.mark.parametrize("data", [b"1\t2\n3\t4\n", b"1;2\n3;4\n5,5;6\n"])
def test_without_a_header_the_first_lines_have_to_show_the_delimiter(read: Read, data: bytes) -> None:
    """Not even where missing cells count as empty, or decimal commas look like delimiters."""
    error = refusal(read, data, header=0, columns=("a", "b"), short_rows="empty")
    assert error.code == "delimiter-mismatch"


def test_quotes_that_were_declared_away_are_missed(read: Read) -> None:
    """One cell with doubled quotes inside its own is enough to see that the file is quoted."""
    error = refusal(read, b'a;b\nx;1\n"say ""y""";2\n', quote=None, delimiter=";")
    assert error.code == "quote-mismatch"


def test_names_of_the_mapping_do_not_hide_a_moved_header(read: Read) -> None:
    """Names by place are refused when the header has one of them in another place; a repeated one proves nothing."""
    error = refusal(read, b"no,price,name\n1,2,3\n", columns=("no", "name", "price"))
    assert error.code == "columns-moved"
    assert read(b"name,name,no\n1,2,3\n", columns=("name", "name 2", "no")).columns == ("name", "name 2", "no")


@pytest.mark.parametrize("again", ["no;name\n", "\ufeffno;name\n", '"no";"name"\n'])
def test_a_header_in_the_middle_is_no_row(read: Read, again: str) -> None:
    """Exports put one after the other: the second header is malformed, the rows around it are read."""
    table = read(f"no;name\n1;a\n{again}2;b\n".encode(), delimiter=";")
    assert table.frame.rows() == [(2, "1", "a"), (4, "2", "b")]
    assert table.malformed.frame.select("row", "code").rows() == [(3, "header-again")]
    assert table.rows == 3


def test_lines_before_the_data_of_a_file_without_header(read: Read) -> None:
    """`skip` leaves them out, and a file that ends before is refused."""
    table = read(b"sep=;\n1;2\n", header=0, skip=1, columns=("a", "b"), delimiter=";")
    assert (table.frame.rows(), table.rows) == ([(2, "1", "2")], 1)
    assert refusal(read, b"x\n", header=0, skip=3, columns=("a", "b")).code == "header-missing"


def test_an_inch_mark_in_a_broken_row_does_not_spoil_the_rows_after_it(read: Read) -> None:
    """A quote inside a cell opens nothing, so a row of another width with one leaves its neighbours alone."""
    table = read(b'a;b;c\n3.5" disk;1\n2.5" disk;2;x\n1" bolt;3;y\n', delimiter=";")
    assert table.malformed.frame.select("row", "code").rows() == [(2, "row-too-short")]
    assert table.frame.height == 2
