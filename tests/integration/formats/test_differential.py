"""The fast reader and the tolerant one agree wherever both apply, and the count agrees with both."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl import formats, thread_pool
from etl.errors import InvalidFileError
from etl.formats.text import header, polars_reader, reader
from etl.formats.text.line_source import open_line_source
from etl.model.tables import Dialect, Table
from tests.support.campaign import few_or_all
from tests.support.tolerant_reading import read_tolerantly

LIMITS = formats.ReadLimits()
COUNT = 300  #: lines of a clean file: some 150 small blocks
SMALL = formats.ReadLimits(block_bytes=12)  #: some two rows at a time
EXAMPLES = settings(
    max_examples=few_or_all(150, 2000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    [b";", b";", b"\n", b"\n", b"\r\n", b"\r", b'"', b'""', b"a", b"1", b" ", b"\xc3\xa5", b"\xe5", b"\x00", b"\x1a",
     b"\\", b"'", b"x;y\n", b'"a";"b"\n', b'1;"x\ny"\n', b"1;2\n", b"\xef\xbb\xbf"]
)  # fmt: skip
CELLS = st.text(st.sampled_from("abåßŁ€ 0;,\"\n\r\t'\\|") | st.characters(codec="utf-8", exclude_characters="\0"))


def check_balance(table: Table) -> None:
    """Every row is in the frame or malformed, and no row is in both."""
    assert table.rows == table.frame.height + table.malformed.rows
    assert not set(table.frame["_row"]) & set(table.malformed.frame["row"])
    assert table.frame["_row"].is_sorted()


@EXAMPLES
@given(body=st.lists(PIECES, max_size=40), encoding=st.sampled_from(["utf-8", "windows-1252", "latin-1", "cp850"]))
@example([b"1;2\n", b'"a";"b"\n'], "utf-8")
@example([b"\r", b";", b"a"], "utf-8")
@example([b"1;2\n", b"3\n", b"4;5\r\n"], "utf-8")
def test_fast_and_tolerant_agree_on_any_bytes(tmp_path: Path, body: list[bytes], encoding: str) -> None:
    """Whatever the fast reader dares to read, the tolerant one reads the same; both balance."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"a;b\n" + b"".join(body))
    for final in (True, False):
        dialect = Dialect(delimiter=";", encoding=encoding, final_newline=final)
        try:
            safe = read_tolerantly(path, dialect, LIMITS)
        except InvalidFileError as error:
            with pytest.raises(InvalidFileError, match=re.escape(error.message)):
                formats.read_table(path, dialect)
            continue
        check_balance(safe)
        for limits in (LIMITS, SMALL):
            table = formats.read_table(path, dialect, limits=limits)
            assert table.frame.equals(safe.frame)
            assert table.malformed.frame.equals(safe.malformed.frame)
            assert table.rows == safe.rows


@EXAMPLES
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_what_was_written_is_read(
    tmp_path: Path, rows: list[list[str]], delimiter: str, end: str, quoting: int, encoding: str
) -> None:
    """Properly quoted cells come back as they were, in any dialect; a doubtful row is refused and never changed."""
    if any(mark in cell for row in rows for cell in row for mark in "\r\n"):
        quoting = csv.QUOTE_ALL  # Python's writer quotes only the line end that it writes itself
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([["x", "y", "z"], *rows])
    path = tmp_path / "x.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    table = formats.read_table(path, Dialect(delimiter=delimiter, encoding=encoding))
    check_balance(table)
    wanted = [tuple(cell or None for cell in row) for row in rows if any(row)]
    got = [row[1:] for row in table.frame.iter_rows()]
    if table.malformed.rows:
        assert set(table.malformed.frame["code"]) <= {"open-quote", "broken-quote"}
        assert all(row in wanted for row in got)
    else:
        assert got == wanted


@pytest.mark.parametrize("quote", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252", "cp850", "utf-16"])
def test_clean_files_take_the_fast_way(tmp_path: Path, end: str, encoding: str, quote: bool) -> None:
    """Clean files are read by the fast reader, and equal to what the tolerant one reads."""
    mark = '"' if quote else ""
    lines = ["no;name;price", *(f"{n:05d};{mark}blå {n}{mark};{n},50" if n % 3 else f"{n:05d};;" for n in range(COUNT))]
    path = tmp_path / "x.csv"
    path.write_bytes((end.join(lines) + end).encode(encoding))
    dialect = Dialect(delimiter=";", encoding=encoding)
    for limits in (LIMITS, SMALL):
        with open_line_source(path, dialect, limits) as feed, thread_pool.thread_pool() as start:
            names = header.read_header(feed, iter(feed))
            proved = polars_reader.ProvenPrefix(feed.bom_size, feed.line_count)
            found = pl.concat(polars_reader.read_proven(feed, names, proved, start))
        assert proved.is_complete
        safe = read_tolerantly(path, dialect, limits)
        assert found.equals(safe.frame)
        assert proved.rows == safe.rows == COUNT


ODD = ["00500;short", "00500;blå;1;long", '00500;"two\nlines";1', "00500;b\0;1", ";;", "no;name;price"]


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_proved_ends_the_blocks_begun_ahead(tmp_path: Path, odd: str) -> None:
    """Blocks that were begun after one that is odd are read again, by the other reader, and come but once."""
    lines = ["no;name;price", *(f"{n:05d};blå {n};{n},50" for n in range(1000))]
    lines[501] = odd
    path = tmp_path / "x.csv"
    path.write_bytes("\n".join(lines).encode("cp1252"))
    dialect = Dialect(delimiter=";", encoding="windows-1252")
    reading = reader.TextFile(path, dialect, formats.ReadLimits(block_bytes=2000))
    with thread_pool.thread_pool() as start:
        found = pl.concat(reading.frames(start))
    safe = read_tolerantly(path, dialect, LIMITS)
    assert found.equals(safe.frame)
    assert reading.malformed.frame.equals(safe.malformed.frame)
    assert reading.rows == safe.rows
