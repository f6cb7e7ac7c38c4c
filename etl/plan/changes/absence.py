"""Which accepted records a file no longer contains."""

from __future__ import annotations

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import DEACTIVATED, KEY
from etl.model.tables import Records


def find_missing(
    records: Records,
    accepted_records: pl.DataFrame,
    layout: Layout | None = None,
    keys_of_rejected_rows: pl.Series | None = None,
) -> pl.DataFrame:
    """Accepted records, not switched off, that the file no longer has.

    `mentioned`: leading key values of rejected rows; what they are about is in the file, if not in good shape.
    """
    alive = _ensure_deactivated_column(accepted_records).filter(~pl.col(DEACTIVATED))
    left = alive.join(records.frame.select(KEY), on=KEY, how="anti", maintain_order="left")
    lead = layout.leading_key if layout is not None else None
    if keys_of_rejected_rows is None or lead is None or lead.column not in left.columns or lead.inner is not None:
        return left
    return left.filter(~pl.col(lead.column).cast(pl.String).is_in(keys_of_rejected_rows.implode()).fill_null(False))


def _ensure_deactivated_column(accepted_records: pl.DataFrame) -> pl.DataFrame:
    return (
        accepted_records
        if DEACTIVATED in accepted_records.columns
        else accepted_records.with_columns(pl.lit(False).alias(DEACTIVATED))
    )
