"""Rows of a sheet by pattern, a block of them at a time: one step over all cells instead of three calls for each.

The pattern covers what writers of large sheets write. A row with anything else in it goes to the exact parser, and so
does the whole sheet where rows or cells come out of order or without their places. A cell is taken when its text as a
whole fits the pattern, so nothing between two cells can be overlooked.
"""

from __future__ import annotations

from xml.parsers import expat

import polars as pl

from etl.formats.excel import cell_text
from etl.formats.excel.sheet import CELL_SCHEMA
from etl.formats.excel.xlsx_blocks import XML_SPACE, PatternMismatch, contains_text, resolve_references
from etl.formats.excel.xlsx_cell_texts import cell_texts
from etl.formats.excel.xlsx_cells import WorkbookData, column_number
from etl.formats.limits import ReadLimits

ROW_START = r'^r="(?<row>[0-9]{1,7})"(?<attributes>[^<>]*)>[ \t\n]*$'
FORMULA_PATTERN = (
    r'(?:(?<formula>f)(?: t="[A-Za-z]+")?(?: aca="[01]")?(?: ref="[A-Z0-9:$]+")?(?: ca="[01]")?(?: si="[0-9]+")?'
    r"(?:/>|>[^<]*</f>)<)?"
)
CELL_WITH_FORMULA = (
    r'^r="(?<col>[A-Z]+)(?<row>[0-9]+)"(?<attributes>[^<>]*)>(?:(?<open><)(?:/c>|'
    + FORMULA_PATTERN
    + r'(?:v>(?<v>[^<]*)</v|is><t(?: xml:space="preserve")?>(?<t>[^<]*)</t></is)></c>))?[ \t\n]*$'
)
CELL_WITHOUT_FORMULA = CELL_WITH_FORMULA.replace(FORMULA_PATTERN, "")  #: takes half the time
FEW_UNUSUAL, UNUSUAL_SHARE = (
    100,
    0.5,
)  #: rows, and their share, for the exact parser; above both it had better take them all


class RowBlocks:
    """Takes blocks of rows, and keeps their cells."""

    def __init__(self, book: WorkbookData, limits: ReadLimits) -> None:
        self.book, self.limits = book, limits
        self.parts: list[pl.DataFrame] = []  #: of the schema CELLS
        self.cell_errors: list[tuple[int, int, str]] = []
        self.last_row = 0  #: number of the last row that was seen
        self.row_count = self.unusual_count = self.filled_count = 0  #: rows

    def take_block(self, block: pl.Series) -> list[str]:
        """Take a block and return the rows that do not fit the pattern, to be parsed by expat."""
        rows = block.str.split("<row ").explode()
        if rows[0].strip(XML_SPACE):
            raise PatternMismatch("something stands between rows")
        rows = rows.slice(1)
        pieces = pl.DataFrame(rows.str.strip_chars_end(XML_SPACE).str.strip_suffix("</row>").str.split("<c "))
        pieces = pieces.with_row_index("at").explode("text")
        first = pieces["at"].is_first_distinct()
        heads = _row_starts(pieces.filter(first), rows)
        self._check_order(heads["row"])
        found = self._read_cells(pieces.filter(~first), heads, formulas=contains_text(block, "<f"))
        unusual = pl.concat([heads.filter(~pl.col("good"))["at"], found.filter(~pl.col("good"))["at"]]).unique().sort()
        self.row_count += rows.len()
        self.unusual_count += unusual.len()
        if self.unusual_count > max(FEW_UNUSUAL, self.row_count * UNUSUAL_SHARE):
            raise PatternMismatch("most rows are unusual")
        if unusual.len():
            found = found.filter(~pl.col("at").is_in(unusual.implode()))
        self._store_cells(found.filter(pl.col("raw") != ""), references=contains_text(block, "&"))
        return ["<row " + text for text in rows.gather(unusual).to_list()]

    def _check_order(self, numbers: pl.Series) -> None:
        if numbers.has_nulls() or numbers[0] <= self.last_row or not (numbers.diff().slice(1) > 0).all():
            raise PatternMismatch("rows are not numbered in order")
        self.last_row = int(numbers[-1])

    def _read_cells(self, pieces: pl.DataFrame, heads: pl.DataFrame, *, formulas: bool) -> pl.DataFrame:
        """Return every cell with its row's place in the block, and whether it and its place are understood."""
        found = pieces.select(
            "at",
            pl.col("text").str.extract_groups(CELL_WITH_FORMULA if formulas else CELL_WITHOUT_FORMULA).struct.unnest(),
        )
        found = found.with_columns(pl.col("row").cast(pl.Int64, strict=False), pl.coalesce("v", "t").alias("raw"))
        known = found["attributes"].drop_nulls().unique()
        found = found.join(
            self._kinds_of_attributes(known.to_list()), on="attributes", how="left", maintain_order="left"
        )
        number = heads["row"].gather(found["at"])
        good = pl.col("col").is_not_null() & (pl.col("row") == number) & (pl.col("closed") == pl.col("open").is_null())
        if formulas:
            good &= pl.col("formula").is_null() | (pl.col("raw") != "")
        return found.with_columns(good.fill_null(False).alias("good"))

    def _kinds_of_attributes(self, attributes: list[str]) -> pl.DataFrame:
        """Return what the attributes of cells mean, each distinct text once."""
        table = []
        for text, one in zip(attributes, _parse_attributes("c", attributes), strict=True):
            kind, style = one.get("t", "n"), one.get("s", "0")
            code = self.book.number_format(style) if kind in ("n", "d") else ""
            table.append((text, text.endswith("/"), kind, code, cell_text.format_kind(code)))
        schema = {"attributes": pl.String, "closed": pl.Boolean, "kind": pl.String, "code": pl.String, "how": pl.String}
        return pl.DataFrame(table, schema, orient="row")

    def _store_cells(self, found: pl.DataFrame, *, references: bool) -> None:
        if not found.height:
            return
        longest = found["raw"].str.len_bytes().max()
        if isinstance(longest, int) and longest > self.limits.record_characters:
            raise PatternMismatch("a long cell")
        letters = found["col"].unique()
        places = [column_number(letter) for letter in letters]
        if max(places, default=0) > self.limits.columns:
            raise PatternMismatch("a cell far to the right")
        raw = resolve_references(pl.col("raw")) if references else pl.col("raw")
        found = found.select(
            "row", pl.col("col").replace_strict(letters, places, return_dtype=pl.UInt16), raw, "kind", "code", "how"
        )
        place = found["row"] * 2**16 + found["col"]
        if not (place.diff().slice(1) > 0).all() and place.n_unique() < place.len():
            raise PatternMismatch("two cells in one place")
        found = cell_texts(found, self.book)
        self.cell_errors += found.filter("fault").select("row", "col", "text").rows()
        part = found.select(CELL_SCHEMA.keys()).filter((pl.col("text") != "") | found["fault"])
        self.filled_count += part["row"].n_unique()
        if self.filled_count > self.limits.rows:
            raise PatternMismatch("many rows")
        if part.height:
            self.parts.append(part)


def _row_starts(first: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Number of every row, and whether its beginning and its end are understood."""
    heads = first.select("at", pl.col("text").str.extract_groups(ROW_START).struct.unnest(), rows.alias("whole"))
    known = heads["attributes"].drop_nulls().unique().to_list()
    _parse_attributes("row", known)
    closed = pl.col("attributes").str.ends_with("/")
    ends = pl.col("whole").str.strip_chars_end(XML_SPACE).str.ends_with("</row>")
    return heads.select("at", pl.col("row").cast(pl.Int64), (closed != ends).fill_null(False).alias("good"))


def _parse_attributes(tag: str, texts: list[str]) -> list[dict[str, str]]:
    """Parse the attributes behind the first one, `r`, as expat does."""
    found: list[dict[str, str]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append(attributes) if name == tag else None
    try:
        parser.Parse("<all>" + "".join(f'<{tag} r="1"{text.removesuffix("/")}/>' for text in texts) + "</all>", True)
    except expat.ExpatError:
        raise PatternMismatch("attributes that are not well-formed") from None
    if len(found) != len(texts):
        raise PatternMismatch("attributes that are more than that")
    return found
