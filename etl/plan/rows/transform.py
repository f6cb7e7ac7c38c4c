"""Builds records of valid rows: evaluates the leaves, adds keys, and groups the rows of one record.

Rows are rejected, as in `etl.plan.rows.validate`, for a value that is not in a look-up table, a key that is empty or a
duplicate, and for two rows of one record that disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass

import polars as pl

from etl.mapping.layout import Branch, Layout, Leaf
from etl.mapping.model import Mapping, bind_pattern, match_pattern
from etl.model.columns import ITEM, KEY, ROW
from etl.model.keys import KEY_SEPARATOR, display_keys
from etl.model.schemas import REJECTION_SCHEMA
from etl.model.tables import Records, Rejections
from etl.plan.rows import convert, list_rules
from etl.plan.rows.cells import parse_text, to_wire_scale

_MAX_KEY_PART_LENGTH = 200


def evaluate_rows(frame: pl.DataFrame, mapping: Mapping, layout: Layout) -> tuple[list[pl.DataFrame], Rejections]:
    """Evaluate the leaves and keys of typed rows, as `validate_rows` returns them, each row by itself.

    Returns one frame for each column that `per` matches, else one, and the rejections.
    """
    rejected: list[pl.DataFrame] = []
    columns = [(name, *texts) for name in frame.columns if mapping.per and (texts := match_pattern(mapping.per, name))]
    if columns:
        parts = [_evaluate_leaves(frame, mapping, layout, matched, rejected) for matched in columns]
    else:
        parts = [_evaluate_leaves(frame.clear() if mapping.per else frame, mapping, layout, None, rejected)]
    if rejected:
        rejected_rows = pl.concat([part.select(pl.col("row").alias(ROW)) for part in rejected]).unique()
        parts = [part.join(rejected_rows, on=ROW, how="anti", maintain_order="left") for part in parts]
    parts = [_add_keys(part, layout, rejected) for part in parts]
    return parts, Rejections(pl.concat([pl.DataFrame(schema=REJECTION_SCHEMA), *rejected]))


def build_records(rows: pl.DataFrame, layout: Layout) -> tuple[Records, Rejections]:
    """Group rows into records. Every row is in one of the two results: in a record, or rejected."""
    rejected: list[pl.DataFrame] = []
    origin = rows.select(KEY, ROW)
    lists = [branch for branch in layout.lists.values() if branch.node is not None and branch.node.kind == "rows"]
    rows = _group_rows(rows, layout, lists, rejected) if lists else _reject_duplicates(rows, layout, rejected)
    record_rejections: list[pl.DataFrame] = []
    if layout.unit_list:
        rows = _unify_item_fields(rows, layout, record_rejections)
    for violation in list_rules.violations(layout):
        bad_records = rows.filter(violation.condition)
        if bad_records.height:
            record_rejections.append(
                _reject(bad_records, violation.column, violation.code, violation.message, violation.hint)
            )
            rows = rows.filter(~violation.condition)
    rejected.extend(_expand_to_rows(part, origin) for part in record_rejections)
    contained = origin.join(rows.select(KEY), on=KEY, how="semi") if lists else rows
    return Records(rows, contained[ROW].unique()), Rejections(
        pl.concat([pl.DataFrame(schema=REJECTION_SCHEMA), *rejected])
    )


def empty_records(mapping: Mapping, layout: Layout) -> pl.DataFrame:
    """Return a frame without rows that has every column of the records with its type."""
    names: dict[str, None] = {}
    captures: tuple[str, ...] = ()
    if mapping.per:  # a column that fits the pattern stands for all of them
        name = mapping.per.replace("*", "x")
        names[name] = None
        captures = (name, *(match_pattern(mapping.per, name) or ()))
    for leaf in layout.leaves:
        value = bind_pattern(leaf.value, captures) if captures else leaf.value
        if value.kind == "column":
            names[value.text] = None
        names.update(dict.fromkeys(value.input_columns))
    for branch in layout.lists.values():
        if branch.node is not None and branch.node.kind == "split":
            names[branch.node.column] = None
    typed = {name: parse_text(pl.lit(None, dtype=pl.String), mapping.find_column(name), excel=False) for name in names}
    frame = pl.DataFrame({ROW: [0]}).with_columns(expr.alias(name) for name, expr in typed.items())
    frame = frame.with_columns(to_wire_scale(name, mapping.find_column(name)) for name in typed)
    return build_records(evaluate_rows(frame.clear(), mapping, layout)[0][0], layout)[0].frame


def keys_of_rejected_rows(frame: pl.DataFrame, mapping: Mapping, layout: Layout) -> pl.Series:
    """Return the leading key values of typed rows that were rejected.

    A record whose row is rejected is in the file all the same; it must not count as missing.
    """
    leaf = layout.leading_key
    if leaf is None or frame.is_empty() or leaf.value.kind not in ("column", "sql"):
        return pl.Series("v", dtype=pl.String)
    conversion = convert.convert_leaf(leaf, mapping, frame, None)
    return frame.select(conversion.value.cast(pl.String).alias("v"))["v"].drop_nulls()


def possible_keys(malformed: Rejections) -> pl.Series:
    """Return the texts between delimiters of malformed rows: each of them may be the key of a record."""
    texts = malformed.frame["value"].drop_nulls().str.extract_all(r'[^;,\t|"]+').explode().str.strip_chars()
    return texts.drop_nulls().rename("v")


def _evaluate_leaves(
    frame: pl.DataFrame,
    mapping: Mapping,
    layout: Layout,
    captures: tuple[str, ...] | None,
    rejection_lines: list[pl.DataFrame],
) -> pl.DataFrame:
    """Evaluate all leaves, one row per source row; rejections go to `rejection_lines`."""
    evaluated = [leaf for leaf in layout.leaves if not _is_in_split_list(leaf, layout)]
    conversions = {leaf.index: convert.convert_leaf(leaf, mapping, frame, captures) for leaf in evaluated}
    columns: list[pl.Expr] = [pl.col(ROW)]
    columns += [conversions[leaf.index].value.alias(leaf.name) for leaf in layout.leaves if leaf.inner is None]
    for column, branch in layout.lists.items():
        assert branch.node is not None
        inside = [leaf for leaf in layout.leaves if leaf.column == column and leaf.inner is not None]
        if branch.node.kind == "split":
            columns.append(_split_list(branch, inside, mapping).alias(column))
        else:
            values = [conversions[leaf.index].value for leaf in inside if not leaf.constant]
            element = pl.struct(conversions[leaf.index].value.alias(str(leaf.inner)) for leaf in inside)
            is_empty = pl.all_horizontal(value.is_null() for value in values) if values else pl.lit(False)
            columns.append(pl.when(~is_empty).then(element).alias(column))
    rejection_lines.extend(
        _reject_failures(
            frame, [(leaf, conversions[leaf.index]) for leaf in layout.leaves if leaf.index in conversions]
        )
    )
    rows = frame.select(columns)
    rejection_lines.extend(_reject_incomplete(rows, layout))
    return rows


def _reject_incomplete(rows: pl.DataFrame, layout: Layout) -> Iterable[pl.DataFrame]:
    """Reject rows without a field that Connect requires, or without the identifier of an object that has values."""
    plain = [leaf for leaf in layout.leaves if leaf.inner is None and not leaf.synthetic]
    incomplete: list[tuple[Leaf, pl.Expr, str, str]] = []
    for leaf in plain:
        if leaf.constant or leaf.key:
            continue
        empty = pl.col(leaf.name).is_null()
        if not leaf.parents and leaf.field.required == "true":
            incomplete.append((leaf, empty, "missing-required", f"Connect requires {leaf.field.name}"))
        elif leaf.required:
            content = [pl.col(o.name).is_not_null() for o in plain if o.is_content_of(leaf) and not o.constant]
            message = f"{leaf.parent} has values, but no {leaf.field.name} to tell it by"
            if content:
                incomplete.append((leaf, empty & pl.any_horizontal(content), "missing-code", message))
    for place in _conditions_met_somewhere(rows, [where for _, where, _, _ in incomplete]):
        leaf, where, code, message = incomplete[place]
        column = leaf.value.text if leaf.value.kind == "column" else leaf.name
        hint = "fill the cell, or give the field a `default`"
        yield _reject(rows.filter(where), column, code, message, hint)


def _conditions_met_somewhere(frame: pl.DataFrame, conditions: list[pl.Expr]) -> list[int]:
    """Return the positions of the conditions that some row meets, from one query, because few rows meet any."""
    if not conditions:
        return []
    met = frame.lazy().select(where.any().alias(str(position)) for position, where in enumerate(conditions)).collect()
    return [position for position, is_met in enumerate(met.row(0)) if is_met]


def _is_in_split_list(leaf: Leaf, layout: Layout) -> bool:
    branch = layout.lists.get(leaf.column) if leaf.inner is not None else None
    return branch is not None and branch.node is not None and branch.node.kind == "split"


def _reject_failures(frame: pl.DataFrame, conversions: list[tuple[Leaf, convert.Conversion]]) -> Iterable[pl.DataFrame]:
    """Reject rows whose cells cannot be converted, with a line for each such cell."""
    failures = [(leaf, failure) for leaf, conversion in conversions for failure in conversion.failures]
    for place in _conditions_met_somewhere(frame, [failure.condition for _, failure in failures]):
        leaf, failure = failures[place]
        cells = frame.select(row=pl.col(ROW), value=failure.shown.cast(pl.String), is_met=failure.condition)
        yield cells.filter("is_met").select(  # after the evaluation: a condition may hold a value for every row
            "row",
            column=pl.lit(leaf.value.text if leaf.value.kind == "column" else leaf.name),
            code=pl.lit(failure.code),
            value="value",
            message=pl.lit(failure.message),
            hint=pl.lit(failure.hint),
        )


def _split_list(branch: Branch, inner_leaves: list[Leaf], mapping: Mapping) -> pl.Expr:
    """Split a cell into list elements: trimmed, without empty and repeated parts."""
    node = branch.node
    assert node is not None
    parts = pl.col(node.column).str.split(node.separator).list.eval(pl.element().str.strip_chars())
    parts = parts.list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)
    fields = []
    for leaf in inner_leaves:
        if leaf.constant:
            value = pl.lit(convert.constant_value(leaf.value.constant, leaf.field), dtype=convert.dtype(leaf.field))
        else:
            value = convert.convert_value(pl.element(), pl.String(), leaf.value, leaf.field).value
        fields.append(value.alias(str(leaf.inner)))
    listed = parts.list.eval(pl.struct(fields))
    return pl.when(parts.list.len() > 0).then(listed)


@dataclass(frozen=True, slots=True)
class _KeyExpressions:
    """How the key of a record is built of its leaves, and which keys can be used."""

    key: pl.Expr
    is_usable: pl.Expr  #: of a row
    is_simple: pl.Expr  #: of KEY: every simple key is usable, and this condition is faster


def _add_keys(rows: pl.DataFrame, layout: Layout, rejection_lines: list[pl.DataFrame]) -> pl.DataFrame:
    """Add KEY and ITEM, and reject the rows without a usable key."""
    key = layout.operation.key
    leaves = [leaf for path in key.paths for leaf in layout.leaves if leaf.path == path and leaf.inner is None]
    defaults = {leaf.name: (key.defaults or {}).get(leaf.field.name) for leaf in leaves}
    expressions = _first_identifier(leaves) if key.match == "first_of" else _combined_key(leaves, defaults)
    rows = rows.with_columns(expressions.key.alias(KEY))
    rows = rows.with_columns(
        pl.col(name).fill_null(pl.lit(default)) for name, default in defaults.items() if default is not None
    )
    if not rows.select(expressions.is_simple.fill_null(False).all()).item():
        unusable = rows.filter(~expressions.is_usable)
        names = ", ".join(leaf.field.name for leaf in leaves)
        hint = "every row needs these cells, without control characters"
        if unusable.height:
            rejection_lines.append(_reject(unusable, names, "missing-key", "the row has no usable key", hint))
            rows = rows.filter(expressions.is_usable)
    return rows.with_columns(_item_expression(layout).alias(ITEM))


def _first_identifier(leaves: list[Leaf]) -> _KeyExpressions:
    """Return the key of an import that finds a record by the first identifier with a value."""
    # The name of the identifier is part of the key: a Code "7" is not an Id 7.
    key = pl.coalesce(pl.lit(leaf.field.name + "=") + pl.col(leaf.name).cast(pl.String) for leaf in leaves)
    has_key = pl.col(KEY).is_not_null()
    return _KeyExpressions(key, is_usable=has_key, is_simple=has_key)


def _combined_key(leaves: list[Leaf], defaults: Map[str, object]) -> _KeyExpressions:
    """Return the key of an import that finds a record by several values together."""
    parts = []
    for leaf in leaves:
        text, default = pl.col(leaf.name).cast(pl.String), defaults[leaf.name]
        parts.append(text.fill_null(str(default)) if default is not None else text)
    is_usable = pl.all_horizontal(
        part.is_not_null() & (part.str.len_chars() <= _MAX_KEY_PART_LENGTH) & ~part.str.contains(r"[\x00-\x1f]")
        for part in parts
    )
    shape = KEY_SEPARATOR.join([r"[^\x00-\x1f]*"] * len(parts))
    is_simple = pl.col(KEY).str.contains(f"^{shape}$") & (pl.col(KEY).str.len_bytes() <= _MAX_KEY_PART_LENGTH)
    return _KeyExpressions(pl.concat_str(parts, separator=KEY_SEPARATOR), is_usable, is_simple)


def _item_expression(layout: Layout) -> pl.Expr:
    """Return what the records of one item share: the code of the item, or the key where no leaf has that code."""
    paths = layout.operation.full_file.required_fields
    code = next((layout.by_path[path] for path in paths if path in layout.by_path), None)
    if not layout.unit_list or code is None:
        return pl.col(KEY)
    return pl.coalesce(pl.lit("Code=") + pl.col(code.name), pl.lit("Key=") + pl.col(KEY))


def _reject(rows: pl.DataFrame, column: str, code: str, message: str | pl.Expr, hint: str) -> pl.DataFrame:
    value = display_keys(pl.col(KEY)) if KEY in rows.columns else pl.lit(None)
    return rows.select(
        row=pl.col(ROW),
        column=pl.lit(column),
        code=pl.lit(code),
        value=value.cast(pl.String),
        message=pl.lit(message) if isinstance(message, str) else message,
        hint=pl.lit(hint),
    )


def _reject_duplicates(rows: pl.DataFrame, layout: Layout, rejection_lines: list[pl.DataFrame]) -> pl.DataFrame:
    """Keep one row per key: reject repeated rows, different rows of one key, and keys that differ only in case."""
    folded = pl.col(KEY).str.to_lowercase()
    lower = rows.select(folded.alias("k"))["k"]
    if lower.n_unique() == rows.height:
        return rows
    duplicates = rows.filter(lower.is_duplicated())
    content = [name for name in rows.columns if name != ROW]
    numbers = pl.col(ROW).cast(pl.String).str.join(", ")
    facts = duplicates.with_columns(folded.alias("_folded"))
    facts = facts.with_columns(
        pl.col(ROW).rank("ordinal").over("_folded").alias("_nth"),
        pl.struct(content).n_unique().over("_folded").alias("_kinds"),
        pl.col(KEY).n_unique().over("_folded").alias("_spellings"),
        numbers.over("_folded").alias("_rows"),
    )
    names = ", ".join(layout.operation.key.fields)
    repeated = facts.filter((pl.col("_kinds") == 1) & (pl.col("_nth") > 1))
    case = facts.filter(pl.col("_spellings") > 1)
    clash = facts.filter((pl.col("_kinds") > 1) & (pl.col("_spellings") == 1))
    for part, code, message, hint in (
        (repeated, "repeated-row", "the same row again (rows ", "the first one is used; remove the others"),
        (case, "key-case", "keys differ only in upper and lower case (rows ", "Connect may take them for one: correct"),
        (clash, "duplicate-key", "the key occurs twice with different values (rows ", "keep one of the rows"),
    ):
        if part.height:
            sentence = pl.concat_str(pl.lit(message), pl.col("_rows"), pl.lit(")"))
            rejection_lines.append(_reject(part, names, code, sentence, hint))
    bad = pl.concat([repeated.select(ROW), case.select(ROW), clash.select(ROW)])
    return rows.join(bad.unique(), on=ROW, how="anti", maintain_order="left")


def _group_rows(
    rows: pl.DataFrame, layout: Layout, lists: list[Branch], rejection_lines: list[pl.DataFrame]
) -> pl.DataFrame:
    """Make one row of the rows of each key: their list elements are joined, all other values must agree."""
    names = [branch.place for branch in lists]
    plain = [name for name in rows.columns if name not in (KEY, ITEM, ROW, *names)]
    items = {branch.place for branch in lists if layout.unit_list and not branch.place.startswith(layout.unit_list)}
    once = [name for name in names if name not in items]
    grouped = rows.group_by(KEY, maintain_order=True).agg(
        pl.col(ITEM).first(),
        pl.col(ROW).first(),
        *(pl.col(name).drop_nulls().first() for name in plain),
        *(pl.col(name).drop_nulls().n_unique().alias(f"_n {name}") for name in plain),
        *(pl.col(name).drop_nulls().unique(maintain_order=True) for name in once),
        pl.col(ROW).alias("_rows"),
    )
    grouped = _reject_conflicts(grouped, plain, rejection_lines)
    for name in items:
        whole = rows.group_by(ITEM, maintain_order=True).agg(pl.col(name).drop_nulls().unique(maintain_order=True))
        grouped = grouped.join(whole, on=ITEM, how="left", maintain_order="left")
    for branch in lists:
        order = [leaf.inner for leaf in layout.leaves if leaf.column == branch.place and leaf.identifier and leaf.inner]
        if order:
            by = [pl.element().struct.field(name) for name in order]
            grouped = grouped.with_columns(pl.col(branch.place).list.eval(pl.element().sort_by(by)))
        grouped = grouped.with_columns(pl.when(pl.col(branch.place).list.len() > 0).then(pl.col(branch.place)))
    return grouped.select(rows.columns)


def _reject_conflicts(grouped: pl.DataFrame, names: list[str], rejection_lines: list[pl.DataFrame]) -> pl.DataFrame:
    """Drop records whose rows give different values for one field; all their rows are rejected."""
    clash = pl.any_horizontal(pl.col(f"_n {name}") > 1 for name in names) if names else pl.lit(False)
    bad = grouped.filter(clash)
    if bad.height:
        fields = pl.concat_str(
            [pl.when(pl.col(f"_n {name}") > 1).then(pl.lit(f" {name}")).otherwise(pl.lit("")) for name in names]
        )
        listed = pl.col("_rows").cast(pl.List(pl.String)).list.join(", ")
        message = pl.concat_str(pl.lit("the rows of one record ("), listed, pl.lit(") disagree on"), fields)
        spread = bad.with_columns(message.alias("_message")).drop(ROW).explode("_rows").rename({"_rows": ROW})
        rejection_lines.append(_reject(spread, "", "record-conflict", pl.col("_message"), "make the rows agree"))
    return grouped.filter(~clash)


def _unify_item_fields(rows: pl.DataFrame, layout: Layout, rejection_lines: list[pl.DataFrame]) -> pl.DataFrame:
    """Give all rows of an item the same values above the units, e.g. a product's name: those of the first row."""
    names = list(dict.fromkeys(leaf.column for leaf in layout.leaves if leaf.index in layout.item_leaves))
    if not names or rows[ITEM].n_unique() == rows.height:
        return rows
    plain = [name for name in names if name not in layout.lists]
    grouped = rows.group_by(ITEM, maintain_order=True).agg(
        pl.col(KEY).first(),
        pl.col(ROW).first(),
        *(pl.col(name).drop_nulls().first() for name in names),
        *(pl.col(name).drop_nulls().n_unique().alias(f"_n {name}") for name in plain),
        pl.col(ROW).alias("_rows"),
    )
    good = _reject_conflicts(grouped, plain, rejection_lines)
    return (
        rows.drop(names)
        .join(good.select(ITEM, *names), on=ITEM, how="inner", maintain_order="left")
        .select(rows.columns)
    )


def _expand_to_rows(rejection_lines: pl.DataFrame, row_keys: pl.DataFrame) -> pl.DataFrame:
    """Repeat the rejections of records, which name their first row, for every row of the record."""
    first = row_keys.rename({ROW: "row"})
    keyed = rejection_lines.join(first, on="row", how="left", maintain_order="left").drop("row")
    return (
        keyed.join(first, on=KEY, how="left", maintain_order="left")
        .select(rejection_lines.columns)
        .unique(maintain_order=True)
    )
