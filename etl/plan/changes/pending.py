"""Merges the pending records of a feed with change files into the records of its next file. Pure.

A change file has each change only once. Therefore `etl.state.snapshots` keeps what Norce has not accepted of it, and
every run of the feed plans it again, until it is accepted or a newer file has another value. ORIGIN says which row of
which file brought a pending record.
"""

from __future__ import annotations

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import INTERNAL, ITEM, KEY, ORIGIN, ROW, STATED
from etl.model.schemas import no_origin
from etl.model.tables import Records


def merge_pending(records: Records, pending_records: pl.DataFrame | None, layout: Layout) -> Records:
    """Complete records with pending values; a value of the file replaces a pending one, an empty cell does not.

    Records that are only in `pending_records` follow the others, with their ORIGIN and without a source row.
    """
    if pending_records is None or pending_records.is_empty():
        return records
    frame = records.frame
    schema = frame.schema
    stated = _stated_values(pending_records, layout, schema)
    clearing = _clearing_columns(layout)
    names = [name for name in stated.columns if name not in (KEY, ITEM, ORIGIN)]
    pending_values = stated.select(KEY, *(pl.col(name).alias(INTERNAL + name) for name in names))
    completed = frame.join(pending_values, on=KEY, how="left", maintain_order="left").select(
        *(
            pl.when(_is_unstated(name, layout)).then(pl.coalesce(INTERNAL + name, name)).otherwise(name).alias(name)
            if name in names and name not in clearing
            else pl.col(name)
            for name in frame.columns
        ),
        no_origin(),
    )
    additional = stated.join(frame.select(KEY), on=KEY, how="anti", maintain_order="left").select(
        *(
            pl.col(name) if name in stated.columns else pl.lit(None, dtype=dtype).alias(name)
            for name, dtype in schema.items()
        ),
        ORIGIN,
    )
    return Records(pl.concat([completed, additional]), records.row_numbers)


def _stated_values(pending_records: pl.DataFrame, layout: Layout, schema: pl.Schema) -> pl.DataFrame:
    """Return pending records in the types that the mapping has now: KEY, ITEM, data columns, ORIGIN.

    Values that no change file has stated become empty. The accepted values stay in identifiers, in fields that an empty
    cell clears, and in lists and objects that are sent whole: a value left out of these is removed in Norce.
    """
    fixed = _clearing_columns(layout)
    for leaf in layout.leaves:
        if leaf.key or leaf.identifier or leaf.constant or layout.bundles[leaf.bundle].bit_count() > 1:
            fixed.add(leaf.column)
    columns = [name for name in schema if name not in (KEY, ITEM, ROW)]
    castable = [
        name
        for name in columns
        if name in pending_records.columns and _is_castable(pending_records, name, schema[name])
    ]
    values = {name: pl.col(name).cast(schema[name], strict=False) for name in castable}
    for name in castable:
        if STATED + name in pending_records.columns and name not in fixed:
            values[name] = pl.when(STATED + name).then(values[name]).alias(name)
    return pending_records.select(
        KEY, ITEM, *values.values(), ORIGIN if ORIGIN in pending_records.columns else no_origin()
    )


def _clearing_columns(layout: Layout) -> set[str]:
    return {leaf.column for leaf in layout.leaves if leaf.value.empty == "clear"}


def can_merge(layout: Layout) -> bool:
    """Whether records may be deferred to a later file: sending both merged equals sending one by one.

    That is not so for lists that Connect merges, products with several variants, and values that only new records send;
    nor where the first identifier with a value is the key, because another file may have another identifier.
    """
    key_places = {place for leaf in layout.leaves if leaf.key for place in leaf.parents}
    for leaf in layout.leaves:
        identifies_element = leaf.identifier and not leaf.constant and not leaf.key and leaf.parent not in key_places
        if leaf.inner is not None or not leaf.value.own or identifies_element:
            return False
    return layout.operation.key.match == "all" and not layout.item_leaves


def must_flush_first(records: Records, pending_records: pl.DataFrame | None, layout: Layout) -> bool:
    """Whether pending records must be sent before the records, although overlapping can be merged (`can_merge`).

    They must where a pending value would fill an empty cell of a newer row and change the meaning of its other values,
    where a key differs only in case, and where both have variants of one product.
    """
    if pending_records is None or pending_records.is_empty():
        return False
    stated = _stated_values(pending_records, layout, records.frame.schema)
    folded = pl.col(KEY).str.to_lowercase().alias("folded")
    overlapping = records.frame.with_columns(folded).join(
        stated.with_columns(folded), on="folded", how="inner", suffix=f"{INTERNAL}pending", maintain_order="left"
    )
    if overlapping.filter(pl.col(KEY) != pl.col(KEY + f"{INTERNAL}pending")).height:
        return True
    clusters = [layout.by_path[path] for path in layout.operation.full_file.required_fields if path in layout.by_path]
    for name in [leaf.column for leaf in clusters if not leaf.key and leaf.column in stated.columns]:
        if records.frame.join(stated.select(name), on=name, how="semi").height:
            return True
    has_bundles = any(bits.bit_count() > 1 for bits in layout.bundles.values())
    if not (has_bundles or layout.overridden_by or layout.activates or layout.read_with):
        return False
    names = sorted({leaf.column for leaf in layout.leaves if not leaf.constant} & set(stated.columns))
    filled = (_is_unstated(name, layout) & pl.col(name + f"{INTERNAL}pending").is_not_null() for name in names)
    return overlapping.filter(pl.any_horizontal(pl.lit(False), *filled)).height > 0


def _is_unstated(name: str, layout: Layout) -> pl.Expr:
    """Whether a cell of this column states no value: it is empty, or Connect would ignore its value."""
    leaves = [leaf for leaf in layout.leaves if leaf.column == name and leaf.inner is None]
    is_empty = pl.col(name).is_null()
    if any(leaf.field.null_effect == "ignored" for leaf in leaves):
        return is_empty | (pl.col(name) == 0)
    return is_empty


def _is_castable(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> bool:
    """Whether a column can be cast to the type that the mapping has now."""
    try:
        frame.select(pl.col(name).cast(dtype, strict=False))
    except pl.exceptions.PolarsError:
        return False
    return True
