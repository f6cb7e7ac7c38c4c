"""Checks rows of text against the columns and rules of the mapping: returns typed rows and rejections.

A table is checked in pieces; only duplicate texts depend on several pieces. One query finds the checks that every row
passes; `etl.plan.rows.pandera_checks` runs the others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace

import polars as pl
from polars.exceptions import PolarsError

from etl.errors import InvalidFileError
from etl.mapping.model import Column, Mapping, Node, Rule, Value, match_pattern
from etl.mapping.text import WHITESPACE
from etl.model import schemas
from etl.model.columns import ROW
from etl.model.tables import Rejections
from etl.plan.rows import cells, sql_values
from etl.plan.rows.pandera_checks import TEXT_SUFFIX, Check, run_checks


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file under the names of the mapping."""

    names: Map[str, str]  #: by name in the file the name in the mapping
    used: tuple[str, ...]
    unused: tuple[str, ...]  #: columns of the file that the mapping does not use


@dataclass(frozen=True, slots=True)
class ValidatedRows:
    """The typed rows of a piece of a table, and its rejections."""

    frame: pl.DataFrame  #: ROW and one typed column per source column in use
    rejected_frame: pl.DataFrame  #: the rejected rows, in the same columns
    rejections: Rejections
    skipped: int  #: rows that `source.keep` leaves out
    texts: Map[str, pl.Series]  #: texts that must be unique, by column, or by the location of the rule


def validate_rows(
    frame: pl.DataFrame, columns: Columns, mapping: Mapping, duplicates: Map[str, pl.Series] | None = None
) -> ValidatedRows:
    """Check rows of a table; `duplicates` are the texts that occur more than once in it, by key of `texts`."""
    used = columns.used
    raw = frame.rename(dict(columns.names))
    simple = [name for name in used if mapping.find_column(name).type in cells.CANONICAL_TYPES]
    clean_columns = _canonical_columns(
        raw, "", [name for name in simple if not mapping.find_column(name).empty], mapping
    )
    texts = _clean_cells(raw, used, mapping, clean_columns)
    canonical = clean_columns | _canonical_columns(
        texts, TEXT_SUFFIX, [name for name in simple if name not in clean_columns], mapping
    )
    excel = mapping.source.dialect.format == "excel"
    typed = texts.with_columns(
        cells.parse_text(
            pl.col(name + TEXT_SUFFIX), mapping.find_column(name), excel=excel, canonical=name in canonical
        ).alias(name)
        for name in used
    )
    typed, undecided, skipped = _apply_keep(typed, mapping.source.keep)
    rejections, is_rejected = _apply_checks(typed, used, mapping, canonical, duplicates or {})
    valid = typed.filter(~is_rejected) if is_rejected is not None else typed
    rejected = typed.filter(is_rejected) if is_rejected is not None else typed.clear()
    if undecided.height:
        rejections = pl.concat([_reject_undecided(undecided, mapping.source.keep or ""), rejections])
        rejected = pl.concat([undecided, rejected])
    columns_out = [pl.col(ROW), *(cells.to_wire_scale(name, mapping.find_column(name)) for name in used)]
    return ValidatedRows(
        frame=valid.select(columns_out),
        rejected_frame=rejected.select(columns_out),
        rejections=Rejections(rejections),
        skipped=skipped,
        texts={
            **{name: typed[name + TEXT_SUFFIX] for name in used if mapping.find_column(name).unique},
            **{
                _rule_tag(rule): typed.select(_combined_text(rule, mapping)).to_series()
                for rule in mapping.rules
                if rule.sql is None and set(rule.input_columns) <= set(used)
            },
        },
    )


def _apply_keep(typed: pl.DataFrame, keep: str | None) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the rows that `keep` keeps, the rows for which it fails, and how many rows it leaves out."""
    if not keep:
        return typed, typed.clear(), 0
    try:
        kept, undecided = typed.filter(pl.sql_expr(keep).fill_null(False)), typed.clear()
    except PolarsError:
        found = sql_values.separate_failures(typed, pl.sql_expr(keep))
        kept, undecided = typed.filter(found.values.cast(pl.Boolean).fill_null(False)), typed.filter(found.failed)
    return kept, undecided, typed.height - kept.height - undecided.height


def _reject_undecided(rows: pl.DataFrame, keep: str) -> pl.DataFrame:
    return rows.select(
        row=pl.col(ROW),
        column=pl.lit("keep"),
        code=pl.lit(sql_values.CODE),
        value=sql_values.cells(pl.sql_expr(keep)),
        message=pl.lit(sql_values.message(keep)),
        hint=pl.lit(sql_values.HINT),
    )


def _clean_cells(
    frame: pl.DataFrame, used_columns: Sequence[str], mapping: Mapping, canonical: set[str]
) -> pl.DataFrame:
    """Strip the cells of all columns but the `canonical` ones; return ROW and the text columns.

    In steps, because an eager frame evaluates a shared expression every time.
    """
    if not used_columns:
        return frame.select(ROW)
    to_clean = [name for name in used_columns if name not in canonical]
    simple_whitespace, normalized = _simple_text_columns(frame, to_clean, mapping)
    trimmed = frame.select(
        ROW,
        *(pl.col(name) for name in canonical),
        *(
            cells.clean_text(
                pl.col(name),
                mapping.find_column(name),
                normalized=name in normalized,
                simple_whitespace=name in simple_whitespace,
            )
            for name in to_clean
        ),
    )
    with_empty = _conditions_met(trimmed, {name: (pl.col(name) == "").any() for name in to_clean})
    with_empty |= {name for name in to_clean if mapping.find_column(name).empty}
    return trimmed.select(
        ROW,
        *(
            (
                cells.null_if_empty(pl.col(name), mapping.find_column(name)) if name in with_empty else pl.col(name)
            ).alias(name + TEXT_SUFFIX)
            for name in used_columns
        ),
    )


def _simple_text_columns(frame: pl.DataFrame, names: Sequence[str], mapping: Mapping) -> tuple[set[str], set[str]]:
    """Return the columns whose white space is simple, and the columns whose texts are in NFC."""
    dialect = mapping.source.dialect
    if dialect.format != "excel" and cells.is_simple_encoding(dialect.encoding):
        return set(names), set(names)
    ascii_only = {name: pl.col(name).str.len_bytes().sum() == pl.col(name).str.len_chars().sum() for name in names}
    simple_whitespace = _conditions_met(frame, ascii_only)
    normalized = _conditions_met(
        frame, {name: cells.is_normalized(pl.col(name)) for name in names if name not in simple_whitespace}
    )
    return simple_whitespace, simple_whitespace | normalized


def _canonical_columns(frame: pl.DataFrame, suffix: str, names: Sequence[str], mapping: Mapping) -> set[str]:
    """Return the columns with only canonical cells; most columns are, and they are parsed much faster."""
    return _conditions_met(
        frame, {name: cells.is_canonical(pl.col(name + suffix), mapping.find_column(name)) for name in names}
    )


def _conditions_met(frame: pl.DataFrame, conditions: Map[str, pl.Expr]) -> set[str]:
    """Return the names of the conditions over a whole frame that hold, from one query."""
    if not conditions:
        return set()
    met = frame.select(condition.alias(name) for name, condition in conditions.items()).row(0)
    return {name for name, holds in zip(conditions, met, strict=True) if holds}


def resolve_columns(header: Sequence[str], mapping: Mapping) -> Columns:
    """Match a header with the columns of the mapping; an alias gets the name of its column.

    Raises InvalidFileError with all columns that the mapping needs and the file lacks, or with a duplicate column.
    """
    bare = {name: unicodedata.normalize("NFC", name.strip(WHITESPACE)) for name in header}
    present = list(bare.values())
    renames: dict[str, str] = {}
    for column in mapping.columns.values():
        if column.name not in present:
            alias = next((name for name in column.aliases if name in present), None)
            if alias is not None:
                renames[alias] = column.name
    names = [renames.get(name, name) for name in present]
    needed = _needed_columns(mapping)
    missing = [name for name in needed if name not in names and not mapping.find_column(name).optional]
    if missing:
        missing_names = ", ".join(f'"{name}"' for name in missing)
        header_start = ", ".join(name[:40] for name in names[:12]) + (" …" if len(names) > 12 else "")
        raise InvalidFileError(
            "missing-column",
            f"the file has no column {missing_names}",
            where=f"header: {header_start}",
            hint="if a column was renamed, add `aliases: [new name]` to it in the mapping; "
            "if it may be absent, `optional: true`",
        )
    patterns = _column_patterns(mapping)
    used = [
        name
        for name in names
        if name in needed or name in mapping.columns or any(match_pattern(p, name) is not None for p in patterns)
    ]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise InvalidFileError(
            "duplicate-column",
            f'the file has two columns "{duplicate}"',
            where=f"header: {', '.join(name[:40] for name in names[:12])}",
            hint="rename one of them at its source, or drop an alias from the mapping",
        )
    return Columns(
        names={raw: renames.get(name, name) for raw, name in bare.items()},
        used=tuple(used),
        unused=tuple(name for name in names if name not in used),
    )


def _walk_values(nodes: Iterable[Node]) -> Iterable[Value | Node]:
    for node in nodes:
        if node.value is not None:
            yield node.value
        yield node
        yield from _walk_values(node.children.values())
        for _, fields in node.elements:
            yield from _walk_values(fields.values())


def _needed_columns(mapping: Mapping) -> list[str]:
    """Return the columns that the record, the rules, `keep` or the descriptions of columns need."""
    needed: dict[str, None] = {}
    for item in _walk_values(mapping.record.values()):
        if isinstance(item, Value):
            if item.kind == "column" and "{" not in item.text:
                needed[item.text] = None
            needed.update(dict.fromkeys(item.input_columns))
        elif item.kind == "split":
            needed[item.column] = None
    for rule in mapping.rules:
        needed.update(dict.fromkeys(rule.input_columns))
    if mapping.source.keep:
        needed.update(dict.fromkeys(pl.sql_expr(mapping.source.keep).meta.root_names()))
    needed.update({name: None for name, column in mapping.columns.items() if not column.is_pattern})
    return list(needed)


def _column_patterns(mapping: Mapping) -> list[str]:
    """Return the column patterns of the mapping; a column name with `{1}` in it is one."""
    patterns = [mapping.per] if mapping.per else []
    for value in _walk_values(mapping.record.values()):
        if isinstance(value, Node) and value.pattern:
            patterns.append(value.pattern)
        elif isinstance(value, Value) and value.kind == "column" and "{" in value.text:
            patterns.append(value.text.replace("{1}", "*").replace("{2}", "*").replace("{3}", "*"))
    patterns.extend(column.name for column in mapping.columns.values() if column.is_pattern)
    return patterns


def _apply_checks(
    typed_rows: pl.DataFrame,
    used_columns: Sequence[str],
    mapping: Mapping,
    canonical: set[str],
    duplicates: Map[str, pl.Series],
) -> tuple[pl.DataFrame, pl.Series | None]:
    """Run all checks; returns the rejections, and which rows are rejected (None: no row)."""
    checks = [
        check
        for name in used_columns
        for check in _applicable_checks(name, used_columns, mapping, canonical, duplicates)
    ]
    try:
        checks = _failing_checks(typed_rows, checks)
    except PolarsError:
        checks = [check for either in checks for check in _separate_sql_errors(typed_rows, either)]
        checks = _failing_checks(typed_rows, checks)
    return run_checks(typed_rows, checks) if checks else (pl.DataFrame(schema=schemas.REJECTION_SCHEMA), None)


def _failing_checks(typed_rows: pl.DataFrame, checks: Sequence[Check]) -> list[Check]:
    """Return the checks that some row fails; a condition that is null in a row is left to pandera."""
    conditions = {str(number): check.condition.fill_null(False).all() for number, check in enumerate(checks)}
    met = _conditions_met(typed_rows, conditions)
    return [check for number, check in enumerate(checks) if str(number) not in met]


def _separate_sql_errors(typed_rows: pl.DataFrame, check: Check) -> Iterable[Check]:
    """Yield a check of an SQL expression as two: whether it can be evaluated, and whether it holds."""
    if not check.sql:
        yield check
        return
    found = sql_values.separate_failures(typed_rows, check.condition)
    message = sql_values.message(check.sql)
    yield Check(check.column, sql_values.CODE, message, sql_values.HINT, pl.lit(~found.failed))
    yield replace(check, condition=pl.lit(found.values.fill_null(True)))


def _applicable_checks(
    name: str, used_columns: Sequence[str], mapping: Mapping, canonical: set[str], duplicates: Map[str, pl.Series]
) -> Iterable[Check]:
    """Yield the checks of a column, and those of the rules whose first column it is."""
    for check in _column_checks(name, mapping.find_column(name), duplicates.get(name)):
        if name not in canonical or check.code not in ("type", "digits"):
            yield check
    for rule in mapping.rules:
        if rule.input_columns[:1] == (name,) and set(rule.input_columns) <= set(used_columns):
            yield from _rule_checks(name, rule, mapping, duplicates)


def _rule_tag(rule: Rule) -> str:
    """Return a name for the texts of a rule that no column has."""
    return TEXT_SUFFIX + rule.where


def _combined_text(rule: Rule, mapping: Mapping) -> pl.Expr:
    """Return the values of a rule's columns as one text; null where one of them is empty."""
    values = [cells.to_wire_scale(name, mapping.find_column(name)).cast(pl.String) for name in rule.input_columns]
    return pl.concat_str(values, separator=TEXT_SUFFIX)


def _rule_checks(name: str, rule: Rule, mapping: Mapping, duplicates: Map[str, pl.Series]) -> Iterable[Check]:
    """Yield the check of a rule, under the name of its first column; a rule with an empty cell passes."""
    if rule.sql is not None:
        good = pl.sql_expr(rule.sql).fill_null(True)
        message, hint = f"breaks the rule: {rule.name}", f"{rule.sql} must hold ({rule.where})"
        yield Check(name, "rule", message, hint, good, sql=rule.sql)
    elif _rule_tag(rule) in duplicates:
        is_unique = ~_combined_text(rule, mapping).is_in(duplicates[_rule_tag(rule)].implode())
        message = f"{' and '.join(rule.input_columns)} together occur more than once: {rule.name}"
        yield Check(name, "unique", message, f"the mapping says so in {rule.where}", is_unique.fill_null(True))


def _column_checks(name: str, column: Column, duplicates: pl.Series | None) -> Iterable[Check]:
    """Yield the checks that a column's description asks for, in the order in which a cell's rejections appear."""
    text, typed = pl.col(name + TEXT_SUFFIX), pl.col(name)
    if column.required:
        yield Check(name, "empty", "is empty", "the mapping says required: true", text.is_not_null())
    yield from _type_checks(name, column, text, typed)
    yield from _text_checks(name, column, text)
    yield from _bound_checks(name, column, typed)
    if column.max_length is not None:
        message, fits = f"is longer than {column.max_length} characters", text.str.len_chars() <= column.max_length
        yield Check(name, "max_length", message, "shorten it", fits.fill_null(True))
    if duplicates is not None:
        is_unique = text.is_null() | ~text.is_in(duplicates.implode())
        yield Check(name, "unique", "occurs more than once", "the mapping says unique: true", is_unique)


def _type_checks(name: str, column: Column, text: pl.Expr, typed: pl.Expr) -> Iterable[Check]:
    if column.type != "text":
        message, hint = f"is no {cells.describe_type(column)}", "correct the cell, or the column's type in the mapping"
        yield Check(name, "type", message, hint, text.is_null() | typed.is_not_null())
    if column.type == "decimal":
        message = "has more digits than Connect takes (11 before and 4 after the mark)"
        fits = cells.digits_fit(text, typed, column) | typed.is_null()
        yield Check(name, "digits", message, "round in the mapping: {round: 2}", fits)


def _text_checks(name: str, column: Column, text: pl.Expr) -> Iterable[Check]:
    if column.pattern:
        matches = text.is_null() | text.str.contains(f"^(?:{column.pattern})$")
        yield Check(name, "pattern", f"does not look like {column.pattern}", "correct the cell or the pattern", matches)
    if column.allowed:
        message, hint = f"is none of {', '.join(column.allowed[:8])}", "correct the cell, or add it to `in`"
        yield Check(name, "in", message, hint, text.is_null() | text.is_in(list(column.allowed)))


def _bound_checks(name: str, column: Column, typed: pl.Expr) -> Iterable[Check]:
    value = typed.dt.convert_time_zone(column.zone).dt.date() if column.type == "datetime" else typed
    if column.min is not None:
        good = (value >= column.min).fill_null(True)
        yield Check(name, "min", f"is below {column.min}", "correct the cell or `min`", good)
    if column.max is not None:
        good = (value <= column.max).fill_null(True)
        yield Check(name, "max", f"is above {column.max}", "correct the cell or `max`", good)
