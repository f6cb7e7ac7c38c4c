"""Converts source columns to the types of Connect's fields: look-up tables, replacements, defaults, exact conversions.

A cell that cannot be converted gives null, and the conversion says why its row is rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace

import polars as pl
from polars.exceptions import PolarsError

from etl.contract import spec
from etl.contract.spec import Field
from etl.mapping.layout import Leaf
from etl.mapping.model import Column, Mapping, Scalar, Value, bind_pattern
from etl.plan.rows import sql_values
from etl.plan.rows.cells import NUMBER_TYPE

_ROUNDED_CODE = r"^[0-9][.,][0-9]+[eE]\+[0-9]{1,2}$"
_ISO_DATETIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason to reject rows: the cell gives no value, or none that Connect takes."""

    condition: pl.Expr  #: whether a row fails
    shown: pl.Expr  #: the value in the rejection
    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """A leaf's value for every row, and the reasons to reject rows."""

    value: pl.Expr
    failures: tuple[Failure, ...] = ()


def convert_leaf(leaf: Leaf, mapping: Mapping, frame: pl.DataFrame, captures: tuple[str, ...] | None) -> Conversion:
    """Convert a leaf's value over a frame of typed source columns; `captures` binds the texts of a column pattern."""
    value = bind_pattern(leaf.value, captures) if mapping.per else leaf.value
    if value.kind == "constant":
        if value.text and isinstance(value.constant, str):  # The text is part of a column's name: it may be anything.
            return convert_value(pl.lit(value.constant), pl.String(), replace(value, replace=()), leaf.field)
        return Conversion(pl.lit(constant_value(value.constant, leaf.field), dtype=dtype(leaf.field)))
    source, source_type, failures = _evaluate_source(value, frame)
    conversion = convert_value(source, source_type, value, leaf.field)
    conversion = replace(conversion, failures=(*failures, *conversion.failures))
    if leaf.field.type == "string" and (leaf.key or leaf.identifier or leaf.field.role == "code"):
        return replace(conversion, failures=(*conversion.failures, _rounded_code_failure(conversion.value)))
    return conversion


def _evaluate_source(value: Value, frame: pl.DataFrame) -> tuple[pl.Expr, pl.DataType, tuple[Failure, ...]]:
    """Return the source of a value and its type; where an SQL expression fails, the source is null."""
    if value.kind != "sql":
        return pl.col(value.text), frame.schema[value.text], ()
    source = pl.sql_expr(value.text)
    try:
        values = frame.select(source.alias("v"))["v"]
    except PolarsError:
        found = sql_values.separate_failures(frame, source)
    else:
        if not values.dtype.is_integer():
            return source, values.dtype, ()
        found = sql_values.separate_overflows(frame, source, values)
        if not found.failed.any():
            return source, values.dtype, ()
    failure = Failure(
        pl.lit(found.failed), sql_values.cells(source), sql_values.CODE, sql_values.message(value.text), sql_values.HINT
    )
    return pl.lit(found.values), found.values.dtype, (failure,)


def convert_value(source: pl.Expr, source_type: pl.DataType, value: Value, field: Field) -> Conversion:
    """Convert a source expression to the field's type; `replace`, `map` and `default` apply in that order."""
    if value.replace or value.lookup is not None:
        source, source_type = _replace_texts(_to_text(source, source_type), value), pl.String()
    if value.lookup is not None:
        conversion = _look_up(source, value.lookup, value, field)
    elif value.kind == "column" and source_type == NUMBER_TYPE and field.type == "number":
        conversion = Conversion(source)  # The checks of the column have found that Connect takes these decimals.
    else:
        conversion = _CONVERTERS.get(field.type, _to_string)(source, source_type, field)
    result, failures = conversion.value, conversion.failures
    if value.default is not None:
        result = result.fill_null(pl.lit(constant_value(value.default, field), dtype=dtype(field)))
    if field.max_length and field.type in ("string", "uri", "uuid"):
        failures = (*failures, _too_long_failure(result, field, field.max_length))
    return Conversion(result, failures)


def _replace_texts(text: pl.Expr, value: Value) -> pl.Expr:
    for old, new in value.replace:
        text = text.str.replace_all(old, new, literal=True)
    return text


def _look_up(text: pl.Expr, lookup: Map[str, Scalar], value: Value, field: Field) -> Conversion:
    """Look texts up in the `map` of a value; without a `default`, rows with other texts are rejected."""
    keys = list(lookup)
    constants = [constant_value(lookup[key], field) for key in keys]
    result = text.replace_strict(keys, constants, default=None, return_dtype=dtype(field))
    if value.default is not None:
        return Conversion(result)
    message, hint = f"is not in the map ({', '.join(keys[:6])})", "add it to `map`, or give a `default`"
    return Conversion(result, (Failure(text.is_not_null() & result.is_null(), text, "not-in-map", message, hint),))


def _rounded_code_failure(text: pl.Expr) -> Failure:
    """Reject codes that a spreadsheet has taken for numbers: most of their digits are lost."""
    return Failure(
        text.str.contains(_ROUNDED_CODE),
        text,
        "rounded-code",
        "was rounded by a spreadsheet; its digits are lost",
        "export it again, with the column formatted as text, or leave the field out of the record",
    )


def _too_long_failure(text: pl.Expr, field: Field, limit: int) -> Failure:
    message = f"is longer than {limit} characters, Connect's limit for {field.name}"
    return Failure(text.str.len_chars() > limit, text, "too-long", message, "shorten the text")


def _parsed(source: pl.Expr, result: pl.Expr, field: Field, message: str, hint: str) -> Conversion:
    """Return a conversion that rejects every row whose source is not empty and whose result is null."""
    failure = Failure(source.is_not_null() & result.is_null(), source, "not-" + field.type, message, hint)
    return Conversion(result, (failure,))


def _to_number(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    if source_type == pl.String:
        number = source.str.strip_chars().cast(NUMBER_TYPE, strict=False)
    else:
        exact = source.cast(pl.Decimal(38, 12), strict=False).round(4, mode="half_away_from_zero")
        number = pl.when(exact.abs() < 10**11).then(exact).cast(NUMBER_TYPE)
    message, hint = "is no number that Connect takes", "at most 11 digits before and 4 after the mark"
    return _parsed(source, number, field, message, hint)


def _to_integer(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    if source_type == pl.Int64:
        return Conversion(source)
    number = source.cast(pl.Int64, strict=False)
    if source_type.is_decimal() or source_type.is_float():
        number = pl.when(source == number).then(number)
    return _parsed(source, number, field, "is no whole number", "Connect takes no fractions here")


def _to_boolean(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    """Convert the words that a column of type boolean accepts by default."""
    if source_type == pl.Boolean:
        return Conversion(source)
    defaults = Column("")
    words = {**dict.fromkeys(defaults.true, True), **dict.fromkeys(defaults.false, False)}
    lower = _to_text(source, source_type).str.to_lowercase()
    result = lower.replace_strict(list(words), list(words.values()), default=None, return_dtype=pl.Boolean())
    return _parsed(source, result, field, "is neither true nor false", "declare the column: {type: boolean}")


def _to_datetime(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    """Write days and times as ISO 8601 with a distance from UTC; a text without one is in UTC."""
    if source_type == pl.Date:
        return Conversion(source.dt.strftime("%Y-%m-%dT00:00:00+00:00"))
    if isinstance(source_type, pl.Datetime):
        return Conversion(source.dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"))
    text = source.cast(pl.String)
    result = (
        pl.when(text.str.contains(_ISO_DATETIME + r"Z?$"))
        .then(text.str.replace(r"Z?$", "+00:00"))
        .when(text.str.contains(_ISO_DATETIME + r"[+-]\d\d:\d\d$"))
        .then(text)
    )
    return _parsed(source, result, field, "is no time", "declare the column: {type: date}")


def _to_enum(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    """Convert names and numbers of an enum to what Connect takes: its name or its number."""
    numbers = spec.load_contract().enums[str(field.inner_type)]
    wire_values: dict[str, Scalar] = {}
    for name, number in numbers.items():
        wire_values[name] = wire_values[str(number)] = name if field.wire_type == "name" else number
    result = _to_text(source, source_type).replace_strict(
        list(wire_values), list(wire_values.values()), default=None, return_dtype=dtype(field)
    )
    message, hint = f"is no {str(field.inner_type).partition('.')[2]}", f"one of {', '.join(list(numbers)[:8])}"
    return _parsed(source, result, field, message, hint)


def _to_uuid(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    text = _to_text(source, source_type)
    result = pl.when(text.str.contains(r"^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")).then(text)
    return _parsed(text, result, field, "is no GUID", "e.g. 6f9619ff-8b86-d011-b42d-00c04fc964ff")


def _to_string(source: pl.Expr, source_type: pl.DataType, field: Field) -> Conversion:
    return Conversion(_to_text(source, source_type))


#: By type of the field; the value of any other type is a text.
_CONVERTERS: dict[str, Callable[[pl.Expr, pl.DataType, Field], Conversion]] = {
    "number": _to_number,
    "integer": _to_integer,
    "boolean": _to_boolean,
    "datetime": _to_datetime,
    "enum": _to_enum,
    "uuid": _to_uuid,
}


def _to_text(source: pl.Expr, source_type: pl.DataType) -> pl.Expr:
    """Return a value as text; a decimal loses the zeros at its end."""
    if source_type == pl.String:
        return source
    if source_type.is_decimal():
        return source.cast(pl.String).str.replace(r"\.?0+$", "")
    return source.cast(pl.String)


def dtype(field: Field) -> pl.DataType:
    """Return the type that a field's values have in a frame."""
    match field.type:
        case "number":
            return NUMBER_TYPE
        case "integer":
            return pl.Int64()
        case "boolean":
            return pl.Boolean()
        case "enum":
            return pl.String() if field.wire_type == "name" else pl.Int64()
        case _:
            return pl.String()


def constant_value(constant: Scalar | None, field: Field) -> Scalar | None:
    """Return a constant of the mapping in the type that the field has in a frame."""
    return str(constant) if constant is not None and dtype(field) == pl.String else constant
