"""Tables that fit where they are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.cli.tables import TableColumn, fit_columns
from etl.report.summary import format_number


def heads(width: int, *columns: TableColumn) -> list[str]:
    return [column.name for column in fit_columns(columns, width)]


FEED = TableColumn("feed", ["erp-stock", "x"], is_number=False)
ROWS = TableColumn("rows", ["11 332", "2"])
GONE = TableColumn("gone", ["0", "0"], drop_if_zero=True)
FAILED = TableColumn("failed", ["0", "1"], "fail.", drop_if_zero=True)
FILE = TableColumn("file", ["erp/stock_2026-11-24.csv", "b.csv"], is_number=False, may_shrink=True)


def test_where_there_is_room_everything_is_shown() -> None:
    """A wide terminal shows noughts and whole heads."""
    assert heads(100, FEED, ROWS, GONE, FAILED, FILE) == ["feed", "rows", "gone", "failed", "file"]


def test_columns_of_noughts_go_first() -> None:
    """A column that says only 0 makes room before anything is shortened."""
    assert heads(54, FEED, ROWS, GONE, FAILED, FILE) == ["feed", "rows", "failed", "file"]


def test_heads_are_shortened_before_cells_are_cut() -> None:
    """Then long heads take their short form, and only then a cell loses its end."""
    assert heads(50, FEED, ROWS, GONE, FAILED, FILE) == ["feed", "rows", "fail.", "file"]
    *_, cut = fit_columns([FEED, ROWS, GONE, FAILED, FILE], 41)
    assert cut.cells == ["erp/stock_2026…", "b.csv"]


def test_what_gives_way_is_left_out_at_last() -> None:
    """A column of which too little would be left is not shown at all."""
    assert heads(30, FEED, ROWS, GONE, FAILED, FILE) == ["feed", "rows", "fail."]


@given(st.integers(20, 200), st.lists(st.text("ab", min_size=1, max_size=60), min_size=1, max_size=4))
def test_a_table_that_can_fit_does(width: int, names: list[str]) -> None:
    """Whatever stands in the column that gives way, the table is no wider than the terminal."""
    file = TableColumn("file", names, is_number=False, may_shrink=True)
    shown = fit_columns([TableColumn("rows", ["1"] * len(names)), file], width)
    assert sum(column.width for column in shown) + 2 * (len(shown) - 1) <= width


def test_numbers_are_grouped() -> None:
    """Thousands stand apart."""
    assert format_number(1234567) == "1 234 567"
