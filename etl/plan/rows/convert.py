"""From a source column to a field's type: look-ups, defaults and the exact conversions Connect's types allow.

A value that does not go is not made up: it is null, and the conversion says which rows are to be rejected for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from etl.contract import spec
from etl.contract.spec import Field
from etl.mapping.layout import Leaf
from etl.mapping.model import Column, Mapping, Scalar, Value, bind_pattern
from etl.plan.rows.cells import NUMBER_TYPE

#: When a value is none: condition, shown value, code, message, hint.
Failure = tuple[pl.Expr, pl.Expr, str, str, str]

_ROUNDED_CODE = r"^[0-9][.,][0-9]+[eE]\+[0-9]{1,2}$"
_ISO_DATETIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A leaf's value for every row, and the conditions under which it is none."""

    value: pl.Expr
    failures: tuple[Failure, ...] = ()


def convert_leaf(leaf: Leaf, mapping: Mapping, frame: pl.DataFrame, captures: tuple[str, ...] | None) -> Conversion:
    """A leaf's value over a frame of typed source columns; `matched` binds the texts of a column pattern."""
    value = bind_pattern(leaf.value, captures) if mapping.per else leaf.value
    if value.kind == "constant":
        if value.text and isinstance(value.constant, str):  # out of a column's name, so it may be anything
            return convert_value(pl.lit(value.constant), pl.String(), replace(value, replace=()), leaf.field)
        return Conversion(pl.lit(constant_value(value.constant, leaf.field), dtype=dtype(leaf.field)))
    source = pl.sql_expr(value.text) if value.kind == "sql" else pl.col(value.text)
    kind = frame.select(source).schema.dtypes()[0]
    made = convert_value(source, kind, value, leaf.field)
    if leaf.field.type == "string" and (leaf.key or leaf.identifier or leaf.field.role == "code"):
        return replace(made, failures=(*made.failures, _rounded_code_failure(made.value)))
    return made


def _rounded_code_failure(text: pl.Expr) -> Failure:
    """A code that a spreadsheet has taken for a number: most of its digits are lost."""
    return (
        text.str.contains(_ROUNDED_CODE),
        text,
        "rounded-code",
        "was rounded by a spreadsheet; its digits are lost",
        "export it again, with the column formatted as text, or leave the field out of the record",
    )


def convert_value(source: pl.Expr, source_type: pl.DataType, value: Value, field: Field) -> Conversion:
    """A source expression as the field's type; `map`, `replace` and `default` applied in that order."""
    bad: list[Failure] = []
    result = source
    if value.replace or value.lookup is not None:
        text = _to_text(source, source_type)
        for old, new in value.replace:
            text = text.str.replace_all(old, new, literal=True)
        result, source_type = text, pl.String()
        if value.lookup is not None:
            keys = list(value.lookup)
            result = text.replace_strict(
                keys,
                [constant_value(value.lookup[key], field) for key in keys],
                default=None,
                return_dtype=dtype(field),
            )
            known = ", ".join(keys[:6])
            if value.default is None:
                bad.append(
                    (
                        text.is_not_null() & result.is_null(),
                        text,
                        "not-in-map",
                        f"is not in the map ({known})",
                        "add it to `map`, or give a `default`",
                    )
                )
            source_type = dtype(field)
    if value.lookup is None and not (value.kind == "column" and source_type == NUMBER_TYPE and field.type == "number"):
        result = _cast(result, source_type, field, bad)  # a column of decimals was checked to be what Connect takes
    if value.default is not None:
        result = result.fill_null(pl.lit(constant_value(value.default, field), dtype=dtype(field)))
    if field.max_length and field.type in ("string", "uri", "uuid"):
        bad.append(
            (
                result.str.len_chars() > field.max_length,
                result,
                "too-long",
                f"is longer than {field.max_length} characters, Connect's limit for {field.name}",
                "shorten the text",
            )
        )
    return Conversion(result, tuple(bad))


def _cast(source: pl.Expr, source_type: pl.DataType, field: Field, failures: list[Failure]) -> pl.Expr:
    """From a column's type to the field's; what does not go is added to `bad`."""
    match field.type:
        case "number":
            if source_type == pl.String:
                result = source.str.strip_chars().cast(NUMBER_TYPE, strict=False)
            else:
                result = source.cast(pl.Decimal(38, 12), strict=False).round(4, mode="half_away_from_zero")
                result = pl.when(result.abs() < 10**11).then(result).cast(NUMBER_TYPE)
            message, hint = "is no number that Connect takes", "at most 11 digits before and 4 after the mark"
        case "integer" if source_type == pl.Int64:
            return source
        case "integer":
            result = source.cast(pl.Int64, strict=False)
            if source_type.is_decimal() or source_type.is_float():
                result = pl.when(source == result).then(result)
            message, hint = "is no whole number", "Connect takes no fractions here"
        case "boolean" if source_type == pl.Boolean:
            return source
        case "boolean":
            result = _parse_boolean(_to_text(source, source_type))
            message, hint = "is neither true nor false", "declare the column: {type: boolean}"
        case "datetime":
            if source_type == pl.Date:
                return source.dt.strftime("%Y-%m-%dT00:00:00+00:00")
            if isinstance(source_type, pl.Datetime):
                return source.dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")
            text = source.cast(pl.String)
            utc = text.str.replace(r"Z?$", "+00:00")
            result = (
                pl.when(text.str.contains(_ISO_DATETIME + r"Z?$"))
                .then(utc)
                .when(text.str.contains(_ISO_DATETIME + r"[+-]\d\d:\d\d$"))
                .then(text)
            )
            message, hint = "is no time", "declare the column: {type: date}"
        case "enum":
            values = spec.load_contract().enums[str(field.inner_type)]
            known: dict[str, Scalar] = {}
            for name, number in values.items():
                known[name] = known[str(number)] = name if field.wire_type == "name" else number
            result = _to_text(source, source_type).replace_strict(
                list(known), list(known.values()), default=None, return_dtype=dtype(field)
            )
            message, hint = f"is no {str(field.inner_type).partition('.')[2]}", f"one of {', '.join(list(values)[:8])}"
        case "uuid":
            source = _to_text(source, source_type)
            result = pl.when(source.str.contains(r"^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")).then(source)
            message, hint = "is no GUID", "e.g. 6f9619ff-8b86-d011-b42d-00c04fc964ff"
        case _:
            return _to_text(source, source_type)
    failures.append((source.is_not_null() & result.is_null(), source, "not-" + field.type, message, hint))
    return result


def _parse_boolean(text: pl.Expr) -> pl.Expr:
    """The words that a column of type boolean takes if nothing else is said."""
    words = Column("")
    known = {**dict.fromkeys(words.true, True), **dict.fromkeys(words.false, False)}
    return text.str.to_lowercase().replace_strict(
        list(known), list(known.values()), default=None, return_dtype=pl.Boolean()
    )


def _to_text(source: pl.Expr, source_type: pl.DataType) -> pl.Expr:
    if source_type == pl.String:
        return source
    if source_type.is_decimal():
        return source.cast(pl.String).str.replace(r"\.?0+$", "")
    return source.cast(pl.String)


def dtype(field: Field) -> pl.DataType:
    """The frame type of a field's values."""
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
    """A constant of the mapping in the field's frame type."""
    return str(constant) if constant is not None and dtype(field) == pl.String else constant
