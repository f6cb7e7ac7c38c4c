"""Which accepted records a file no longer contains."""

from __future__ import annotations

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import GONE, KEY
from etl.model.tables import Records


def missing(
    records: Records, accepted: pl.DataFrame, layout: Layout | None = None, mentioned: pl.Series | None = None
) -> pl.DataFrame:
    """Accepted records, not switched off, that the file no longer has.

    `mentioned`: leading key values of rejected rows; what they are about is in the file, if not in good shape.
    """
    alive = _with_gone(accepted).filter(~pl.col(GONE))
    left = alive.join(records.frame.select(KEY), on=KEY, how="anti", maintain_order="left")
    lead = layout.lead if layout is not None else None
    if mentioned is None or lead is None or lead.column not in left.columns or lead.inner is not None:
        return left
    return left.filter(~pl.col(lead.column).cast(pl.String).is_in(mentioned.implode()).fill_null(False))


def _with_gone(accepted: pl.DataFrame) -> pl.DataFrame:
    return accepted if GONE in accepted.columns else accepted.with_columns(pl.lit(False).alias(GONE))
