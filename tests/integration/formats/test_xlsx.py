"""The quick way through a sheet and the exact parser agree, whatever stands in the workbook."""

from __future__ import annotations

import os
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl import formats
from etl.errors import InvalidFileError
from etl.formats.excel import xlsx, xlsx_strings
from etl.formats.excel.cell_text import format_kind
from etl.formats.excel.sheet import Sheet, WorkbookError
from etl.formats.excel.workbook import WorkbookAnswer, WorkbookRequest, open_sheet, write_table
from etl.formats.excel.xlsx_blocks import PatternMismatch
from etl.formats.excel.xlsx_cell_texts import cell_texts
from etl.formats.excel.xlsx_cells import WorkbookData, cell_text
from etl.model.columns import ROW
from etl.model.tables import Dialect
from tests.support.campaign import few_or_all

COUNT = int(os.environ.get("ETL_EXAMPLES") or few_or_all(100, 1000))
EXAMPLES = settings(max_examples=COUNT, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL, WHOLE = formats.ReadLimits(sheet_block_bytes=60), formats.ReadLimits()
SAMPLES = Path(os.environ.get("ETL_SAMPLES") or Path(__file__).parents[3].parent / "shared" / "samples")

pytestmark = pytest.mark.slow

CODES = ["General", "00000", "yyyy-mm-dd", "yyyy-mm-dd hh:mm", "hh:mm", "[h]:mm", "0.00", '"SKU-"0000', "000-000"]
SHARED = ["", "B2C", "röd & blå", "00123", "12,50", " x ", "<b>", "a\nb"]
BOOK = WorkbookData(CODES, pl.Series(SHARED), epoch_1904=False)

TEXTS = st.sampled_from(
    ["a", "röd", " x ", "", "  ", "a &amp; b", "&lt;&gt;", "a\nb", "_x000D_", "_x", "'", '"', "]", ">"]
)
NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "1", "-1", "007", "5.0", "1.50", "-0", "-0.0", "1E+20", "1e-7", " 5 ", "45351", "45351.5", "60"]
    ),
    st.integers(-(10**18), 10**18).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-(10**9), 10**9, places=2).map(str),
    st.floats(-1e9, 1e9).map(lambda value: f"{value:.17g}"),
    st.integers(1, 10**8).map(lambda cents: f"{cents / 100:.17g}"),
)


@st.composite
def usual_cell(draw: st.DrawFn, reference: str) -> str:
    """A cell as writers of large sheets write it."""
    kind = draw(st.sampled_from(["", ' t="n"', ' t="s"', ' t="str"', ' t="inlineStr"', ' t="b"', ' t="e"', ' t="d"']))
    style = draw(st.one_of(st.just(""), st.integers(0, len(CODES)).map(lambda place: f' s="{place}"')))
    attributes = draw(st.sampled_from([style + kind, kind + style]))
    if draw(st.integers(0, 9)) == 0:
        return f'<c r="{reference}"{attributes}/>'
    if kind == ' t="inlineStr"':
        space = draw(st.sampled_from(["", ' xml:space="preserve"']))
        return f'<c r="{reference}"{attributes}><is><t{space}>{draw(TEXTS)}</t></is></c>'
    values: dict[str, st.SearchStrategy[str]] = {
        ' t="s"': st.integers(0, len(SHARED) - 1).map(str),
        ' t="str"': TEXTS,
        ' t="b"': st.sampled_from(["0", "1", "true"]),
        ' t="e"': st.sampled_from(["#N/A", "#DIV/0!"]),
        ' t="d"': st.sampled_from(["2024-02-29", "2024-02-29T08:30:00", "2024-02-30"]),
    }
    value = draw(values.get(kind, NUMBERS))
    formula = ""
    if value and draw(st.integers(0, 3)) == 0:
        formula = draw(
            st.sampled_from(
                ["<f>A1*2</f>", '<f t="shared" ref="A1:A9" si="0">B2&amp;C2</f>', '<f t="shared" si="0"/>', "<f/>"]
            )
        )
    return f'<c r="{reference}"{attributes}>{formula}<v>{value}</v></c>'


ODD = ("²", "abc", "1_000", "&#65;", "&nbsp;", "a]]>b", "<![CDATA[<v>1</v>]]>", "\x01", "a\r\nb", "\ufffe", "&")
ODD_VALUES = st.sampled_from((*ODD, "1 2", "nan"))
#: Cells as few write them, or nobody should: @ is their place, @value and @text what is in them.
ODD_CELLS = (
    "<c><v>@value</v></c>",
    '<c r="@low"><v>@value</v></c>',
    '<c t="str" r="@"><v>@text</v></c>',
    '<c r="@" t="inlineStr"><is><r><t>a</t></r><r><t>@text</t></r></is></c>',
    '<c r="@" t="inlineStr"><is><t>@text</t><rPh sb="0" eb="1"><t>aid</t></rPh></is></c>',
    '<c r="@"><f>A1</f></c>',
    '<c r="@" t="str"><f>A1</f><v></v></c>',
    '<c r="@" t="e"><f>A1</f><v/></c>',
    '<c r="@" r="A1"><v>1</v></c>',
    '<c r="@" s="x"><v>1</v></c>',
    '<c r="@" s="-1"><v>1</v></c>',
    '<c r="@" t="s"><v>99</v></c>',
    '<c r="@" t="other"><v>@text</v></c>',
    '<c r="@"><v>@value</v><!-- <c r="B1"><v>1</v></c> --></c>',
    '<c r="@"><v>1</v></c ><c r="@"><v>2</v></c>',
    '<c r="@"><v>1</v>',
    '<c r="@"><v>1</v></c></row>',
    "<c r='@'><v>1</v></c>",
    '<c r="@" x="&amp;>"><v>1</v></c>',
    '<c r="@"s="1"><v>1</v></c>',
    '<c r="@" s="1"/ ><v>1</v></c>',
    '<c r="@"/><v>1</v></c>',
    '<c r="@9"><v>1</v></c>',
    '<c r="AAAA1"><v>1</v></c>',
    '<c r="@">\n<v>@value</v>\n</c>',
    '<c r="@" t="str"><v xml:space="preserve">@text</v></c>',
    '<c r="@"><v>@value</v><extLst><ext><v>7</v></ext></extLst></c>',
    '<c r="@"><f>A1</f><v></v></c>',
    '<c r="@"><v>1</v></c><d/>',
    '<c r="@"><v>1</v></c>text',
    '<c r="@" t="s"><v>8</v></c>',
    '<c r="@" t="str"><v>a&#65;b]]&gt;</v></c>',
)
ODD_HEADS = (
    *("<row", '<row ht="1" r="@"', '<row r="@" r="1"', "<row r='@'", '<row r="@" a="1" a="2"', '<row r="@"a="1"'),
    *('<row r="@" a="<"', '<row r="1"', '<row r="0@"', '<row r="@0"', '<row r="x"', '<row r="@"/', '<row\tr="@"'),
)
ODD_ENDS = (
    *("</row><!-- x -->", "<c/></row>", "", "</row><!-- ", " --></row>", "</row>x", "</row></sheetData>", "</row >"),
    *("</row></row>", "</row><other/>", "<?x y?></row>"),
)


NESTED_END = '<row r="8"><c r="A8"/></row></rPh></is></c></row>'  #: closes a row in which others stand as reading aids


def filled(template: str, place: str, value: str = "1", text: str = "a") -> str:
    """A template of ODD_CELLS as a cell."""
    return template.replace("@low", place.lower()).replace("@value", value).replace("@text", text).replace("@", place)


@st.composite
def odd_cell(draw: st.DrawFn, reference: str) -> str:
    """A cell as few write it, or nobody should."""
    value, text = draw(st.one_of(ODD_VALUES, NUMBERS)), draw(st.one_of(ODD_VALUES, TEXTS))
    return filled(draw(st.sampled_from(ODD_CELLS)), reference, value, text)


@st.composite
def a_sheet(draw: st.DrawFn, *, odd: bool) -> str:
    """The XML of a sheet; when that is asked for, one or two things in it are odd: more would hide one another."""
    places = ["number", "head", "cell", "cell", "cell", "cell", "twice", "end", "before", "after", "declared", "prefix"]
    oddities = draw(st.lists(st.sampled_from(places), max_size=2)) if odd else []

    def is_odd(what: str) -> bool:
        if what not in oddities or draw(st.integers(0, 2)):
            return False
        oddities.remove(what)
        return True

    lines, number = [], 0
    for _ in range(draw(st.integers(0, 5))):
        number += draw(st.sampled_from([0, -1, -2])) if is_odd("number") else draw(st.sampled_from([1, 1, 2]))
        head = f'<row r="{number}"' + draw(st.sampled_from(["", ' spans="1:3"', ' ht="15" customHeight="1"']))
        if is_odd("head"):
            head = draw(st.sampled_from(ODD_HEADS)).replace("@", str(number))
        if draw(st.integers(0, 9)) == 0:
            lines.append(f"{head}/>" + ("</row>" if is_odd("end") else ""))
            continue
        row = [
            draw(odd_cell(f"{letter}{number}") if is_odd("cell") else usual_cell(f"{letter}{number}"))
            for letter in draw(st.lists(st.sampled_from("ABCZ"), max_size=4, unique=True))
        ]
        if row and is_odd("twice"):
            row.append(draw(usual_cell(f"{draw(st.sampled_from('ABCZ'))}{number}")))
        lines.append(f"{head}>{''.join(row)}{draw(st.sampled_from(ODD_ENDS)) if is_odd('end') else '</row>'}")
        lines.append(draw(st.sampled_from(["", "", "\n"])))
    befores = ["<sheetData/><!-- <sheetData> -->", "<!-- <sheetData> -->", '<a b="<sheetData>"/>']
    before = draw(st.sampled_from(befores)) if "before" in oddities else ""
    merged = '<mergeCells><mergeCell ref="A1:B2"/></mergeCells>'
    after = "<!-- <row r='9'></row> -->" if "after" in oddities else draw(st.sampled_from(["", merged]))
    text = f"<worksheet>{before}<sheetData>{''.join(lines)}</sheetData>{after}</worksheet>"
    if draw(st.integers(0, 3)) == 0:
        text = re.sub(r"<(/?)(?=[A-Za-z])", r"<\1x:", text, count=7 if "prefix" in oddities else 0)
    if "declared" in oddities:
        return '<?xml version="1.0" encoding="ISO-8859-1"?>' + text
    return draw(st.sampled_from(["", '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\r\n'])) + text


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def told(
    way: Callable[..., Sheet], data: bytes, limits: formats.ReadLimits, book: WorkbookData = BOOK
) -> tuple[Any, ...] | None:
    """What a way through the sheet says of it; None when it does not read it."""
    try:
        sheet = way(pieces(data, 50), Sheet("S"), "part", book, 1, limits)
    except (WorkbookError, PatternMismatch, ValueError):
        return None
    frame = sheet.to_frame()
    return frame.columns, frame.rows(), sorted(sheet.cell_errors), sheet.merged_ranges, sheet.row_count


def sheet_of(rows: str) -> str:
    """The XML of a sheet with these rows."""
    return f"<worksheet><sheetData>{rows}</sheetData></worksheet>"


def rows_with(head: str = '<row r="@"', cell: str = "", end: str = "</row>", at: int = 4) -> str:
    """Seven rows, of which one begins, ends or goes on otherwise than the others."""
    usual = '<c r="A@"><v>@</v></c><c r="B@" s="1"/><c r="C@" t="s"><v>1</v></c>'
    lines = [f'<row r="@">{usual}</row>'.replace("@", str(number)) for number in range(1, 8)]
    lines[at - 1] = head.replace("@", str(at)) + ">" + usual.replace("@", str(at)) + cell + end
    return sheet_of("".join(lines))


@pytest.mark.parametrize(
    "text",
    [
        *(rows_with(cell=filled(cell, place)) for cell in ODD_CELLS for place in ("D4", "A4", "D3")),
        *(rows_with(cell=f'<c r="D4" t="str"><v>{value}</v></c>') for value in ODD),
        *(rows_with(cell=f'<c r="D4"><v>{value}</v></c>') for value in ODD),
        *(rows_with(head=head, at=at) for head in ODD_HEADS for at in (1, 4)),
        *(rows_with(end=end, at=at) for end in ODD_ENDS for at in (4, 7)),
        rows_with(head='<row r="5"', at=6),
        rows_with().replace("</sheetData>", '<row r="3"><c r="A3"><v>9</v></c></row></sheetData>'),
        rows_with().replace('<row r="1">', '<row r="9"><c r="A9"><v>9</v></c></row><row r="1">'),
        rows_with().replace("<sheetData>", "<sheetData/><!-- <sheetData>").replace("</worksheet>", "--></worksheet>"),
        rows_with().replace("<sheetData>", "<!-- <sheetData>").replace("</worksheet>", "--></worksheet>"),
        rows_with().replace('<row r="5"', '<!-- <row r="5"').replace("</sheetData>", "--></sheetData>"),
        rows_with(cell='<c r="D4"><is><rPh>', end="").replace("</sheetData>", f"{NESTED_END}</sheetData>"),
        re.sub(r"<(/?)(?=[A-Za-z])", r"<\1x:", rows_with()).replace("<x:v>4</x:v>", "<v>4</v>"),
        re.sub(r"<(/?)(?=[A-Za-z])", r"<\1x:", rows_with()).replace("<x:v>4</x:v>", "<x:v>4</v>"),
        '<?xml version="1.0" encoding="ISO-8859-1"?>' + rows_with(cell='<c r="D4" t="str"><v>röd</v></c>'),
    ],
)
def test_one_odd_thing_changes_nothing_else(text: str) -> None:
    """A single oddity among usual rows: read as the exact parser reads it, or left alone."""
    data = text.encode()
    exact = told(xlsx.parse_sheet_by_expat, data, WHOLE)
    for limits in (WHOLE, SMALL, formats.ReadLimits(sheet_block_bytes=300)):
        assert told(xlsx.parse_sheet_by_pattern, data, limits) in (None, exact)
    if exact is not None and not any(hidden in text for hidden in ("<!", "<rPh>")):  # the patterns count these, too
        assert exact[4] == sum(row[0] > 1 for row in exact[1])


@EXAMPLES
@given(text=a_sheet(odd=True))
@example(sheet_of('<row r="1"><c r="A1"><v>1</v></c></row><!-- </sheetData> <row r="2"></row>-->'))
@example(sheet_of('<row r="1"><c r="A1"><is></row><row r="2"><c r="A2"><v>1</v></c></row></is></c></row>'))
def test_what_is_read_at_once_is_what_the_exact_parser_reads(text: str) -> None:
    """Cells, faults, merged ranges and the count of rows: the quick way agrees, or leaves the sheet alone."""
    data = text.encode("utf-8", "surrogatepass")
    exact = told(xlsx.parse_sheet_by_expat, data, WHOLE)
    for limits in (WHOLE, SMALL):
        quick = told(xlsx.parse_sheet_by_pattern, data, limits)
        assert quick in (None, exact)


@EXAMPLES
@given(text=a_sheet(odd=False), epoch=st.booleans())
def test_usual_sheets_are_read_at_once(text: str, epoch: bool) -> None:
    """The quick way is taken, no row of such a sheet goes through expat, and the rows balance."""
    book = WorkbookData(CODES, BOOK.shared_texts, epoch)
    exact = told(xlsx.parse_sheet_by_expat, text.encode(), WHOLE, book)
    assert exact is not None
    for limits in (WHOLE, SMALL):
        sheet = xlsx.parse_sheet_by_pattern(pieces(text.encode(), 50), Sheet("S"), "part", book, 1, limits)
        assert not sheet.rows
        assert (
            sheet.to_frame().columns,
            sheet.to_frame().rows(),
            sorted(sheet.cell_errors),
            sheet.merged_ranges,
            sheet.row_count,
        ) == exact
        assert sheet.row_count == sheet.to_frame().filter(pl.col(ROW) > 1).height


@EXAMPLES
@given(
    values=st.lists(
        st.tuples(
            st.sampled_from(["n", "d", "b", "e", "str", "inlineStr", "s", "x"]),
            st.one_of(NUMBERS, TEXTS, ODD_VALUES).filter(bool),
            st.sampled_from(CODES),
        ),
        min_size=1,
    )
)
@example([("n", "-0.0", "General"), ("n", "-0.000", "General"), ("n", "0.10000000000000001", "General")])
def test_texts_of_many_cells_are_those_of_one_at_a_time(values: list[tuple[str, str, str]]) -> None:
    """Formats, dates, digits: what is done for whole columns is what the exact function says."""
    values = [value for value in values if value[0] != "s" or value[1] in ("0", "1", "7")]
    schema = dict.fromkeys(("kind", "raw", "code"), pl.String)
    frame = pl.DataFrame(values, schema, orient="row")
    hows = pl.Series("how", [format_kind(code) for code in frame["code"]], pl.String)
    found = cell_texts(frame.with_columns(hows), BOOK)
    for (kind, raw, code), text, fault in zip(values, found["text"], found["fault"], strict=True):
        try:
            assert (text, fault) == (cell_text(kind, raw, code, BOOK), False)
        except (ValueError, ArithmeticError):
            assert (text, fault) == (raw, True)


ITEMS = (
    *("<si><t>{}</t></si>", '<si><t xml:space="preserve">{}</t></si>', "<si><t/></si>", "<si/>", "<si></si>"),
    *("<si ><t>{}</t></si>", "<si><r><t>a</t></r><r><t>{}</t></r></si>", "<si><t>{}</t>", "<!-- <si> -->"),
    '<si><t>{}</t><rPh sb="0" eb="1"><t>aid</t></rPh></si>\n',
)


@EXAMPLES
@given(
    st.lists(st.sampled_from(ITEMS), max_size=8),
    st.lists(st.one_of(TEXTS, TEXTS, ODD_VALUES), min_size=8, max_size=8),
    st.sampled_from(["<sst>", '<sst count="9" uniqueCount="9">']),
)
def test_shared_texts_read_at_once_are_those_of_the_exact_parser(items: list[str], texts: list[str], head: str) -> None:
    """Rich text, reading aids, references and what is not well-formed: the same list, or none."""
    written = "".join(item.format(text) for item, text in zip(items, texts, strict=False))
    data = f"{head}{written}</sst>".encode()
    try:
        exact = xlsx_strings.parse_texts_by_expat(pieces(data, 50), "part").to_list()
    except WorkbookError:
        exact = None
    for limits in (WHOLE, SMALL):
        try:
            assert xlsx_strings.parse_texts_by_pattern(pieces(data, 50), "part", limits).to_list() == exact
        except (PatternMismatch, WorkbookError):
            assert exact is None or any(mark in written for mark in ("<si/>", "<!", "&#", "\r", "<si >", "]]"))


def book(path: Path, *, texts_apart: bool = True) -> Path:
    """A workbook with leading zeros, days, amounts, formulas and texts."""
    options = {} if texts_apart else {"constant_memory": True}
    with xlsxwriter.Workbook(path, options) as workbook:
        sheet = workbook.add_worksheet("Prices")
        code, day = workbook.add_format({"num_format": "00000"}), workbook.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write_row(0, 0, ["no", "day", "price", "name", "sum", "active"])
        for row in range(1, 40):
            sheet.write_number(row, 0, row, code)
            sheet.write_datetime(row, 1, date(2024, 2, 1 + row % 29), day)
            sheet.write_number(row, 2, row / 7)
            sheet.write_string(row, 3, f"röd & blå {row % 5}")
            sheet.write_formula(row, 4, f"=C{row + 1}*2", None, row)
            sheet.write_boolean(row, 5, row % 2 == 0)
    return path


def opened(path: Path, folder: Path) -> tuple[WorkbookAnswer, pl.DataFrame, pl.DataFrame] | None:
    """What the process that opens workbooks would answer; None for a refusal, and any other end is a mistake."""
    request = WorkbookRequest(str(path), path.name, str(folder), Dialect(format="excel"), WHOLE)
    try:
        answer = write_table(open_sheet(request), request)
    except (InvalidFileError, WorkbookError):
        return None
    return answer, pl.read_ipc((folder / "frame").read_bytes()), pl.read_ipc((folder / "malformed").read_bytes())


def same(
    one: tuple[WorkbookAnswer, pl.DataFrame, pl.DataFrame], other: tuple[WorkbookAnswer, pl.DataFrame, pl.DataFrame]
) -> bool:
    return one[0] == other[0] and one[1].equals(other[1]) and one[2].equals(other[2])


@pytest.mark.parametrize("texts_apart", [True, False])
def test_a_damaged_workbook_is_refused_or_read_as_it_was(tmp_path: Path, texts_apart: bool) -> None:
    """Flipped bits and missing ends of the archive itself: never fewer rows, never other cells, never a crash."""
    whole = book(tmp_path / "book.xlsx", texts_apart=texts_apart)
    data, right = whole.read_bytes(), opened(whole, tmp_path)
    assert right is not None
    chance = random.Random(7)
    refused = 0
    for _ in range(COUNT * 2):
        damaged = bytearray(data)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(data)) :]
        else:
            damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path = tmp_path / "damaged.xlsx"
        path.write_bytes(damaged)
        found = opened(path, tmp_path)
        refused += found is None
        assert found is None or same(found, right)
    assert refused > COUNT


def test_damaged_parts_are_read_at_once_as_the_exact_parser_reads_them(tmp_path: Path) -> None:
    """Flipped bits that no check sum shows: the quick way reads what the exact parser reads, or leaves it alone."""
    chance = random.Random(11)
    taken = 0
    for texts_apart in (True, False):
        with zipfile.ZipFile(book(tmp_path / "book.xlsx", texts_apart=texts_apart)) as archive:
            sheet = archive.read("xl/worksheets/sheet1.xml")
            shared = archive.read("xl/sharedStrings.xml") if texts_apart else b"<sst></sst>"
        texts = xlsx_strings.parse_texts_by_expat(pieces(shared, 50), "part")
        for _ in range(COUNT):
            damaged = bytearray(sheet)
            for _ in range(chance.choice([1, 1, 2])):
                at = chance.randrange(len(damaged))
                if chance.random() < 0.5:
                    damaged[at] ^= 1 << chance.randrange(8)
                else:
                    damaged[at : at + chance.choice([0, 1, 20])] = chance.choice(
                        [b"", b"1", b"<", b'"', b"</row>", b"<v>"]
                    )
            reference = WorkbookData(CODES, texts)
            quick = told(
                xlsx.parse_sheet_by_pattern,
                bytes(damaged),
                formats.ReadLimits(sheet_block_bytes=chance.choice([2_000, 1 << 20])),
                reference,
            )
            taken += quick is not None
            assert quick is None or quick == told(xlsx.parse_sheet_by_expat, bytes(damaged), WHOLE, reference)
    assert taken > COUNT / 10


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no sample files: ETL_SAMPLES or {SAMPLES.name}/ beside")
def test_sample_workbooks_are_read_at_once_as_the_exact_parser_reads_them() -> None:
    """Workbooks of many writers, every sheet of them."""
    taken = left = 0
    for path in sorted(SAMPLES.rglob("*.xls[xm]")):
        try:
            with zipfile.ZipFile(path) as archive:
                tabs, epoch, main = xlsx.read_sheet_list(archive)
                parts = dict(xlsx.read_relations(archive, main).values())
                styles = xlsx.read_number_formats(archive, parts["styles"]) if "styles" in parts else []
                names = archive.namelist()
                shared = archive.read(parts["sharedStrings"]) if parts.get("sharedStrings") in names else b"<sst></sst>"
                reference = WorkbookData(styles, xlsx_strings.parse_texts_by_expat([shared], "part"), epoch)
                sheets = [archive.read(tab.part) for tab in tabs if tab.part in names]
        except (WorkbookError, zipfile.BadZipFile, KeyError, ValueError):
            continue
        for data in sheets:
            quick = told(xlsx.parse_sheet_by_pattern, data, WHOLE, reference)
            taken += quick is not None
            left += quick is None
            assert quick is None or quick == told(xlsx.parse_sheet_by_expat, data, WHOLE, reference), path
    assert taken > left
