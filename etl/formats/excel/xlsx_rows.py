"""Rows of a sheet by pattern, a block of them at a time: one step over all cells instead of three calls for each.

The pattern covers what writers of large sheets write. A row with anything else in it goes to the exact parser, and so
does the whole sheet where rows or cells come out of order or without their places. A cell is taken when its text as a
whole fits the pattern, so nothing between two cells can be overlooked.
"""

from __future__ import annotations

from xml.parsers import expat

import polars as pl

from etl.formats.excel import cell_text as cells
from etl.formats.excel.sheet import CELLS
from etl.formats.excel.xlsx_blocks import SPACE, Unproven, holds, plain_text
from etl.formats.excel.xlsx_cell_texts import shown
from etl.formats.excel.xlsx_cells import Book, column
from etl.formats.limits import Limits

HEAD = r'^r="(?<row>[0-9]{1,7})"(?<attributes>[^<>]*)>[ \t\n]*$'
FORMULA = (
    r'(?:(?<formula>f)(?: t="[A-Za-z]+")?(?: aca="[01]")?(?: ref="[A-Z0-9:$]+")?(?: ca="[01]")?(?: si="[0-9]+")?'
    r"(?:/>|>[^<]*</f>)<)?"
)
CALCULATED = (
    r'^r="(?<col>[A-Z]+)(?<row>[0-9]+)"(?<attributes>[^<>]*)>(?:(?<open><)(?:/c>|'
    + FORMULA
    + r'(?:v>(?<v>[^<]*)</v|is><t(?: xml:space="preserve")?>(?<t>[^<]*)</t></is)></c>))?[ \t\n]*$'
)
PLAIN = CALCULATED.replace(FORMULA, "")  #: takes half the time
FEW, UNUSUAL = 100, 0.5  #: rows, and their share, for the exact parser; above both it had better take them all


class Rows:
    """Takes blocks of rows, and keeps their cells."""

    def __init__(self, book: Book, limits: Limits) -> None:
        self.book, self.limits = book, limits
        self.parts: list[pl.DataFrame] = []  #: of the schema CELLS
        self.faults: list[tuple[int, int, str]] = []
        self.last = 0  #: number of the last row that was seen
        self.seen = self.unusual = self.filled = 0  #: rows

    def take(self, block: pl.Series) -> list[str]:
        """Rows that do not fit, to be parsed by expat."""
        rows = block.str.split("<row ").explode()
        if rows[0].strip(SPACE):
            raise Unproven("something stands between rows")
        rows = rows.slice(1)
        pieces = pl.DataFrame(rows.str.strip_chars_end(SPACE).str.strip_suffix("</row>").str.split("<c "))
        pieces = pieces.with_row_index("at").explode("text")
        first = pieces["at"].is_first_distinct()
        heads = _heads(pieces.filter(first), rows)
        self._check_order(heads["row"])
        found = self._cells(pieces.filter(~first), heads, formulas=holds(block, "<f"))
        unusual = pl.concat([heads.filter(~pl.col("good"))["at"], found.filter(~pl.col("good"))["at"]]).unique().sort()
        self.seen += rows.len()
        self.unusual += unusual.len()
        if self.unusual > max(FEW, self.seen * UNUSUAL):
            raise Unproven("most rows are unusual")
        if unusual.len():
            found = found.filter(~pl.col("at").is_in(unusual.implode()))
        self._keep(found.filter(pl.col("raw") != ""), references=holds(block, "&"))
        return ["<row " + text for text in rows.gather(unusual).to_list()]

    def _check_order(self, numbers: pl.Series) -> None:
        if numbers.has_nulls() or numbers[0] <= self.last or not (numbers.diff().slice(1) > 0).all():
            raise Unproven("rows are not numbered in order")
        self.last = int(numbers[-1])

    def _cells(self, pieces: pl.DataFrame, heads: pl.DataFrame, *, formulas: bool) -> pl.DataFrame:
        """Every cell with its row's place in the block, and whether it and its place are understood."""
        found = pieces.select(
            "at", pl.col("text").str.extract_groups(CALCULATED if formulas else PLAIN).struct.unnest()
        )
        found = found.with_columns(pl.col("row").cast(pl.Int64, strict=False), pl.coalesce("v", "t").alias("raw"))
        known = found["attributes"].drop_nulls().unique()
        found = found.join(self._kinds(known.to_list()), on="attributes", how="left", maintain_order="left")
        number = heads["row"].gather(found["at"])
        good = pl.col("col").is_not_null() & (pl.col("row") == number) & (pl.col("closed") == pl.col("open").is_null())
        if formulas:
            good &= pl.col("formula").is_null() | (pl.col("raw") != "")
        return found.with_columns(good.fill_null(False).alias("good"))

    def _kinds(self, attributes: list[str]) -> pl.DataFrame:
        """What attributes of cells say, each distinct text once."""
        table = []
        for text, one in zip(attributes, _attributes("c", attributes), strict=True):
            kind, style = one.get("t", "n"), one.get("s", "0")
            code = self.book.format(style) if kind in ("n", "d") else ""
            table.append((text, text.endswith("/"), kind, code, cells.kind(code)))
        schema = {"attributes": pl.String, "closed": pl.Boolean, "kind": pl.String, "code": pl.String, "how": pl.String}
        return pl.DataFrame(table, schema, orient="row")

    def _keep(self, found: pl.DataFrame, *, references: bool) -> None:
        if not found.height:
            return
        longest = found["raw"].str.len_bytes().max()
        if isinstance(longest, int) and longest > self.limits.cell:
            raise Unproven("a long cell")
        letters = found["col"].unique()
        places = [column(letter) for letter in letters]
        if max(places, default=0) > self.limits.columns:
            raise Unproven("a cell far to the right")
        raw = plain_text(pl.col("raw")) if references else pl.col("raw")
        found = found.select(
            "row", pl.col("col").replace_strict(letters, places, return_dtype=pl.UInt16), raw, "kind", "code", "how"
        )
        place = found["row"] * 2**16 + found["col"]
        if not (place.diff().slice(1) > 0).all() and place.n_unique() < place.len():
            raise Unproven("two cells in one place")
        found = shown(found, self.book)
        self.faults += found.filter("fault").select("row", "col", "text").rows()
        part = found.select(CELLS.keys()).filter((pl.col("text") != "") | found["fault"])
        self.filled += part["row"].n_unique()
        if self.filled > self.limits.rows:
            raise Unproven("many rows")
        if part.height:
            self.parts.append(part)


def _heads(first: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Number of every row, and whether its beginning and its end are understood."""
    heads = first.select("at", pl.col("text").str.extract_groups(HEAD).struct.unnest(), rows.alias("whole"))
    known = heads["attributes"].drop_nulls().unique().to_list()
    _attributes("row", known)
    closed = pl.col("attributes").str.ends_with("/")
    ends = pl.col("whole").str.strip_chars_end(SPACE).str.ends_with("</row>")
    return heads.select("at", pl.col("row").cast(pl.Int64), (closed != ends).fill_null(False).alias("good"))


def _attributes(tag: str, texts: list[str]) -> list[dict[str, str]]:
    """Attributes behind the first one, `r`, as expat understands them."""
    found: list[dict[str, str]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append(attributes) if name == tag else None
    try:
        parser.Parse("<all>" + "".join(f'<{tag} r="1"{text.removesuffix("/")}/>' for text in texts) + "</all>", True)
    except expat.ExpatError:
        raise Unproven("attributes that are not well-formed") from None
    if len(found) != len(texts):
        raise Unproven("attributes that are more than that")
    return found
