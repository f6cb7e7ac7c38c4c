"""Decides which accepted records a file no longer contains. Nothing else does."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import DEACTIVATED, KEY
from etl.model.tables import Records


@dataclass(frozen=True, slots=True)
class MissingRecords:
    """Active accepted records that a file lacks, and whether they are deactivated for that."""

    frame: pl.DataFrame
    deactivated: bool


def select_active(accepted_records: pl.DataFrame) -> pl.DataFrame:
    """Select the accepted records that are not deactivated."""
    return with_deactivated_column(accepted_records).filter(~pl.col(DEACTIVATED))


def find_missing(
    records: Records,
    accepted_records: pl.DataFrame,
    layout: Layout | None = None,
    keys_of_rejected_rows: pl.Series | None = None,
) -> pl.DataFrame:
    """Find the active accepted records that the file lacks.

    `keys_of_rejected_rows` holds leading key values: their records are in the file, although their rows are rejected.
    """
    missing = select_active(accepted_records).join(records.frame.select(KEY), on=KEY, how="anti", maintain_order="left")
    lead = layout.leading_key if layout is not None else None
    if keys_of_rejected_rows is None or lead is None or lead.column not in missing.columns or lead.inner is not None:
        return missing
    is_rejected = pl.col(lead.column).cast(pl.String).is_in(keys_of_rejected_rows.implode()).fill_null(False)
    return missing.filter(~is_rejected)


def with_deactivated_column(accepted_records: pl.DataFrame) -> pl.DataFrame:
    """Add the column DEACTIVATED where it is missing: then no record is deactivated."""
    if DEACTIVATED in accepted_records.columns:
        return accepted_records
    return accepted_records.with_columns(pl.lit(False).alias(DEACTIVATED))
