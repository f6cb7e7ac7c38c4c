"""Values that a feed of changes still owes Norce, laid under the records of its next file. Pure.

A file of changes says a thing once. What Connect did not take of it is therefore kept (`etl.state.snapshots.accepted`)
and planned again with every run of the feed, until it is accepted or a newer file says otherwise. Until then CAME says
which line of which file brought it.
"""

from __future__ import annotations

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import INTERNAL, ITEM, KEY, ORIGIN, ROW, STATED
from etl.model.schemas import no_origin
from etl.model.tables import Records


def merge_pending(records: Records, pending_records: pl.DataFrame | None, layout: Layout) -> Records:
    """The records, completed by pending values: newer ones win, an empty cell that says nothing does not.

    Records only in `pending` (`etl.state.snapshots.accepted.owed`, with CAME unless an older version has written it)
    come behind the others, without a source row, with where they CAME from.
    """
    if pending_records is None or pending_records.is_empty():
        return records
    frame = records.frame
    kinds = frame.schema
    owed = _stated_values(pending_records, layout, kinds)
    clears = _clearing_columns(layout)
    kept = [name for name in owed.columns if name not in (KEY, ITEM, ORIGIN)]
    old = owed.select(KEY, *(pl.col(name).alias(INTERNAL + name) for name in kept))
    completed = frame.join(old, on=KEY, how="left", maintain_order="left").select(
        *(
            pl.when(_is_unstated(name, layout)).then(pl.coalesce(INTERNAL + name, name)).otherwise(name).alias(name)
            if name in kept and name not in clears
            else pl.col(name)
            for name in frame.columns
        ),
        no_origin(),
    )
    more = owed.join(frame.select(KEY), on=KEY, how="anti", maintain_order="left").select(
        *(
            pl.col(name) if name in owed.columns else pl.lit(None, dtype=kind).alias(name)
            for name, kind in kinds.items()
        ),
        ORIGIN,
    )
    return Records(pl.concat([completed, more]), records.row_numbers)


def _stated_values(pending_records: pl.DataFrame, layout: Layout, schema: pl.Schema) -> pl.DataFrame:
    """What is owed in the types that the mapping gives its fields now: KEY, ITEM, data columns, CAME.

    Values that nobody has said are empty. What Norce has stays where something else is told apart by it, where empty
    means to empty the field in Norce, and in lists and objects that go as a whole: left out of these is gone from them.
    """
    fixed = _clearing_columns(layout)
    for leaf in layout.leaves:
        if leaf.key or leaf.identifier or leaf.constant or layout.bundles[leaf.bundle].bit_count() > 1:
            fixed.add(leaf.column)
    columns = [name for name in schema if name not in (KEY, ITEM, ROW)]
    kept = [
        name
        for name in columns
        if name in pending_records.columns and _is_castable(pending_records, name, schema[name])
    ]
    values = {name: pl.col(name).cast(schema[name], strict=False) for name in kept}
    for name in kept:
        if STATED + name in pending_records.columns and name not in fixed:
            values[name] = pl.when(STATED + name).then(values[name]).alias(name)
    return pending_records.select(
        KEY, ITEM, *values.values(), ORIGIN if ORIGIN in pending_records.columns else no_origin()
    )


def _clearing_columns(layout: Layout) -> set[str]:
    return {leaf.column for leaf in layout.leaves if leaf.value.empty == "clear"}


def can_merge(layout: Layout) -> bool:
    """Whether records of such a feed may be left to a later file, because one record made of both is what the two in
    turn would have made.

    Not where a record is more than its fields: lists that grow by what is sent of them, products of several variants,
    values that count at its creation only. Nor where the first identifier given tells records apart: another file may
    give another one.
    """
    around = {place for leaf in layout.leaves if leaf.key for place in leaf.parents}
    for leaf in layout.leaves:
        named = leaf.identifier and not leaf.constant and not leaf.key and leaf.parent not in around
        if leaf.inner is not None or not leaf.value.own or named:
            return False
    return layout.operation.key.match == "all" and not layout.item_leaves


def must_flush_first(records: Records, pending_records: pl.DataFrame | None, layout: Layout) -> bool:
    """Whether what is owed has to be sent before the records, although both can wait (`can_wait`).

    So it is where an empty cell of a newer row would be filled with what then changes the meaning of the others, where
    a key is spelled in another case, and where both speak of one product under its code.
    """
    if pending_records is None or pending_records.is_empty():
        return False
    owed = _stated_values(pending_records, layout, records.frame.schema)
    folded = pl.col(KEY).str.to_lowercase().alias("folded")
    both = records.frame.with_columns(folded).join(
        owed.with_columns(folded), on="folded", how="inner", suffix=f"{INTERNAL}owed", maintain_order="left"
    )
    if both.filter(pl.col(KEY) != pl.col(KEY + f"{INTERNAL}owed")).height:
        return True
    clusters = [layout.by_path[path] for path in layout.operation.full_file.required_fields if path in layout.by_path]
    for name in [leaf.column for leaf in clusters if not leaf.key and leaf.column in owed.columns]:
        if records.frame.join(owed.select(name), on=name, how="semi").height:
            return True
    whole = any(bits.bit_count() > 1 for bits in layout.bundles.values())
    if not (whole or layout.overridden_by or layout.activates or layout.read_with):
        return False
    names = sorted({leaf.column for leaf in layout.leaves if not leaf.constant} & set(owed.columns))
    filled = (_is_unstated(name, layout) & pl.col(name + f"{INTERNAL}owed").is_not_null() for name in names)
    return both.filter(pl.any_horizontal(pl.lit(False), *filled)).height > 0


def _is_unstated(name: str, layout: Layout) -> pl.Expr:
    """Whether a cell of this column says nothing: it is empty, or a value that Connect would ignore."""
    leaves = [leaf for leaf in layout.leaves if leaf.column == name and leaf.inner is None]
    silent = pl.col(name).is_null()
    if any(leaf.field.null_effect == "ignored" for leaf in leaves):
        return silent | (pl.col(name) == 0)
    return silent


def _is_castable(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> bool:
    """Whether old values can be read in the type that the mapping gives the field now."""
    try:
        frame.select(pl.col(name).cast(dtype, strict=False))
    except pl.exceptions.PolarsError:
        return False
    return True
