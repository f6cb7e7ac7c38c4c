"""A file cut anywhere is refused, or gives exactly the complete rows before the cut."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from etl import formats
from etl.errors import InvalidFileError
from etl.model.tables import Dialect
from tests.support.tolerant_reading import read_tolerantly


def export(end: str, quoting: int, count: int) -> tuple[bytes, list[tuple[str | None, ...]]]:
    """Rows with umlauts, quotes and line breaks in cells."""
    rows = [
        (f"{n}", "å" if n % 3 else "", 'a "b"\nc;d;e\nf' if n % 20 == 0 else "x", "" if n % 2 else "ja")
        for n in range(count)
    ]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([("no", "å", "text", "flag"), *rows])
    return out.getvalue().encode(), [tuple(cell or None for cell in row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("end", "quoting", "count"), [("\n", csv.QUOTE_MINIMAL, 200), ("\r\n", csv.QUOTE_ALL, 45)])
def test_sweep(tmp_path: Path, end: str, quoting: int, count: int) -> None:
    """At every byte: refused, or a prefix of the rows and at most one malformed row, the one that was cut.

    Hardly any cut is refused: those within the header are.
    """
    data, rows = export(end, quoting, count)
    path = tmp_path / "cut.csv"
    dialect = Dialect(delimiter=";")
    readable = 0
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        try:
            table = read_tolerantly(path, dialect, formats.ReadLimits())
        except InvalidFileError:
            continue
        readable += 1
        got = [row[1:] for row in table.frame.iter_rows()]
        assert got == rows[: len(got)], cut
        assert table.malformed.rows <= 1, cut
        assert table.rows == len(got) + table.malformed.rows, cut
        if not table.malformed.rows:
            before = data[:cut]
            assert before.endswith((b"\n", b"\r")), cut
    assert readable > 0.9 * len(data)


def test_sweep_by_the_fast_reader(tmp_path: Path) -> None:
    """The same for the way that production takes, at every byte of the last rows of a plain file."""
    lines = ["no;name;price"] + [f"{n:05d};Blå {n};{n},50" for n in range(200)]
    data = ("\n".join(lines) + "\n").encode()
    path = tmp_path / "cut.csv"
    for cut in range(len(data) - 60, len(data) + 1):
        path.write_bytes(data[:cut])
        table = formats.read_table(path, Dialect(delimiter=";"))
        complete = data[:cut].count(b"\n") - 1
        assert table.frame.height == complete
        assert table.malformed.rows == (not data[:cut].endswith(b"\n"))
