"""CSV and its kin: right, refused, or a malformed row with its reason."""

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
    def go(data: bytes | str, **dialect: Any) -> Table:
        path = tmp_path / "export.csv"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return formats.read_table(path, Dialect(**dialect))

    return go


def codes(table: Table) -> list[tuple[int, str]]:
    return [(row, code) for row, code in table.malformed.frame.select("row", "code").iter_rows()]


def test_everything_is_text_and_nothing_is_trimmed(read: Read) -> None:
    """Leading zeros and blanks stay; an empty cell is null."""
    table = read("no,name,x\n00123, a ,\n,b,1e5\n")
    assert table.frame.rows() == [(2, "00123", " a ", None), (3, None, "b", "1e5")]
    assert table.rows == 2


def test_rows_know_their_physical_line(read: Read) -> None:
    """A line break in a cell, and a blank line, move the numbers of the rows after them."""
    table = read('a,b\n1,"x\ny"\n\n2,z\n')
    assert table.frame.rows() == [(2, "1", "x\ny"), (5, "2", "z")]


def test_rows_of_another_width_are_malformed(read: Read) -> None:
    """A row with too few or too many cells is neither padded nor cut."""
    table = read("a,b,c\n1,2\n1,2,3,4\n1,2,3\n")
    assert codes(table) == [(2, "row-too-short"), (3, "row-too-long")]
    assert table.frame.rows() == [(4, "1", "2", "3")]
    assert table.rows == 3


def test_ragged_rows_are_read_where_the_mapping_says_so(read: Read) -> None:
    """Declared, a missing end is empty and a surplus empty end is dropped; a surplus value is still malformed."""
    table = read("a,b\n1\n1,2,\n1,2,3\n", short_rows="empty", long_rows="empty")
    assert table.frame.rows() == [(2, "1", None), (3, "1", "2")]
    assert codes(table) == [(4, "row-too-long")]


def test_blanks_after_a_closing_quote_are_padding(read: Read) -> None:
    """Columns lined up with blanks are read, the blanks kept; anything else after a closing quote is malformed."""
    table = read('a    ,b         ,c\n"x,1","say ""y"""  ,  \n"x,2"  ,z          ,"w" \n"x"3  ,y,z\n"x" ,,\n')
    assert table.frame.rows() == [
        (2, "x,1", 'say "y"  ', "  "), (3, "x,2  ", "z          ", "w "), (5, "x ", None, None),
    ]  # fmt: skip
    assert codes(table) == [(4, "broken-quote")]
    assert table.rows == 4


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "windows-1252", "cp850"])
def test_encodings_and_line_ends_do_not_matter(read: Read, end: str, encoding: str) -> None:
    """The same cells come out of every encoding and line end."""
    data = end.join(["nö;name", "1;blå", "2;", ""]).encode(encoding)
    table = read(data, encoding=encoding, delimiter=";")
    assert table.frame.rows() == [(2, "1", "blå"), (3, "2", None)]
    assert table.columns == ("nö", "name")


def test_mixed_line_ends(read: Read) -> None:
    """CR, LF and CRLF in one file each end a line."""
    assert read(b"a,b\r1,2\n3,4\r\n5,6\r").frame["_row"].to_list() == [2, 3, 4]


def test_undecodable_bytes_cost_their_row_only(read: Read) -> None:
    """A byte that the encoding does not know makes its own row malformed."""
    table = read("a,b\nå,1\n".encode() + b"\xff,2\nc,3\n")
    assert codes(table) == [(3, "bad-bytes")]
    assert table.frame["a"].to_list() == ["å", "c"]


def test_mixed_code_pages_line_by_line(read: Read) -> None:
    """Where the mapping says so, every line is read in the first encoding that fits."""
    data = "a,b\nblå,1\n".encode() + "grön,2\n".encode("cp1252")
    assert read(data, encoding="utf-8|windows-1252").frame["a"].to_list() == ["blå", "grön"]


def test_latin_1_controls_are_not_taken_for_text(read: Read) -> None:
    """A euro sign of windows-1252 in a file declared latin-1 is refused, not read as a control character."""
    assert codes(read("a,b\n1,å\n2,€\n".encode("cp1252"), encoding="latin-1")) == [(3, "bad-bytes")]


@pytest.mark.parametrize(
    ("data", "dialect", "code", "hint"),
    [
        (b"", {}, "file-empty", ""),
        (b"\xef\xbb\xbf", {}, "file-empty", ""),
        (b"a\tb\n1\t2\n", {"delimiter": ";"}, "delimiter-mismatch", 'delimiter: "\\t"'),
        (b"a,a\n1,2\n", {}, "header-duplicate", "columns:"),
        (b"a,b\n1,2\n", {"header": 5}, "header-missing", "header:"),
        (b"a,b\n\n1,2\n", {"header": 2}, "header-missing", "header:"),
        ("a,b\n1,2\n".encode("utf-16"), {}, "encoding-mismatch", "encoding: utf-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), {}, "encoding-mismatch", "encoding: utf-16-le"),
        (
            b"\xfe\xff" + "a,b\n1,2\n".encode("utf-16-be"),
            {"encoding": "utf-16-le"},
            "encoding-mismatch",
            "encoding: utf-16",
        ),
        (
            b"\xff\xfe" + "a,b\n1,2\n".encode("utf-16-le"),
            {"encoding": "utf-16-be"},
            "encoding-mismatch",
            "encoding: utf-16",
        ),
        (b"a,b\n1,2\n", {"encoding": "klingon"}, "encoding-unknown", "utf-8"),
        (b'a,b\n"1","2"\n"3","4"\n', {"quote": None}, "quote-mismatch", "quote: '\"'"),
        (b"'a','b'\n'1','2'\n'3','4'\n", {}, "quote-mismatch", 'quote: "\'"'),
        (b"1,2\n", {"header": 0}, "columns-missing", "columns:"),
        (b"a,na", {}, "cut-off", "final_newline"),
        (b'a,b\n1,"x\n2,y\n3,z\n4,w\n', {}, "open-quote", "quote: null"),
    ],
)
def test_files_that_do_not_fit_are_refused(read: Read, data: bytes, dialect: Any, code: str, hint: str) -> None:
    """A file that does not fit its dialect is refused by name, with the line that fixes it."""
    with pytest.raises(InvalidFileError) as caught:
        read(data, **dialect)
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_preamble_and_missing_header(read: Read) -> None:
    """The header may stand in any line, or nowhere."""
    assert read('Price list "May\n\na;b\n1;2\n', header=3, delimiter=";").frame.rows() == [(4, "1", "2")]
    assert read("1;2\n", header=0, columns=("a", "b"), delimiter=";").frame.rows() == [(1, "1", "2")]


def test_names_of_the_mapping_replace_a_repeated_header(read: Read) -> None:
    """A header with repeated names can be read when the mapping names the columns."""
    assert read("a,a\n1,2\n", columns=("a", "b")).columns == ("a", "b")


def test_a_column_without_a_name_is_called_after_its_place(read: Read) -> None:
    """An unnamed column can be mapped by its place."""
    assert read("a,,c\n1,2,3\n").columns == ("a", "column 2", "c")


def test_a_last_row_without_line_end_is_cut_off(read: Read) -> None:
    """Its last cell may be half a price; a mapping may say that the source writes so."""
    assert codes(read("a,b\n1,2\n3,4")) == [(3, "cut-off")]
    assert read("a,b\n1,2\n3,4", final_newline=False).frame.height == 2


def test_loose_quotes_are_malformed(read: Read) -> None:
    """Text after a closing quote is not joined, and what stands between loose quotes is not believed."""
    assert codes(read('a,b\n1,"x"y\n2,z\n')) == [(2, "broken-quote")]
    loose = codes(read('a,b\n1,"x"y "\n2,z\n3,"z"q"\n4,y\n'))
    assert loose == [(2, "broken-quote"), (3, "broken-quote"), (4, "broken-quote")]
    assert codes(read('a,b,c\n1,"x,2\n3,x",4\n5,6,7\n')) == [(2, "open-quote")]


def test_an_inch_mark_inside_a_cell_is_text(read: Read) -> None:
    """A quote that does not begin a cell means nothing."""
    assert read('a,b\n3.5" disk,1\n').frame.rows() == [(2, '3.5" disk', "1")]


def test_delimiters_of_several_characters(read: Read) -> None:
    """`||` separates, `|` does not."""
    assert read('a||b\n1|x||"2||3"\n', delimiter="||").frame.rows() == [(2, "1|x", "2||3")]


def test_escapes(read: Read) -> None:
    """An escape protects quotes and delimiters; before anything else it is text."""
    table = read('a,b\n"x\\"y",C:\\new\n1\\,2,3\n', escape="\\")
    assert table.frame.rows() == [(2, 'x"y', "C:\\new"), (3, "1,2", "3")]


def test_trailer(read: Read) -> None:
    """A declared trailer is taken off; without it, or with another count, the file is refused."""
    end = r"END;(?P<rows>\d+)"
    assert read("a;b\n1;2\nEND;1\n", delimiter=";", trailer=end).frame.rows() == [(2, "1", "2")]
    with pytest.raises(InvalidFileError, match="not the trailer"):
        read("a;b\n1;2\n", delimiter=";", trailer=end)
    with pytest.raises(InvalidFileError, match="announces 5 rows, the file has 1"):
        read("a;b\n1;2\nEND;5\n", delimiter=";", trailer=end)


def test_zero_bytes_are_no_text(read: Read) -> None:
    """A row with a zero byte is malformed."""
    assert codes(read(b"a,b\n1,\x002\n3,4\n")) == [(2, "bad-bytes")]


def test_bounds_refuse_the_file(tmp_path: Path) -> None:
    """Rows, columns and cell sizes above the limits refuse the file."""
    path = tmp_path / "export.csv"
    path.write_text("a,b\n" + "1,2\n" * 100)
    for limits in (formats.ReadLimits(rows=99), formats.ReadLimits(columns=1), formats.ReadLimits(unpacked_bytes=10)):
        with pytest.raises(InvalidFileError) as caught:
            formats.read_table(path, Dialect(), limits=limits)
        assert caught.value.code == "file-too-big"
    path.write_text("a,b\n1," + "x" * 5000 + "\n")
    with pytest.raises(InvalidFileError, match="one record"):
        formats.read_table(path, Dialect(), limits=formats.ReadLimits(record_characters=1000))
