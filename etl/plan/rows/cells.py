"""Cleans and parses the texts of cells, as polars expressions, exact and without guessing.

Decimals never pass through floats. A text that does not parse becomes null; `etl.plan.rows.validate` distinguishes it
from an empty cell.
"""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Iterable

import polars as pl

from etl.mapping.model import Column
from etl.mapping.text import WHITESPACE

#: Numbers as Connect gets them: at most 15 digits, so that a JSON number holds them exactly.
NUMBER_TYPE = pl.Decimal(18, 4)

#: Formats in which the reader of workbooks returns days and times.
WORKBOOK_DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT00:00:00")
WORKBOOK_DATETIME_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")


#: Characters that NFC may change, and many that it does not: all but Latin letters and common punctuation.
_NORMALIZABLE = r"[^\x{0}-\x{2FF}\x{2010}-\x{203A}\x{20A0}-\x{20BF}\x{2122}]"


def is_normalized(text: pl.Expr) -> pl.Expr:
    """Whether NFC certainly changes none of these texts."""
    return ~text.str.contains(_NORMALIZABLE).any()


@functools.cache
def is_simple_encoding(encoding: str) -> bool:
    """Whether a text in this encoding is always in NFC, and its white space that of polars and of WHITESPACE."""
    return all(codecs.lookup(part.strip()).name in ("ascii", "cp1252") for part in encoding.split("|"))


def clean_text(text: pl.Expr, column: Column, *, normalized: bool, simple_whitespace: bool) -> pl.Expr:
    """Trim a text and bring it to NFC.

    Args:
        normalized: all texts are in NFC, so that the slow normalization is left out.
        simple_whitespace: the texts contain only white space that polars knows, which it trims faster.
    """
    if column.trim:
        text = text.str.strip_chars(None if simple_whitespace else WHITESPACE)
    return text if normalized else text.str.normalize("NFC")


def null_if_empty(text: pl.Expr, column: Column) -> pl.Expr:
    """Replace empty texts, and the words of `empty`, by null."""
    filled: pl.Expr = ~text.is_in(["", *column.empty]) if column.empty else text.ne("")
    return pl.when(filled).then(text)


#: Types with a canonical form, which is parsed faster.
CANONICAL_TYPES = ("boolean", "decimal")


def is_canonical(text: pl.Expr, column: Column) -> pl.Expr:
    """Whether all texts are in the canonical form: they are valid, and cleaning changes none of them.

    Decimals have only digits and a mark, as many as Connect takes; booleans are words as listed, or in capitals.
    """
    if column.type == "boolean":
        return text.is_in([*_spellings(column.true), *_spellings(column.false)]).all()
    return text.str.contains(rf"^-?[0-9]{{1,11}}(?:{re.escape(column.decimal)}[0-9]{{1,4}})?$").all()


def _spellings(words: Iterable[str]) -> list[str]:
    """Return words as cells contain them: as listed, and in capitals."""
    return [form for word in words if word.isascii() and word.isalnum() for form in (word, word.upper())]


def parse_text(text: pl.Expr, column: Column, *, excel: bool, canonical: bool = False) -> pl.Expr:
    """Parse a text to the column's type, or null; `canonical` texts have passed `is_canonical`."""
    match column.type:
        case "decimal":
            return _parse_decimal(text, column, excel=excel, canonical=canonical)
        case "integer":
            digits = _normalize_number(text, column, excel=excel).str.replace(r"\.0+$", "")
            return pl.when(digits.str.contains(r"^-?\d{1,18}$")).then(digits).cast(pl.Int64, strict=False)
        case "boolean" if canonical:
            return text.is_in(_spellings(column.true))
        case "boolean":
            lower = text.str.to_lowercase()
            return (
                pl.when(lower.is_in([word.lower() for word in column.true]))
                .then(True)
                .when(lower.is_in([word.lower() for word in column.false]))
                .then(False)
            )
        case "date":
            shapes = (*column.formats, *(WORKBOOK_DATE_FORMATS if excel else ()))
            return _null_before_year_1000(
                pl.coalesce(text.str.strptime(pl.Date, shape, strict=False) for shape in shapes)
            )
        case "datetime":
            shapes = (*column.formats, *(WORKBOOK_DATETIME_FORMATS if excel else ()))
            return _null_before_year_1000(pl.coalesce(_parse_datetime(text, shape, column.zone) for shape in shapes))
        case _:
            return text


def _parse_datetime(text: pl.Expr, format: str, zone: str) -> pl.Expr:
    """Parse a time to UTC; `zone` counts where the format has no distance from UTC."""
    if re.search(r"%:{0,3}z|%#z|%s|Z$", format):
        return text.str.strptime(pl.Datetime("us", "UTC"), format, strict=False)
    local = text.str.strptime(pl.Datetime("us"), format, strict=False)
    return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _null_before_year_1000(moment: pl.Expr) -> pl.Expr:
    """Replace times before the year 1000 by null: `%Y` reads `02.01.24` as the year 24, but it has another format."""
    return pl.when(moment.dt.year() >= 1000).then(moment)


def describe_type(column: Column) -> str:
    """Describe a valid cell in words."""
    match column.type:
        case "decimal":
            mark = f' and "{column.thousands}" between thousands' if column.thousands else ""
            return f'decimal with the mark "{column.decimal}"{mark}'
        case "integer":
            return "whole number"
        case "boolean":
            return f"yes or no ({'/'.join(column.true[:3])}, {'/'.join(column.false[:3])})"
        case _:
            return f"{column.type} written {' or '.join(column.formats)}"


def _normalize_number(text: pl.Expr, column: Column, *, excel: bool) -> pl.Expr:
    """Rewrite a number of the column to the form `-1234.5`; null where marks and groups do not fit."""
    mark = re.escape(column.decimal)
    group = re.escape(column.thousands) if column.thousands else ""
    if column.thousands and column.thousands.isspace():
        group = "[ \u00a0\u2009\u202f]"
    shape = rf"\d{{1,3}}(?:{group}\d{{3}})+|\d+" if group else r"\d+"
    fits = text.str.contains(rf"^[+-]?(?:{shape})(?:{mark}\d+)?-?$|^[+-]?{mark}\d+$")
    plain = text.str.replace_all(group, "") if group else text
    plain = plain.str.replace_all("+", "", literal=True).str.replace(r"^([^-].*)-$", "-$1")
    plain = plain.str.replace(column.decimal, ".", literal=True) if column.decimal != "." else plain
    number: pl.Expr = pl.when(fits & ~text.str.contains(r"^[+-].*-$")).then(plain)
    if excel:
        # A number cell of a workbook always has a point as its mark. Where the column has points between thousands,
        # `1.234` is ambiguous: it may be a text cell.
        cell = text.str.contains(r"^-?\d+(?:\.\d+)?$")
        ambiguous = text.str.contains(r"^-?\d{1,3}\.\d{3}$") if column.thousands == "." else pl.lit(False)
        number = pl.when(cell & ~ambiguous).then(text).when(~cell).then(number)
    return number


def _parse_decimal(text: pl.Expr, column: Column, *, excel: bool, canonical: bool) -> pl.Expr:
    if canonical:
        number = text.str.replace(column.decimal, ".", literal=True) if column.decimal != "." else text
    else:
        number = _normalize_number(text, column, excel=excel)
    wide = number.cast(pl.Decimal(38, 12), strict=False)
    if excel and column.round is None:
        wide = wide.round(8, mode="half_away_from_zero")  # a workbook stores binary floats: 0.1+0.2
    if column.round is not None:
        wide = wide.round(column.round, mode="half_away_from_zero")
    return wide


def digits_fit(text: pl.Expr, value: pl.Expr, column: Column) -> pl.Expr:
    """Whether Connect takes a decimal unchanged: at most 11 digits before and 4 after the mark."""
    fits = (value.abs() < 10**11) & (value == value.round(4))
    if column.round is None:  # beyond 12 decimals the parser has rounded
        fits = fits & ~text.str.contains(rf"{re.escape(column.decimal)}\d{{13,}}")
    return fits


def to_wire_scale(name: str, column: Column) -> pl.Expr:
    """Return a valid column for the records: decimals in the scale of NUMBER_TYPE."""
    return pl.col(name).cast(NUMBER_TYPE, strict=False) if column.type == "decimal" else pl.col(name)
