"""Sent records laid over accepted ones."""

from __future__ import annotations

import polars as pl

from etl.model.columns import DEACTIVATED, INTERNAL, ITEM, KEY, PARTIAL
from etl.state.snapshots.sent_records import SentColumns

#: Columns that the accepted records of every feed have.
MINIMAL_SCHEMA = {KEY: pl.String(), ITEM: pl.String(), DEACTIVATED: pl.Boolean()}


def overlay_records(base: pl.LazyFrame | None, sent_rows: pl.DataFrame) -> pl.LazyFrame:
    """Return the records of `base` with the sent values in place of the old ones, then the new records.

    Without a base the sent records are all there are.
    """
    if base is None:
        return _overlay_as_base(sent_rows)
    if sent_rows.is_empty():
        return base
    base, sent_rows = align_partial(base, sent_rows)
    sent_rows = one_row_per_key(sent_rows)
    base = align_types(base, sent_rows)
    sent_columns = SentColumns.of(sent_rows)
    overlay = _prefix_columns(sent_rows, sent_columns)
    joined = append_new(base.join(overlay.lazy(), on=KEY, how="left", maintain_order="left"), base, overlay)
    return merge_rows(joined, base.collect_schema(), sent_columns)


def align_partial(base: pl.LazyFrame, sent_rows: pl.DataFrame) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Give both sides the column PARTIAL when one of them has it."""
    base_has, sent_has = PARTIAL in base.collect_schema(), PARTIAL in sent_rows.columns
    if base_has and not sent_has:
        sent_rows = sent_rows.with_columns(pl.lit(False).alias(PARTIAL))
    if sent_has and not base_has:
        base = base.with_columns(pl.lit(False).alias(PARTIAL))
    return base, sent_rows


def align_types(base: pl.LazyFrame, sent_rows: pl.DataFrame) -> pl.LazyFrame:
    """Cast the columns of the base to the types that the mapping has given the fields since."""
    schema = base.collect_schema()
    return base.with_columns(
        _cast_column(name, schema[name], sent_rows.schema[name])
        for name in SentColumns.of(sent_rows).names
        if name in schema and schema[name] != sent_rows.schema[name]
    )


def append_new(joined: pl.LazyFrame, base: pl.LazyFrame, overlay: pl.DataFrame) -> pl.LazyFrame:
    """Append the records of the overlay whose keys the base lacks, with nulls in the columns of the base."""
    present = base.select(KEY).filter(pl.col(KEY).is_in(overlay[KEY].implode())).collect(engine="streaming")
    new = overlay.join(present, on=KEY, how="anti", maintain_order="left").lazy()
    new = new.with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in base.collect_schema().items() if name != KEY
    )
    return pl.concat([joined, new.select(joined.collect_schema().names())])


def merge_rows(joined: pl.LazyFrame, base_schema: pl.Schema, sent_columns: SentColumns) -> pl.LazyFrame:
    """Select from each joined row the sent value where the record states it, else the value of the base."""
    names = (name for name in base_schema if name not in (KEY, ITEM, DEACTIVATED, PARTIAL))
    values = []
    for name in dict.fromkeys([*names, *sent_columns.names]):
        before = pl.col(name) if name in base_schema else pl.lit(None)
        if name in sent_columns.names:
            is_stated = sent_columns.states(name).fill_null(False)
            before = pl.when(is_stated).then(pl.col(INTERNAL + name)).otherwise(before).alias(name)
        values.append(before)
    marks = [PARTIAL] if PARTIAL in base_schema else []
    return joined.select(
        KEY,
        pl.coalesce(INTERNAL + ITEM, ITEM).alias(ITEM),
        pl.coalesce(INTERNAL + DEACTIVATED, DEACTIVATED).alias(DEACTIVATED),
        *(pl.coalesce(INTERNAL + mark, mark).fill_null(False).alias(mark) for mark in marks),
        *values,
    )


def one_row_per_key(sent_rows: pl.DataFrame) -> pl.DataFrame:
    """Unite the rows of a record that was sent in several passes; later values replace earlier ones."""
    if sent_rows[KEY].n_unique() == sent_rows.height:
        return sent_rows
    sent_columns = SentColumns.of(sent_rows)
    return sent_rows.group_by(KEY, maintain_order=True).agg(
        pl.col(ITEM).last(),
        pl.col(DEACTIVATED).last(),
        *(pl.col(mark).any() for mark in sent_rows.columns if mark == PARTIAL),
        *(pl.col(name).filter(sent_columns.states(name)).last() for name in sent_columns.names),
        *(pl.col(word).bitwise_or() for word in sent_columns.words),
    )


def _overlay_as_base(sent_rows: pl.DataFrame) -> pl.LazyFrame:
    """Return the sent values themselves, without a join."""
    if sent_rows.is_empty():
        return pl.LazyFrame(schema=MINIMAL_SCHEMA)
    sent_columns = SentColumns.of(sent_rows)
    values = [pl.when(sent_columns.states(name)).then(pl.col(name)).alias(name) for name in sent_columns.names]
    return one_row_per_key(sent_rows).lazy().select(KEY, ITEM, DEACTIVATED, *values)


def _prefix_columns(sent_rows: pl.DataFrame, sent_columns: SentColumns) -> pl.DataFrame:
    """Prefix the columns that the base has too, for a join with it."""
    shared = [ITEM, DEACTIVATED, *([PARTIAL] if PARTIAL in sent_rows.columns else [])]
    return sent_rows.select(
        KEY,
        *(pl.col(name).alias(INTERNAL + name) for name in shared),
        *sent_columns.words,
        *(pl.col(name).alias(INTERNAL + name) for name in sent_columns.names),
    )


def _cast_column(name: str, old_dtype: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """Cast the old values; a value that does not fit becomes null, as unknown."""
    try:
        pl.Series([None], dtype=old_dtype).cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        return pl.lit(None, dtype=dtype).alias(name)
    return pl.col(name).cast(dtype, strict=False)
