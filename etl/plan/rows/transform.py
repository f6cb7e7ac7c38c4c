"""Good rows into records: typed leaves, rows of one record brought together, keys made sure of.

What a row cannot give is a rejection, as in `etl.plan.rows.validate`: a value that the look-up does not know, a key
that is empty or stands twice, two rows that say different things about one record.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass

import polars as pl

from etl.mapping.layout import Branch, Layout, Leaf
from etl.mapping.model import Mapping, match_pattern
from etl.model.columns import ITEM, KEY, ROW
from etl.model.keys import KEY_SEPARATOR, display_keys
from etl.model.schemas import REJECTION_SCHEMA
from etl.model.tables import Records, Rejections
from etl.plan.rows import convert, list_rules
from etl.plan.rows.cells import parse_text, to_wire_scale

_MAX_KEY_PART_LENGTH = 200


def evaluate_rows(frame: pl.DataFrame, mapping: Mapping, layout: Layout) -> tuple[list[pl.DataFrame], Rejections]:
    """Typed rows, as `validate.check` leaves them, with their leaves and keys, and what no record can be made of.

    One frame for each column that `per` fits, else one. What is decided here is decided row by row.
    """
    rejected: list[pl.DataFrame] = []
    bound = [(name, *found) for name in frame.columns if mapping.per and (found := match_pattern(mapping.per, name))]
    if bound:
        parts = [_evaluate_leaves(frame, mapping, layout, matched, rejected) for matched in bound]
    else:
        parts = [_evaluate_leaves(frame.clear() if mapping.per else frame, mapping, layout, None, rejected)]
    if rejected:
        bad = pl.concat([part.select(pl.col("row").alias(ROW)) for part in rejected]).unique()
        parts = [part.join(bad, on=ROW, how="anti", maintain_order="left") for part in parts]
    parts = [_add_keys(part, layout, rejected) for part in parts]
    return parts, Rejections(pl.concat([pl.DataFrame(schema=REJECTION_SCHEMA), *rejected]))


def build_records(rows: pl.DataFrame, layout: Layout) -> tuple[Records, Rejections]:
    """Rows into records: what stands in several of them brought together. Every row ends in one of the two results."""
    rejected: list[pl.DataFrame] = []
    origin = rows.select(KEY, ROW)
    lists = [branch for branch in layout.lists.values() if branch.node is not None and branch.node.kind == "rows"]
    rows = _group_rows(rows, layout, lists, rejected) if lists else _reject_duplicates(rows, layout, rejected)
    late: list[pl.DataFrame] = []
    if layout.unit_list:
        rows = _unify_item_fields(rows, layout, late)
    for flaw in list_rules.violations(layout):
        bad_records = rows.filter(flaw.condition)
        if bad_records.height:
            late.append(_reject(bad_records, flaw.column, flaw.code, flaw.message, flaw.hint))
            rows = rows.filter(~flaw.condition)
    rejected.extend(_expand_to_rows(part, origin) for part in late)
    contained = origin.join(rows.select(KEY), on=KEY, how="semi") if lists else rows
    return Records(rows, contained[ROW].unique()), Rejections(
        pl.concat([pl.DataFrame(schema=REJECTION_SCHEMA), *rejected])
    )


def empty_records(mapping: Mapping, layout: Layout) -> pl.DataFrame:
    """No rows, but every column of the records with its type."""
    names = {leaf.value.text: pl.String for leaf in layout.leaves if leaf.value.kind == "column"}
    for leaf in layout.leaves:
        names.update(dict.fromkeys(leaf.value.input_columns, pl.String))
    for branch in layout.lists.values():
        if branch.node is not None and branch.node.kind == "split":
            names[branch.node.column] = pl.String
    typed = {name: parse_text(pl.lit(None, dtype=pl.String), mapping.find_column(name), excel=False) for name in names}
    frame = pl.DataFrame({ROW: [0]}).with_columns(expr.alias(name) for name, expr in typed.items())
    frame = frame.with_columns(to_wire_scale(name, mapping.find_column(name)) for name in typed)
    return build_records(evaluate_rows(frame.clear(), mapping, layout)[0][0], layout)[0].frame


def keys_of_rejected_rows(frame: pl.DataFrame, mapping: Mapping, layout: Layout) -> pl.Series:
    """What typed rows that were rejected are about: their leading key values.

    A record whose row was rejected is in the file all the same; it must not count as gone.
    """
    leaf = layout.leading_key
    if leaf is None or frame.is_empty() or leaf.value.kind not in ("column", "sql"):
        return pl.Series("v", dtype=pl.String)
    made = convert.convert_leaf(leaf, mapping, frame, None)
    return frame.select(made.value.cast(pl.String).alias("v"))["v"].drop_nulls()


def possible_keys(malformed: Rejections) -> pl.Series:
    """What rows that fell apart may be about: every piece of them."""
    found = malformed.frame["value"].drop_nulls().str.extract_all(r'[^;,\t|"]+').explode().str.strip_chars()
    return found.drop_nulls().rename("v")


def _evaluate_leaves(
    frame: pl.DataFrame,
    mapping: Mapping,
    layout: Layout,
    captures: tuple[str, ...] | None,
    rejection_lines: list[pl.DataFrame],
) -> pl.DataFrame:
    """One row per source row, all leaves evaluated; rows with impossible values go to `rejected`."""
    outside = [leaf for leaf in layout.leaves if not _is_in_split_list(leaf, layout)]
    made = {leaf.index: convert.convert_leaf(leaf, mapping, frame, captures) for leaf in outside}
    columns: list[pl.Expr] = [pl.col(ROW)]
    columns += [made[leaf.index].value.alias(leaf.name) for leaf in layout.leaves if leaf.inner is None]
    for column, branch in layout.lists.items():
        assert branch.node is not None
        inside = [leaf for leaf in layout.leaves if leaf.column == column and leaf.inner is not None]
        if branch.node.kind == "split":
            columns.append(_split_list(branch, inside, mapping).alias(column))
        else:
            given = [made[leaf.index].value for leaf in inside if not leaf.constant]
            element = pl.struct(made[leaf.index].value.alias(str(leaf.inner)) for leaf in inside)
            nothing = pl.all_horizontal(value.is_null() for value in given) if given else pl.lit(False)
            columns.append(pl.when(~nothing).then(element).alias(column))
    rejection_lines.extend(
        _reject_failures(frame, [(leaf, made[leaf.index]) for leaf in layout.leaves if leaf.index in made])
    )
    made_rows = frame.select(columns)
    rejection_lines.extend(_reject_incomplete(made_rows, layout))
    return made_rows


def _reject_incomplete(rows: pl.DataFrame, layout: Layout) -> Iterable[pl.DataFrame]:
    """Rows that lack what Connect requires of a record, or what tells a filled object or element apart."""
    plain = [leaf for leaf in layout.leaves if leaf.inner is None and not leaf.synthetic]
    lacking: list[tuple[Leaf, pl.Expr, str, str]] = []
    for leaf in plain:
        if leaf.constant or leaf.key:
            continue
        empty = pl.col(leaf.name).is_null()
        if not leaf.parents and leaf.field.required == "true":
            lacking.append((leaf, empty, "missing-required", f"Connect requires {leaf.field.name}"))
        elif leaf.required:
            content = [pl.col(o.name).is_not_null() for o in plain if o.is_content_of(leaf) and not o.constant]
            message = f"{leaf.parent} has values, but no {leaf.field.name} to tell it by"
            if content:
                lacking.append((leaf, empty & pl.any_horizontal(content), "missing-code", message))
    for place in _conditions_met_somewhere(rows, [where for _, where, _, _ in lacking]):
        leaf, where, code, message = lacking[place]
        column = leaf.value.text if leaf.value.kind == "column" else leaf.name
        hint = "fill the cell, or give the field a `default`"
        yield _reject(rows.filter(where), column, code, message, hint)


def _conditions_met_somewhere(frame: pl.DataFrame, conditions: list[pl.Expr]) -> list[int]:
    """Places of the conditions that some row meets; all of them in one go, because hardly any row meets one."""
    if not conditions:
        return []
    found = frame.lazy().select(where.any().alias(str(place)) for place, where in enumerate(conditions)).collect()
    return [place for place, hit in enumerate(found.row(0)) if hit]


def _is_in_split_list(leaf: Leaf, layout: Layout) -> bool:
    branch = layout.lists.get(leaf.column) if leaf.inner is not None else None
    return branch is not None and branch.node is not None and branch.node.kind == "split"


def _reject_failures(frame: pl.DataFrame, conversions: list[tuple[Leaf, convert.Conversion]]) -> Iterable[pl.DataFrame]:
    """Rows whose cells give no value, a line for each."""
    failures = [(leaf, failure) for leaf, conversion in conversions for failure in conversion.failures]
    for place in _conditions_met_somewhere(frame, [failure.condition for _, failure in failures]):
        leaf, failure = failures[place]
        yield frame.filter(failure.condition).select(
            row=pl.col(ROW),
            column=pl.lit(leaf.value.text if leaf.value.kind == "column" else leaf.name),
            code=pl.lit(failure.code),
            value=failure.shown.cast(pl.String),
            message=pl.lit(failure.message),
            hint=pl.lit(failure.hint),
        )


def _split_list(branch: Branch, inner_leaves: list[Leaf], mapping: Mapping) -> pl.Expr:
    """A cell's parts as list elements: trimmed, empty parts and repeats left out."""
    node = branch.node
    assert node is not None
    parts = pl.col(node.column).str.split(node.separator).list.eval(pl.element().str.strip_chars())
    parts = parts.list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)
    fields = []
    for leaf in inner_leaves:
        if leaf.constant:
            made = pl.lit(convert.constant_value(leaf.value.constant, leaf.field), dtype=convert.dtype(leaf.field))
        else:
            made = convert.convert_value(pl.element(), pl.String(), leaf.value, leaf.field).value
        fields.append(made.alias(str(leaf.inner)))
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
    """One row per key. Equal rows count once; keys with different rows, or differing only in case, are refused."""
    folded = pl.col(KEY).str.to_lowercase()
    lower = rows.select(folded.alias("k"))["k"]
    if lower.n_unique() == rows.height:
        return rows
    twins = rows.filter(lower.is_duplicated())
    content = [name for name in rows.columns if name != ROW]
    numbers = pl.col(ROW).cast(pl.String).str.join(", ")
    facts = twins.with_columns(folded.alias("_folded"))
    facts = facts.with_columns(
        pl.col(ROW).rank("ordinal").over("_folded").alias("_nth"),
        pl.struct(content).n_unique().over("_folded").alias("_kinds"),
        pl.col(KEY).n_unique().over("_folded").alias("_spellings"),
        numbers.over("_folded").alias("_rows"),
    )
    names = ", ".join(layout.operation.key.fields)
    repeat = facts.filter((pl.col("_kinds") == 1) & (pl.col("_nth") > 1))
    case = facts.filter(pl.col("_spellings") > 1)
    clash = facts.filter((pl.col("_kinds") > 1) & (pl.col("_spellings") == 1))
    for found, code, message, hint in (
        (repeat, "repeated-row", "the same row again (rows ", "the first one is used; remove the others"),
        (case, "key-case", "keys differ only in upper and lower case (rows ", "Connect may take them for one: correct"),
        (clash, "duplicate-key", "the key occurs twice with different values (rows ", "keep one of the rows"),
    ):
        if found.height:
            sentence = pl.concat_str(pl.lit(message), pl.col("_rows"), pl.lit(")"))
            rejection_lines.append(_reject(found, names, code, sentence, hint))
    bad = pl.concat([repeat.select(ROW), case.select(ROW), clash.select(ROW)])
    return rows.join(bad.unique(), on=ROW, how="anti", maintain_order="left")


def _group_rows(
    rows: pl.DataFrame, layout: Layout, lists: list[Branch], rejection_lines: list[pl.DataFrame]
) -> pl.DataFrame:
    """Several rows per key: their list elements together, everything else must agree."""
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
    """Fields above the units (a product's name) are one per item: taken from its first row that has them."""
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
    """Rejections of records, which know the first of their rows, for every row that went into them."""
    first = row_keys.rename({ROW: "row"})
    keyed = rejection_lines.join(first, on="row", how="left", maintain_order="left").drop("row")
    return (
        keyed.join(first, on=KEY, how="left", maintain_order="left")
        .select(rejection_lines.columns)
        .unique(maintain_order=True)
    )
