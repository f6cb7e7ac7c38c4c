"""Columns and rules of a mapping against cells: what is good becomes typed, what is not is named."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from unicodedata import normalize

import polars as pl
import pytest

from etl.errors import InvalidMappingError
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.mapping.text import WHITESPACE
from etl.model.columns import REJECTION_COLUMNS, ROW
from etl.model.tables import Rejections, Table
from etl.plan.rows import validate
from etl.plan.rows.cells import is_simple_encoding
from etl.plan.rows.validate import ValidatedRows

FEED = """
feed: x
operation: Product/ImportPriceLists
source: {files: "*", content: full}
columns:
  code: {required: true}
  cell: %s
%s
record: {Code: code}
"""
EXCEL = FEED.replace('"*"', '"*.xlsx"')


def table(**columns: Sequence[str | None]) -> Table:
    height = len(next(iter(columns.values())))
    schema = [pl.Series(ROW, range(2, height + 2)), *(pl.Series(k, v, dtype=pl.String) for k, v in columns.items())]
    nothing = pl.DataFrame(schema={name: pl.Int64 if name == "row" else pl.String for name in REJECTION_COLUMNS})
    return Table(pl.DataFrame(schema), Rejections(nothing), height)


def checked(given: Table, mapping: Mapping) -> ValidatedRows:
    """As a run does it: what occurs twice shows in a first pass."""
    columns = validate.resolve_columns(given.columns, mapping)
    texts = validate.validate_rows(given.frame, columns, mapping).texts
    repeated = {name: found.drop_nulls().filter(found.drop_nulls().is_duplicated()) for name, found in texts.items()}
    return validate.validate_rows(given.frame, columns, mapping, repeated)


def check(folder: Path, column: str, cells: list[str | None], *, excel: bool = False, more: str = "") -> ValidatedRows:
    path = folder / "feed.yaml"
    path.write_text((EXCEL if excel else FEED) % (column, more), encoding="utf-8")
    given = table(code=[f"{at}" for at in range(len(cells))], cell=cells)
    return checked(given, load.load_mapping(path))


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("{type: date, format: '%d.%m.%Y'}", "2.1.2024", date(2024, 1, 2)),
        ("{type: date, format: '%d.%m.%Y'}", "02.01.24", None),
        ("{type: date}", "24-01-02", None),
        ("{type: date, format: ['%Y-%m-%d', '%d/%m/%y']}", "02/01/24", date(2024, 1, 2)),
        ("{type: date, format: '%d.%m.%Y'}", "31.02.2024", None),
        ("{type: datetime, zone: Europe/Stockholm}", "2024-07-01 12:00:00", datetime(2024, 7, 1, 10, tzinfo=UTC)),
        ("{type: datetime, zone: Europe/Stockholm}", "2024-03-31 02:30:00", None),
        ("{type: datetime, format: '%Y-%m-%dT%H:%M:%S%z', zone: Europe/Stockholm}", "2024-07-01T12:00:00+05:00",
         datetime(2024, 7, 1, 7, tzinfo=UTC)),
        ("{type: datetime, format: '%Y-%m-%dT%H:%M:%SZ', zone: Europe/Stockholm}", "2024-07-01T12:00:00Z",
         datetime(2024, 7, 1, 12, tzinfo=UTC)),
        ("{type: decimal, decimal: ',', thousands: ' '}", "1\u202f234,50", Decimal("1234.5")),
        ("{type: decimal, decimal: ','}", "\u00a01,5\u00a0", Decimal("1.5")),
        ("{type: decimal}", "4.03899E+12", None),
        ("{type: integer}", "4.03899E+12", None),
        ("{type: decimal}", "1,5", None),
        ("{type: decimal}", "１２", None),
        ("{type: integer}", "１２", None),
        ("{type: integer}", "12.0", 12),
        ("{type: boolean, true: [på], false: [av]}", "pa\u030a", True),
        ("{in: [blå]}", "bla\u030a", "blå"),
        ("{pattern: '[0-9]{3}'}", "12a", None),
    ],
)  # fmt: skip
def test_a_cell(tmp_path: Path, column: str, cell: str, value: object) -> None:
    """A cell becomes its value exactly, or its row is rejected; nothing is read as something else."""
    found = check(tmp_path, column, [cell])
    assert found.frame["cell"].to_list() == ([] if value is None else [value])
    assert found.rejections.rows == (value is None)


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("{type: date, format: '%d.%m.%Y'}", "2024-01-02", date(2024, 1, 2)),
        ("{type: date}", "2024-01-02T00:00:00", date(2024, 1, 2)),
        ("{type: date}", "2024-01-02T13:45:00", None),
        ("{type: datetime, format: '%d.%m.%Y %H:%M'}", "2024-01-02T13:45:00", datetime(2024, 1, 2, 13, 45, tzinfo=UTC)),
        ("{type: datetime, zone: Europe/Stockholm}", "2024-01-02", datetime(2024, 1, 1, 23, tzinfo=UTC)),
        ("{type: decimal, decimal: ','}", "1234.5", Decimal("1234.5")),
        ("{type: decimal, decimal: ',', thousands: '.'}", "1.234", None),
        ("{type: decimal, decimal: ',', thousands: '.'}", "1.234,5", Decimal("1234.5")),
        ("{type: decimal, decimal: ',', thousands: '.'}", "1234.5", Decimal("1234.5")),
    ],
)
def test_a_cell_of_a_workbook(tmp_path: Path, column: str, cell: str, value: object) -> None:
    """Its numbers and days come as the reader of workbooks writes them; what could be two numbers is rejected."""
    found = check(tmp_path, column, [cell], excel=True)
    assert found.frame["cell"].to_list() == ([] if value is None else [value])


def test_bounds_of_days(tmp_path: Path) -> None:
    """Bounds of a moment are days in the column's own zone."""
    cells: list[str | None] = ["2024-01-01 00:30:00", "2023-12-31 23:30:00", "2024-12-31 23:30:00", None]
    column = "{type: datetime, zone: Europe/Stockholm, min: 2024-01-01, max: 2024-12-31}"
    found = check(tmp_path, column, cells)
    assert found.rejections.frame.select("row", "code").rows() == [(3, "min")]


def test_columns_that_are_unique_together(tmp_path: Path) -> None:
    """All rows that share their cells are rejected, judged by value; an empty cell makes a row no twin."""
    rule = "rules: [{name: once, unique: [code, cell]}]"
    path = tmp_path / "feed.yaml"
    path.write_text(FEED % ("{type: decimal}", rule), encoding="utf-8")
    given = table(code=["a", "a", "a", "b", "c", "c"], cell=["1.0", "1.00", "2", "1", None, None])
    found = checked(given, load.load_mapping(path))
    assert found.rejections.frame.select("row", "column", "code").rows() == [
        (2, "code", "unique"),
        (3, "code", "unique"),
    ]
    assert "code and cell together" in found.rejections.frame["message"][0]


def test_allowed_cells_from_a_file(tmp_path: Path) -> None:
    """The first column of a file beside the mapping; without the file the mapping is refused."""
    (tmp_path / "known.csv").write_text("code,name\nSEK,krona\nEUR,euro\n", encoding="utf-8")
    found = check(tmp_path, "{in: {file: known.csv}}", ["SEK", "NOK", None])
    assert found.rejections.frame.select("row", "code").rows() == [(3, "in")]
    (tmp_path / "known.csv").unlink()
    with pytest.raises(InvalidMappingError, match=r"known\.csv"):
        check(tmp_path, "{in: {file: known.csv}}", ["SEK"])


@pytest.mark.parametrize("header", ["Bena\u0308mning", "\ufeffBenämning", "Benämning\u00a0"])
def test_headers_are_compared_as_people_read_them(tmp_path: Path, header: str) -> None:
    """Composed or not, with blanks around or a stray mark: the same name."""
    path = tmp_path / "feed.yaml"
    path.write_text((FEED % ("{optional: true}", "")).replace("Code: code", "Code: code, Name: Benämning"))
    found = checked(table(code=["1"], **{header: ["x"]}), load.load_mapping(path))
    assert found.frame["Benämning"].to_list() == ["x"]


@pytest.mark.parametrize(
    ("column", "more", "sentence"),
    [
        ("{min: 0}", "", "`min` means nothing for a text column"),
        ("{type: date, min: yesterday}", "", "`min` is no day"),
        ("{type: boolean, true: [x], false: [X]}", "", '"x" means both yes and no'),
        ("{in: {column: x}}", "", "`in` is neither a list nor a file"),
        ("text", "rules: [{name: a, unique: [code]}]", "takes two columns or more"),
        ("text", "rules: [{name: a}]", "a rule has a name, and an sql or unique"),
    ],
)
def test_slips(tmp_path: Path, column: str, more: str, sentence: str) -> None:
    """What cannot be meant is named when the mapping is read, not when a file comes."""
    with pytest.raises(InvalidMappingError) as caught:
        check(tmp_path, column, ["1"], more=more)
    assert sentence in " ".join(problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252"])
def test_everything_is_trimmed_alike(encoding: str, tmp_path: Path) -> None:
    """Whatever the encoding can say: what surrounds a cell goes, the same in a column of ASCII as beside other letters,
    and the same as where the encoding tells that only usual white space can stand there."""
    signs = bytes(range(1, 256)).decode("windows-1252", "ignore")
    path = tmp_path / "feed.yaml"
    path.write_text((FEED % ("{type: text}", "")).replace("full}", f"full, encoding: {encoding}}}"), "utf-8")
    for text in (signs[:127], signs, signs + "е"):
        cells = [f"{sign}a{sign}" for sign in text]
        made = checked(table(code=list("1" * len(cells)), cell=list(cells)), load.load_mapping(path))
        trimmed = ["a" if sign in WHITESPACE else f"{sign}a{sign}" for sign in text]
        assert made.frame["cell"].to_list() == trimmed


def test_windows_1252_has_nothing_to_compose() -> None:
    """No two of its characters make a third."""
    signs = bytes(range(256)).decode("windows-1252", "ignore")
    assert is_simple_encoding("windows-1252")
    assert all(normalize("NFC", one + two) == one + two for one in signs for two in signs)
    assert not is_simple_encoding("utf-8")
    assert not is_simple_encoding("windows-1252|utf-8")


def test_a_clean_decimal_is_read_the_same_beside_an_untidy_one(tmp_path: Path) -> None:
    """Whether a whole piece is of the simplest form decides about speed, never about values."""
    cells = ["12,5", "-3", "0012,3400", None, "99999999999,9999"]
    column = "{type: decimal, decimal: ',', empty: %s}"
    for empty in ("[]", "['-3', '12,5']"):
        alone = check(tmp_path, column % empty, cells).frame["cell"].to_list()
        for untidy in (" 7,1", "7,10000", "+7,1", "x"):
            among = check(tmp_path, column % empty, [*cells, untidy])
            assert among.frame["cell"].to_list()[: len(cells)] == alone
        assert alone.count(None) == (1 if empty == "[]" else 3)


@pytest.mark.parametrize("spelling", ["true: ['sì', ja], false: [nej, '-']", "true: [ja], false: [nej]", "empty: [J]"])
def test_yes_and_no_are_read_the_same_beside_untidy_ones(spelling: str, tmp_path: Path) -> None:
    """Words as they are listed and in capitals are the simplest form; all spellings mean the same anyway."""
    cells = ["ja", "JA", "nej", None, "NEJ"]
    alone = check(tmp_path, f"{{type: boolean, {spelling}}}", cells)
    assert alone.frame["cell"].to_list() == [True, True, False, None, False]
    for untidy in ("Ja", " nej", "x9"):
        among = check(tmp_path, f"{{type: boolean, {spelling}}}", [*cells, untidy])
        assert among.frame["cell"].to_list()[: len(cells)] == alone.frame["cell"].to_list()
